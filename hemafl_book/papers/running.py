"""`hemafl run`: an experiment by name, from choosing the data to the file of frozen results."""

import time
from collections.abc import Callable
from pathlib import Path

from hemafl_book import papers
from hemafl_book.papers.changes import Changes
from hemafl_book.papers.where import Where
from hemafl_book.results import describe_device, freeze, load
from hemafl_lib.device import choose
from hemafl_lib.errors import HemaflError
from hemafl_lib.federation.engines import check_engine


def run_and_report(
    name: str,
    preset: str,
    changes: Changes,
    where: Where,
    *,
    out: Path | None,
    say: Callable[[str], object],
) -> None:
    """Run an experiment, say what it found, and write ``out`` if given.

    Without a folder of real data the experiment runs on what it embeds, and says so. Raises `HemaflError` if
    what is asked for is not to be had, or if a changed protocol would be written over the paper's result.
    """
    paper = papers.find(name)
    choose(where.device)
    check_engine(where.engine)
    source, changes = paper.OFFER.source(where.root, changes)
    asked = paper.protocol(preset, source, changes)
    if out is not None:
        check_overwriting(out, changes)
    if source == paper.OFFER.sources[-1]:
        say(f"This run uses {paper.OFFER.embedded}.")
    if where.root is None and source != paper.OFFER.sources[0]:
        say("For real data set HEMAFL_DATA, or give --root, to the folder that holds them.")
    if changes:
        say(f"This is not the paper's protocol: {changes}.")
    began = time.monotonic()
    results = paper.run(asked, where)
    seconds = time.monotonic() - began
    for provenance in results.data:
        say(provenance.banner())
    say(paper.report(results))
    if changes:
        say(f"Changed from the paper's protocol: {changes}.")
    device = describe_device(where.device)
    say(f"{seconds:.0f} s on {device}, engine {where.engine}, seeds {list(asked.seeds)}.")
    if out is not None:
        freeze(
            out,
            protocol=asked.describe(),
            data=results.data,
            seeds=asked.seeds,
            seconds=seconds,
            device=device,
            tables=results.tables,
            changes=changes.as_dict(),
        )
        say(f"All tables are in {out}.")


def run_all(folder: Path, where: Where, say: Callable[[str], object]) -> None:
    """Run every paper by its full protocol and write each result to ``folder`` as ``NAME.json``."""
    for name in papers.PAPERS:
        run_and_report(name, "paper", Changes(), where, out=folder / f"{name}.json", say=say)


def check_overwriting(out: Path, changes: Changes) -> None:
    """Raise `HemaflError` if ``out`` holds the result of a paper's own protocol and this one is changed."""
    if changes and out.exists() and not load(out).changes:
        raise HemaflError(
            f"{out} holds the result of a protocol without changes; write this one to another file."
        )
