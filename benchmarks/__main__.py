"""The command ``python -m benchmarks`` and ``hemafl bench``: every setting of a bench is an option."""

import argparse
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from pathlib import Path

import pandas as pd

from benchmarks import commands, engines, maps, nodes, prefix, scale, wires
from benchmarks.timing import Report
from hemafl_lib.errors import DataError
from hemafl_lib.files import check_target, read_json, write_json

BENCHES: dict[str, Callable[..., Report]] = {
    "engines": engines.measure,
    "scale": scale.measure,
    "prefix": prefix.measure,
    "wires": wires.measure,
    "maps": maps.measure,
    "commands": commands.measure,
    "nodes": nodes.measure,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench that the arguments name, write its report as JSON and print its tables."""
    chosen = vars(make_parser().parse_args(arguments))
    measure, out = BENCHES[chosen.pop("bench")], chosen.pop("out")
    check_place(out)
    report = measure(**chosen)
    write_json(out, report, rescue=True)
    print(as_text(report), f"The numbers are in {out}.", sep="\n\n")


def check_place(out: Path) -> None:
    """Raise `DataError` if ``out`` cannot be written, or is a file that is no report of a bench."""
    check_target(out)
    if out.exists() and not is_report(out):
        raise DataError(f"{out} is there and holds no report of a bench; name another file, or remove it.")


def is_report(file: Path) -> bool:
    """Return whether a file is a report of a bench."""
    try:
        held = read_json(file)
    except DataError:
        return False
    return isinstance(held, dict) and "machine" in held


def make_parser() -> argparse.ArgumentParser:
    """Return a parser with one command a bench, and its settings as options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time the library.")
    commands = parser.add_subparsers(dest="bench", required=True)
    for name, measure in BENCHES.items():
        about = (measure.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument(
            "--out", type=Path, required=True, help="JSON file for the numbers; its folder is made if need be"
        )
        for setting in signature(measure).parameters.values():
            add_option(command, setting)
    return parser


def add_option(command: argparse.ArgumentParser, setting: Parameter) -> None:
    """Add a setting as an option: a switch, or a number of at least one."""
    flag, default = "--" + setting.name.replace("_", "-"), setting.default
    about = f"{setting.name.replace('_', ' ')} ({default})"
    if isinstance(default, bool):
        command.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=about)
    else:
        command.add_argument(flag, type=at_least_one, default=default, metavar="N", help=about)


def at_least_one(text: str) -> int:
    """Return a whole number of at least 1; raise for anything else, which the parser then names."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def as_text(report: Report) -> str:
    """Return a report's tables for reading on a terminal."""
    variants = [pd.DataFrame(value).T for name, value in report.items() if name.endswith("variants")]
    parts = [table.drop(columns=["seconds", "loads", "hash"]).to_string() for table in variants]
    if "runs" in report:
        parts.append(pd.DataFrame(report["runs"]).to_string(index=False))
    parts += [f"{name}: skipped, {reason}" for name, reason in report.get("skipped", {}).items()]
    parts.append(pd.DataFrame(report["targets"]).T.fillna("").to_string())
    loads = f"{report['machine']['load average']} before and {report['load average after']} after"
    parts.append(f"{report['machine']['cores']} cores; load average {loads}.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
