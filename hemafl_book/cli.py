"""The command ``hemafl``.

What a command needs it imports itself: PyTorch and Flower take seconds to load, and help needs neither.

Budget: 580 lines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from typer.core import TyperGroup

from hemafl_book.cli_federation import federation_app, hospital_app
from hemafl_lib.errors import HemaflError

if TYPE_CHECKING:
    from hemafl_lib.clinic import SavedModel
    from hemafl_lib.clinic.pictures import Bad


class OneSentence(TyperGroup):
    """A command group that ends with the error's sentence and exit code 1, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; turn every `HemaflError` into its sentence, and what the system does not allow."""
        try:
            return super().invoke(ctx)
        except HemaflError as error:
            sentence = str(error)
        except BrokenPipeError:  # whoever read the output has had enough of it
            raise
        except OSError as error:
            sentence = (
                f"{error.filename or 'the output'} cannot be used ({error.strerror or error}); give another."
            )
        typer.echo(f"hemafl: {sentence}", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    name="hemafl",
    help="Federated learning in haematology.",
    cls=OneSentence,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a traceback shows no patient
)
data_app = typer.Typer(help="Look at cohorts, fetch them, check them.", no_args_is_help=True)
results_app = typer.Typer(
    help="Look at the book's frozen results, confirm them, make them.", no_args_is_help=True
)
clinic_app = typer.Typer(help="Make the small models that come with the book.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(results_app, name="results")
app.add_typer(clinic_app, name="clinic")
app.add_typer(federation_app, name="federation")
app.add_typer(hospital_app, name="hospital")

EXTRAS = {"captum": "explain", "dp_accounting": "privacy", "opacus": "privacy"}
"""Packages that some names of a registry need, and the extra of pyproject.toml that brings each."""

Name = Annotated[str, typer.Argument(help="Name of a cohort, as 'hemafl data list' shows it.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder that holds the public layouts; by default HEMAFL_DATA says which.")
]
Folder = Annotated[Path, typer.Argument(help="Folder of the frozen results.")]
RESULTS = Path("book/results")
Out = Annotated[Path, typer.Option("--out", help="JSON file for the numbers; its folder is made if need be.")]


@app.callback()
def main() -> None:
    """Federated learning in haematology: re-run, question and extend four papers."""


@data_app.command("list")
def list_cohorts(root: Root = None) -> None:
    """List every cohort of images and every table, and say which can be loaded now."""
    from hemafl_lib import data
    from hemafl_lib.data.cards import BUILT_IN

    here = set(data.available(root))
    for kind in ("images", "tables"):
        table = data.catalogue(kind).rename_axis(None)
        table.insert(0, "here", ["yes" if name in here else "-" for name in table.index])
        table["fetch"] = ["yes" if fetch else "by hand" for fetch in table["fetch"]]
        table.loc[table.index.isin(BUILT_IN), "fetch"] = "built in"
        typer.echo(table.drop(columns="licence").to_string())


@data_app.command("card")
def show_card(name: Name) -> None:
    """Print a cohort's data card."""
    from hemafl_lib import data

    typer.echo(data.card(name).text())


@data_app.command("fetch")
def fetch(
    name: Name,
    root: Root = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum that the file must have.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Accept a file without a known checksum.")] = False,
) -> None:
    """Download a cohort that needs no account; a download that was cut goes on where it stopped."""
    from hemafl_lib import data

    fetched = data.fetch(name, root, sha256=sha256, trust=trust, progress=True)
    typer.echo(f"{name} is in {fetched.folder}; licence: {data.card(name).licence}.")
    typer.echo(f"SHA-256 of the download: {fetched.sha256}")


@data_app.command("check")
def check(
    path: Annotated[
        Path, typer.Argument(help="A folder in a public layout, the parent of several, or your own data.")
    ],
    mapping: Annotated[
        Path | None, typer.Option(help="Mapping file that says what your own columns and folders are.")
    ] = None,
) -> None:
    """Say what a folder holds; exit code 1 unless every file of it is used as it lies.

    With a mapping, every problem is named with its row or file, and what will leave the hospital.
    """
    from hemafl_lib import data
    from hemafl_lib.data import own

    own_mapping = None if mapping is None else own.read_mapping(mapping)
    reports = data.check(path) if own_mapping is None else own.check_own(path, own_mapping)
    typer.echo("\n".join(report.text() for report in reports))
    if own_mapping is not None:
        typer.echo("\nWhat will leave the hospital:")
        typer.echo("\n".join(f"- {sentence}" for sentence in own.leaving(own_mapping)))
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@data_app.command("mapping")
def draft_mapping(
    folder: Annotated[Path, typer.Argument(help="Folder of your own table, class folders, or both.")],
    out: Annotated[
        Path | None, typer.Option(help="File for the draft, which must be new; by default it is printed.")
    ] = None,
) -> None:
    """Write a first draft of a mapping file by looking at a folder; a person then reads and completes it."""
    from hemafl_lib.data import own
    from hemafl_lib.files import check_target, write_text

    if out is not None and out.exists():
        raise HemaflError(f"{out} is there already; name a new file for the draft.")
    if out is not None:
        check_target(out)
    draft = own.draft_mapping(folder)
    if out is None:
        typer.echo(draft, nl=False)
        return
    write_text(out, draft)
    typer.echo(
        f"{out} holds the draft; fill in each '?', then run: hemafl data check {folder} --mapping {out}"
    )


@data_app.command("clear")
def clear() -> None:
    """Delete the decoded images that were kept to load faster."""
    from hemafl_lib.data import cache

    typer.echo(f"{cache.clear()} holds no images any more.")


@app.command("list")
def list_names() -> None:
    """List what the other commands know by name: papers, models, aggregators and so on."""
    for kind, names in registries().items():
        typer.echo(f"{kind}:")
        for name, about in names.items():
            typer.echo(f"  {name:24}{about}".rstrip())


def registries() -> dict[str, dict[str, str]]:
    """Return what there is of each kind: a few words about it, by its name."""
    from hemafl_book import explorers, papers
    from hemafl_lib.aggregation import AGGREGATORS
    from hemafl_lib.data.cards import CARDS
    from hemafl_lib.federation.engines import ENGINES
    from hemafl_lib.models import MODELS
    from hemafl_lib.partition import SCHEMES

    return {
        "papers": {
            name: find_words(lambda name: papers.find(name).OFFER.title, name) for name in papers.PAPERS
        },
        "models": {name: f"reads {model.reads}" for name, model in MODELS.items()},
        "aggregators": {name: first_sentence(kind) for name, kind in AGGREGATORS.items()},
        "schemes": {name: first_sentence(scheme.cut) for name, scheme in SCHEMES.items()},
        "engines": {name: first_sentence(engine) for name, engine in ENGINES.items()},
        "methods": list_methods(),
        "explorers": {
            name: find_words(lambda name: explorers.find(name).title, name) for name in explorers.EXPLORERS
        },
        "cohorts": {name: card.title for name, card in CARDS.items()},
    }


def list_methods() -> dict[str, str]:
    """Return the saliency methods; if Captum is missing, what to install in the place of their names."""
    try:
        from hemafl_lib.explain import ALL_METHODS
    except ModuleNotFoundError as error:
        return {"-": name_extra(error)}
    return {name: first_sentence(method) for name, method in ALL_METHODS.items()}


def find_words(find: Callable[[str], str], name: str) -> str:
    """Return the words that ``find`` gives for a name, or what to install before they can be found."""
    try:
        return find(name)
    except ModuleNotFoundError as error:
        return name_extra(error)


def name_extra(error: ModuleNotFoundError) -> str:
    """Return which extra brings a missing package; raise ``error`` if none does."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    return f"needs pip install 'hemafl_lib[{EXTRAS[package]}]'"


def first_sentence(thing: object) -> str:
    """Return the first line of the docstring of a class or function."""
    return (thing.__doc__ or "").strip().partition("\n")[0]


@app.command("run")
def run(
    paper: Annotated[str, typer.Argument(help="Name of a paper, for example 'blood-morphology'.")],
    preset: Annotated[str, typer.Option(help="'quick' takes minutes, 'paper' the full protocol.")] = "quick",
    aggregator: Annotated[
        str | None, typer.Option(help="It takes FedAvg's place, and other aggregators' arms go.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--network", help="Network of the main comparisons.")
    ] = None,
    clients: Annotated[int | None, typer.Option(help="Deal the training rows to so many clients.")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Dirichlet parameter of the clients' classes; small is uneven.")
    ] = None,
    scheme: Annotated[str | None, typer.Option(help="How the training rows become clients.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of training.")] = None,
    local_epochs: Annotated[int | None, typer.Option(help="Passes over a client's rows in a round.")] = None,
    data_name: Annotated[
        str | None,
        typer.Option("--data", help="Name of the cohort to train on ('hemafl data list'); 'smear' is drawn."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="One seed instead of the preset's.")] = None,
    study: Annotated[
        list[str] | None, typer.Option(help="This study only, such as 'group-norm'; may be given again.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Threads of this process, Flower on Ray, or Flower over TLS.")
    ] = "local",
    device: Annotated[
        str | None,
        typer.Option(help="'cpu', 'cuda' or 'auto'; by default as HEMAFL_DEVICE says, else 'auto'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file for all tables; its folder is made if need be.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder for what is finished: after an interruption the same command goes on."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder for the models of each arm, trained with the first seed.")
    ] = None,
    root: Root = None,
) -> None:
    """Run a paper's experiment, as the paper says or with changes, which the result then names.

    It runs on real data where there is a folder of them, and else on what needs no files. 'hemafl list' shows
    all names; an unknown one is answered with those that are known. The file of another protocol's result is
    never replaced.
    """
    from hemafl_book.papers import running
    from hemafl_book.papers.changes import Changes
    from hemafl_book.papers.where import Where
    from hemafl_lib import data

    changes = Changes(
        aggregator=aggregator,
        model=model,
        clients=clients,
        alpha=alpha,
        scheme=scheme,
        rounds=rounds,
        local_epochs=local_epochs,
        data=data_name,
        seed=seed,
        study=tuple(study) if study else None,
    )
    where = Where(root=data.known_root(root), engine=engine, device=device, checkpoint=checkpoint)
    if save is None:
        running.run_and_report(paper, preset, changes, where, out=out, say=typer.echo)
        return
    from hemafl_book.clinic.trained import Keeper

    keeper = Keeper(paper, save)
    running.run_and_report(paper, preset, changes, where, out=out, say=typer.echo, around=keeper.watching)
    keeper.save(typer.echo)


@app.command("hospitals")
def run_hospitals(
    superlink: Annotated[str, typer.Argument(help="The server's name in Flower's config.toml.")],
    run_config: Annotated[
        str, typer.Option(help="Settings other than the app's own, for example 'rounds=3 size=32'.")
    ] = "",
    folder: Annotated[Path, typer.Option("--app", help="Folder of the app's settings.")] = Path("hospitals"),
) -> None:
    """Train over hospitals as 'flwr run --stream' does, and end with exit code 1 if the run failed."""
    from hemafl_book.hospitals import run_and_follow

    run_and_follow(folder, superlink, run_config, typer.echo)


ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a saved model.")]
Pictures = Annotated[list[Path], typer.Argument(metavar="FILES", help="Pictures, or folders of pictures.")]
MODELS_FOLDER = Path("book/clinic/models")


def saved_in(folder: Path) -> SavedModel:
    """Load a saved model; of a folder that holds several, say which they are."""
    from hemafl_lib import clinic

    within = sorted(card.parent for card in folder.glob("*/card.json"))
    if within and not (folder / "card.json").exists():
        raise HemaflError(f"{folder} holds {len(within)} models; name one: {', '.join(map(str, within))}.")
    return clinic.load(folder)


@app.command("predict")
def predict_pictures(
    model: ModelFolder,
    files: Pictures,
    out: Annotated[
        Path | None, typer.Option(help="CSV file for the answers; by default they are printed.")
    ] = None,
) -> None:
    """Say what a saved model answers to pictures: class, probabilities, what cannot be ruled out, a warning.

    A file that cannot be read gets one sentence; the exit code is 1 if none can. Not a medical device.
    """
    from hemafl_lib import clinic
    from hemafl_lib.clinic.tables import OUT_OF_SCOPE
    from hemafl_lib.files import check_target, write_text

    if out is not None:
        check_target(out)
    saved = saved_in(model)
    found, warnings = clinic.predict(saved, files), clinic.warnings_of(saved)
    answers, warning = clinic.as_csv(found.table, warnings), " ".join(warnings)
    silent = int(found.table["scope"].str.startswith(OUT_OF_SCOPE).sum())
    if silent > 0:
        warning = (
            f"Of {len(found.table)} pictures {silent} get no answer, being unlike those it knows. {warning}"
        )
    if out is None:
        typer.echo(answers, nl=False)
        typer.echo(warning, err=True)
    else:
        write_text(out, answers, rescue=True)
        typer.echo(f"The table is {out}, a row a picture: {len(found.table)}. {warning}")
    name_bad_files(found.bad)
    if found.table.empty:
        raise typer.Exit(1)


@app.command("explain")
def explain_pictures(
    model: ModelFolder,
    files: Pictures,
    out: Annotated[
        Path, typer.Option(help="Folder for the report, its pictures and table; made if need be.")
    ] = Path("explained"),
    method: Annotated[str, typer.Option(help="A saliency method, as 'hemafl list' shows them.")] = "grad_cam",
    target: Annotated[
        str | None, typer.Option(help="Class whose score is explained; by default the answer's.")
    ] = None,
) -> None:
    """Show where a saved model looked in pictures: overlays, a table, and a report that needs no network.

    A file that cannot be read gets one sentence; the exit code is 1 if none can. Not a medical device.
    """
    from hemafl_lib import clinic

    saved = saved_in(model)
    bad = clinic.explain(saved, files, out, method=method, target=target)
    typer.echo(f"The report is {out / 'report.html'}. {' '.join(clinic.warnings_of(saved))}")
    name_bad_files(bad)


def name_bad_files(bad: Sequence[Bad]) -> None:
    """Say what is wrong with each file that could not be read."""
    for each in bad:
        typer.echo(f"hemafl: {each.sentence}", err=True)


@app.command("export")
def export_model(
    model: ModelFolder,
    to: Annotated[str, typer.Option(help="'page' for the standalone page, or 'onnx'.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; its folder is made if need be. By default MODEL.json or MODEL.onnx, here."
        ),
    ] = None,
) -> None:
    """Write a saved model as one file, for the standalone page or for another program."""
    from hemafl_lib import clinic

    saved = saved_in(model)
    path = out or Path(f"{model.resolve().name}.{'onnx' if to == 'onnx' else 'json'}")
    clinic.export(saved, to, path)
    then = " Drop it on the page for your own cells, clinic.html of the built book." if to == "page" else ""
    typer.echo(f"{path} holds the model.{then}")


@clinic_app.command("models")
def make_models(
    families: Annotated[
        list[str] | None, typer.Argument(help="Names of families, such as 'white-cells'; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the models.")] = MODELS_FOLDER,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder for what is trained, so that it is not trained again.")
    ] = None,
    root: Root = None,
) -> None:
    """Train the models that come with the book, measure them, and write them with their cards."""
    from hemafl_book.clinic import FAMILIES, make
    from hemafl_lib import data

    for family in families or FAMILIES:
        make.make(family, out, checkpoint, data.known_root(root), typer.echo)


@app.command("sweep")
def sweep(
    explorer: Annotated[str, typer.Argument(help="Name of an explorer, for example 'blood-morphology'.")],
    out: Out,
) -> None:
    """Compute what an explorer shows in the built page, for every setting of its sliders."""
    from hemafl_book import explorers

    explorers.record(explorer, out, typer.echo)


@results_app.command("status")
def show_status(
    folder: Folder = RESULTS,
    studies: Annotated[bool, typer.Option("--studies", help="One row a study.")] = False,
    root: Root = None,
) -> None:
    """Say of each frozen result whether it is fresh, and else why not; exit code 1 unless all are."""
    from hemafl_book.frozen import status, subjects
    from hemafl_lib import data

    found = status.all_statuses(subjects.find([]), folder, data.known_root(root))
    typer.echo((status.study_table(found) if studies else status.table(found)).to_string(na_rep="-"))
    if any(one.state != "fresh" for one in found):
        raise typer.Exit(1)


@results_app.command("confirm")
def confirm_results(
    names: Annotated[list[str], typer.Argument(help="Names of results, as 'status' shows them.")],
    folder: Annotated[Path, typer.Option(help="Folder of the frozen results.")] = RESULTS,
    study: Annotated[list[str] | None, typer.Option(help="Title of a study; all by default.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="How far two numbers may be apart; by default not a stored digit.")
    ] = None,
    root: Root = None,
) -> None:
    """Compute one seed of each study again; where it gives the frozen numbers, the result says so."""
    from hemafl_book.frozen import confirm, subjects
    from hemafl_book.papers.where import Where
    from hemafl_lib import data

    for subject in subjects.find(names):
        confirm.confirm(
            subject,
            folder,
            Where(root=data.known_root(root)),
            typer.echo,
            studies=study or (),
            tolerance=confirm.TOLERANCE if tolerance is None else tolerance,
        )


@results_app.command("make")
def make_results(
    folder: Folder = RESULTS,
    everything: Annotated[bool, typer.Option("--all", help="Fresh ones too.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many at a time, each on one core; by default all cores.")
    ] = None,
    root: Root = None,
) -> None:
    """Compute the stale results of papers and explorers; after an interruption the same command goes on."""
    from hemafl_book.frozen import make, subjects
    from hemafl_book.papers.where import Where
    from hemafl_lib import data
    from hemafl_lib.parallel import cores

    where = Where(root=data.data_root(root))
    at_a_time = jobs or cores()
    with make.processes(at_a_time) as pool:
        failed = make.make(
            subjects.find([]), folder, where, typer.echo, pool, everything=everything, at_a_time=at_a_time
        )
    if failed:
        raise HemaflError(f"not computed: {', '.join(failed)}; read above why, and give the command again.")


@app.command("claims")
def judge_claims(
    chapter: Annotated[
        str | None, typer.Argument(help="Name of a chapter, for example 'blood-morphology'; all by default.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder that `hemafl results make` filled; the book's by default."),
    ] = None,
) -> None:
    """Compute the verdict on every claim of the papers again, from frozen results; the book's by default.

    Where another kind of processor would decide otherwise, the line says so. With a chapter, say of each
    claim what was found, in which tables, and by which rule, with its source.
    """
    from hemafl_book.papers import claims

    place = folder or claims.FOLDER
    frozen, other = claims.read_frozen(place), claims.read_other(place)
    if chapter is None:
        for one in claims.judge_all(frozen, other=other):
            typer.echo(f"{one.verdict:16}{one.claim.says} {one.numbers()} {one.differs()}".rstrip())
        return
    found = claims.judge_all(frozen, [chapter], other)
    typer.echo("\n\n".join(one.page() for one in found))
    for text in dict.fromkeys(claims.source(one.claim) for one in found):
        typer.echo(f"\n{text}")


@app.command(
    "bench",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def bench(context: typer.Context) -> None:
    """Time the engines, many clients, and the frozen layers: `hemafl bench engines --out FILE`."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / "benchmarks" / "__main__.py").is_file():
        raise HemaflError(
            "the benches are not installed with the package; run them from a checkout of the book."
        )
    sys.path.insert(0, str(checkout))
    from benchmarks.__main__ import main as run_bench

    run_bench(context.args)
