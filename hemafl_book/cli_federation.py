"""The commands ``hemafl federation`` and ``hemafl hospital``: a federation of real hospitals.

Budget: 120 lines.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

federation_app = typer.Typer(help="Make a federation of hospitals, serve it, train.", no_args_is_help=True)
hospital_app = typer.Typer(help="Take part in a federation as a hospital.", no_args_is_help=True)

Name = Annotated[Path, typer.Argument(metavar="NAME", help="The federation's folder.")]
ADDRESS = "localhost:9092"


@federation_app.command("init")
def init(
    name: Name,
    hospitals: Annotated[str, typer.Option(help="Names of the hospitals, with commas: north,south.")],
    address: Annotated[str, typer.Option(help="HOST:PORT by which hospitals reach the server.")] = ADDRESS,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure",
            help="Of updates and statistics the server sees sums only; needs three hospitals or more.",
        ),
    ] = False,
) -> None:
    """Make the keys and the list of who may take part, and a bundle for each hospital."""
    from hemafl_lib.hospitals import create  # loads PyTorch and Flower, as below

    bundles = create(name, [each.strip() for each in hospitals.split(",")], address, secure=secure)
    for bundle in bundles:
        typer.echo(f"{bundle}: give it to {bundle.stem}, as you would a key, and delete it here")
    typer.echo(f"{name} holds the federation; start its server: hemafl federation serve {name}")


@federation_app.command("serve")
def serve_federation(
    name: Name,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address of this machine to listen on; by default 127.0.0.1 for localhost, else all."
        ),
    ] = None,
) -> None:
    """Run the server until Ctrl-C, and say which hospital comes and goes."""
    from hemafl_lib.hospitals import open_federation, serve

    federation = open_federation(name)
    local = federation.address.rpartition(":")[0] in ("localhost", "127.0.0.1")
    until_interrupted(lambda: serve(federation, host or ("127.0.0.1" if local else "0.0.0.0"), say))


@federation_app.command("run")
def run_federation(
    name: Name,
    app: Annotated[str, typer.Option(help="images, deepsurv, logistic, cox or kaplan-meier.")],
    config: Annotated[Path | None, typer.Option(help="TOML file of the app's settings.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the outcome; by default a new one in NAME/runs.")
    ] = None,
) -> None:
    """Train or compute over all hospitals, with a line for each and round; the last names the outcome."""
    from hemafl_book.hospitals import run_app
    from hemafl_lib.hospitals import open_federation

    folder = run_app(open_federation(name), app, config, out, say)
    if app == "images":
        typer.echo(f"Ask it about pictures: hemafl predict {folder} FILES")
    typer.echo(f"The outcome, its card and report.html lie in {folder}")


@hospital_app.command("join")
def join_federation(
    bundle: Annotated[Path, typer.Argument(help="The hospital's bundle, from the coordinator.")],
    data: Annotated[Path, typer.Option(help="Folder of the hospital's own table or images.")],
    mapping: Annotated[
        Path | None, typer.Option(help="The mapping file; by default mapping.toml in the data folder.")
    ] = None,
) -> None:
    """Take part with the hospital's own data until Ctrl-C; nothing that was decoded stays behind."""
    from hemafl_lib.hospitals import join

    until_interrupted(lambda: join(bundle, data, mapping, say))


def say(line: str) -> None:
    """Show a line at once, wherever the output goes."""
    typer.echo(line)


def until_interrupted(program: Callable[[], object]) -> None:
    """Run what goes on until Ctrl-C, or until a service manager ends it."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        program()
    except KeyboardInterrupt:
        typer.echo("Ended.")


def interrupt(number: int, frame: object) -> None:
    """Do for another signal what Ctrl-C does."""
    raise KeyboardInterrupt
