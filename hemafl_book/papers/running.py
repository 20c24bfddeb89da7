"""`hemafl run`: an experiment by name, from choosing the data to the file of frozen results."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from hemafl_book import papers
from hemafl_book.papers.changes import Changes
from hemafl_book.papers.protocol import slug, with_studies
from hemafl_book.papers.where import Where
from hemafl_book.results import check_place, describe_device, freeze, load
from hemafl_lib.data import data_root
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.device import choose
from hemafl_lib.errors import HemaflError
from hemafl_lib.federation.engines import check_engine
from hemafl_lib.files import check_target
from hemafl_lib.models import BACKBONES, require_weights


def run_and_report(
    name: str,
    preset: str,
    changes: Changes,
    where: Where,
    *,
    out: Path | None,
    say: Callable[[str], object],
    renew: bool = False,
    around: Callable[[Any], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Run an experiment, say what it found, and write ``out`` if given.

    What ``around`` gives of the protocol is open while the experiment runs.

    Without a folder of real data the experiment runs on what it embeds, and says so. A file ``out`` that
    holds the result of another protocol is replaced only to ``renew`` it; one of other data is kept, and the
    new one is written beside it. Raises `HemaflError` if what is asked for is not to be had, or ``out``
    cannot be written or replaced.
    """
    name, changes = own_part(name, changes)
    paper = papers.find(name)
    choose(where.device)
    check_engine(where.engine)
    if where.root is not None:
        data_root(where.root)
    source, changes = paper.OFFER.source(where.root, changes)
    asked = chosen_studies(paper.protocol(preset, source, changes), changes, paper.OFFER.parts)
    check_weights(changes)
    if out is not None:
        check_target(out) if renew else check_place(out, asked.describe())
    if source == paper.OFFER.sources[-1]:
        say(f"This run uses {paper.OFFER.embedded}.")
    if where.root is None and source != paper.OFFER.sources[0]:
        say("For real data set HEMAFL_DATA, or give --root, to the folder that holds them.")
    if changes:
        say(f"This is not the paper's protocol: {changes}.")
    if where.checkpoint is not None:
        say(f"What is finished is kept in {where.checkpoint}; the same command goes on from there.")
    began, code = time.monotonic(), papers.code_of(name)
    with around(asked):
        results = paper.run(asked, where)
    seconds = time.monotonic() - began + results.seconds.earlier
    device = describe_device(where.device)
    try:  # hours of work: what fails to be written does not take the report away, nor the other way round
        if out is not None:
            out = out if renew else beside_other_data(out, results.data)
            freeze(
                out,
                protocol=asked.describe(),
                data=results.data,
                seeds=asked.seeds,
                seconds=seconds,
                device=device,
                tables=results.tables,
                changes=changes.as_dict(),
                parts=results.seconds.parts,
                code=code,
            )
    finally:
        for provenance in results.data:
            say(provenance.banner())
        say(paper.report(results))
        if changes:
            say(f"Changed from the paper's protocol: {changes}.")
        say(f"{seconds:.0f} s on {device}, engine {where.engine}, seeds {list(asked.seeds)}.")
    if out is not None:
        say(f"All tables are in {out}.")


def own_part(name: str, changes: Changes) -> tuple[str, Changes]:
    """Return the experiment that a user asks for: a study may be an experiment of its own.

    Raises `HemaflError` if it is named together with others.
    """
    parts = papers.find(name).OFFER.parts
    named = [study for study in changes.study or () if study in parts]
    if not named:
        return name, changes
    if len(changes.study or ()) > 1:
        raise HemaflError(f"study '{named[0]}' is an experiment of its own; name it alone.")
    return parts[named[0]], replace(changes, study=None)


def check_weights(changes: Changes) -> None:
    """Raise `ModelError` if a pretrained network is asked for whose weights are not on this machine.

    Random layers, frozen, would be no such network.
    """
    if changes.model is not None and changes.model.lower() in BACKBONES:
        require_weights(changes.model.lower())


def chosen_studies(asked: Any, changes: Changes, parts: Collection[str]) -> Any:
    """Return a protocol with the studies that a user names; raise `HemaflError` if one is unknown."""
    if changes.study is None:
        return asked
    titles = {slug(study.title): study.title for study in asked.studies}
    for name in changes.study:
        if name not in titles:
            raise HemaflError(f"study '{name}' is unknown; choose one of {', '.join([*titles, *parts])}.")
    return with_studies(asked, [titles[name] for name in changes.study])


def beside_other_data(out: Path, data: Sequence[Provenance]) -> Path:
    """Return ``out``, or a file beside it if ``out`` holds the result of other data than ``data``."""
    checksums = [provenance.checksum for provenance in data]
    if not out.exists() or [held["checksum"] for held in load(out).data] == checksums:
        return out
    return out.with_name(f"{out.stem}-other-data{out.suffix}")
