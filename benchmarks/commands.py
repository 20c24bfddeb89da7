"""The commands that hospitals type, as programs over TLS on this machine: what they give, how they start."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from benchmarks.timing import Report, at_least, at_most, machine
from hemafl_lib import data, federation, statistics
from hemafl_lib.data import sickle_cell
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.data.own.quantities import quantity
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.deployment import flower_environment
from hemafl_lib.federation.engines.deployment.programs import Program, Programs, free_ports, wait_until
from hemafl_lib.hospitals.settings import DeepSurvRun
from hemafl_lib.partition import Site, split
from hemafl_lib.seeds import numpy_generator

PROPORTIONS = (3, 2, 1)
"""Relative sizes of the hospitals of chapter 4."""

WORDS = (("yes", "no"), ("1", "0"), ("ja", "nein"))
"""What each hospital writes for an event or an infarct, and for none."""

DEADLINE = 1800.0
"""Seconds until the bench gives up on a program."""


def measure(*, nodes: int = 10, rounds: int = 2, patients: int = 300, real: bool = False) -> Report:
    """Train chapter 4's outcomes by the commands over TLS, beside the simulation, and time how nodes start.

    Parameters
    ----------
    nodes
        How many hospitals start at the same time.
    rounds
        Of DeepSurv.
    patients
        Most patients of the table of survival.
    real
        Whether that is the MDS registry, for which HEMAFL_DATA is needed, and not the free light chains.
    """
    before = machine()
    survival = data.load_table("ipssm" if real else "flchain")
    infarcts = sickle_cell.simulate()
    rows = [
        compare("deepsurv", deal(survival, patients), {"rounds": rounds, "hidden": "32,32"}),
        compare("logistic", deal(infarcts, len(infarcts)), {"ridge": 1.0}),
    ]
    many = {f"h{number}": survival.take(np.arange(20) + 20 * number) for number in range(nodes)}
    with running(many) as started:
        start = {"nodes": nodes, "seconds": round(started.seconds, 1), "CPU seconds": round(started.cpu, 1)}
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"rounds": rounds, "patients": patients, "real": real},
        "runs": rows,
        "start": start,
        "targets": {
            "studies with the simulation's bits": at_least(sum(row["same bits"] for row in rows), len(rows)),
            f"{nodes} nodes start, s": at_most(started.seconds, 30.0),
            f"{nodes} nodes start, CPU s / cores": at_most(started.cpu / before["cores"], 30.0),
        },
    }


def deal(cohort: TableCohort, patients: int) -> dict[str, TableCohort]:
    """Return the patients of three hospitals of unequal size."""
    count = min(patients, len(cohort))
    order = numpy_generator(0, "hospitals of the commands").permutation(len(cohort))[:count]
    ends = np.cumsum(PROPORTIONS) * count // sum(PROPORTIONS)
    parts = np.split(order, ends[:-1])
    return dict(zip(("north", "south", "west"), (cohort.take(part) for part in parts), strict=True))


def compare(app: str, hospitals: dict[str, TableCohort], settings: dict[str, object]) -> Report:
    """Return a row: what an app gives over TLS and in one process, as digests."""
    names = next(iter(hospitals.values())).feature_names
    with running(hospitals) as started:
        asked = {"features": list(names), **settings}
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in asked.items())
        (started.folder / "run.toml").write_text(text, encoding="utf-8")
        began = time.perf_counter()
        started.run(f"federation run study --app {app} --config run.toml --out outcome")
        seconds = time.perf_counter() - began
        over_tls = outcome_of(app, started.folder / "outcome")
    simulated = simulate(app, hospitals, settings)
    return {
        "app": app,
        "table": next(iter(hospitals.values())).provenance.name,
        "patients": " + ".join(str(len(cohort)) for cohort in hospitals.values()),
        "over TLS": over_tls,
        "in one process": simulated,
        "same bits": over_tls == simulated,
        "seconds": round(seconds, 1),
    }


def outcome_of(app: str, folder: Path) -> str:
    """Return the digest of what a run has left."""
    if app == "deepsurv":
        return str(json.loads((folder / "card.json").read_text(encoding="utf-8"))["parameters"])[:16]
    return digest(pd.read_csv(folder / "result.csv", index_col=0))


def simulate(app: str, hospitals: dict[str, TableCohort], settings: dict[str, object]) -> str:
    """Return the digest of what the library gives in this process, from the patients as they were dealt."""
    sites = [Site(name, rows, rows.take([]), rows.take([])) for name, rows in hospitals.items()]
    if app == "logistic":
        filled = statistics.standardise(sites, minimum=1).apply(sites, scale=False)
        return digest(statistics.logistic(filled, minimum=1, **settings).table)  # type: ignore[arg-type]
    names = ",".join(sites[0].train.feature_names)
    run = DeepSurvRun(features=names, out="", **settings)  # type: ignore[arg-type]
    parts = [Site(site.name, *split(site.train, seed=run.seed)) for site in sites]
    ready = statistics.standardise(parts, minimum=1).apply(parts)
    done = federation.run(ready, model=run.model(), recipe=run.recipe(), rounds=run.rounds, progress=False)
    return done.hash[:16]


def digest(table: pd.DataFrame) -> str:
    """Return a digest of the numbers of a table."""
    return hashlib.sha256(table.to_numpy(np.float64).tobytes()).hexdigest()[:16]


# --- programs ----------------------------------------------------------------------------------------


@dataclass
class Started:
    """A federation whose hospitals are all there.

    ``seconds`` went by from their start until the server had them all, and ``cpu`` seconds of processors.
    """

    programs: Programs
    seconds: float = 0.0
    cpu: float = 0.0

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.programs.folder

    def start(self, name: str, words: str) -> Program:
        """Start a command of the library."""
        return self.programs.start(name, ["hemafl", *words.split()], flower_environment(self.folder))

    def run(self, words: str) -> None:
        """Run a command of the library; raise `FederationError` if it fails."""
        program = self.start(words.split()[1], words)
        if program.process.wait(DEADLINE) != 0:
            raise FederationError(f"hemafl {words} failed; the end of its log is: {program.last_lines()}")


@contextmanager
def running(hospitals: dict[str, TableCohort]) -> Iterator[Started]:
    """Make a federation of these hospitals, start all programs, and yield it once all are there."""
    with Programs() as programs:
        started, (port,) = Started(programs), free_ports(1)
        started.run(f"federation init study --hospitals {','.join(hospitals)} --address localhost:{port}")
        for number, (name, cohort) in enumerate(hospitals.items()):
            write_hospital(programs.folder / name, name, cohort, WORDS[number % len(WORDS)])
        server = started.start("server", "federation serve study")
        wait_until(lambda: "The server is ready" in said_by(server), server, "it was ready", DEADLINE)
        began = time.perf_counter()
        joined = [
            started.start(name, f"hospital join study/bundles/{name}.zip --data {name}") for name in hospitals
        ]
        wait_until(lambda: all_here(server, list(hospitals)), server, "all hospitals were there", DEADLINE)
        started.seconds = time.perf_counter() - began
        started.cpu = sum(cpu_of(program) for program in joined)
        yield started


def said_by(program: Program) -> str:
    """Return what a program has said."""
    return program.log.read_text(encoding="utf-8")


def all_here(server: Program, names: Sequence[str]) -> bool:
    """Return whether the server has seen all hospitals."""
    said = said_by(server).splitlines()
    return all(f"{name} is here." in said for name in names)


def cpu_of(program: Program) -> float:
    """Return the CPU seconds of a program and those that it has started."""
    first = psutil.Process(program.process.pid)
    times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def write_hospital(folder: Path, name: str, cohort: TableCohort, words: tuple[str, str]) -> None:
    """Write a hospital's table, with column names of its own, and the mapping that says what they are."""
    folder.mkdir()
    happened, not_happened = words
    outcome = cohort.label if cohort.event is None else cohort.event
    assert outcome is not None
    columns = {f"{name} id": cohort.patient, f"{name} end": np.where(outcome.numpy() > 0, *words)}
    if cohort.time is not None:
        columns[f"{name} time"] = cohort.time.numpy()
    for feature, values in zip(cohort.feature_names, cohort.features.numpy().T, strict=True):
        columns[f"{name} {feature}"] = values
    pd.DataFrame(columns).to_csv(folder / "table.csv", index=False)
    codes = f"codes = {{ {json.dumps(happened)} = 1, {json.dumps(not_happened)} = 0 }}"
    survival = f'kind = "survival"\nevent = "{name} end"\ntime = "{name} time"\nunit = "months"\n'
    label = f'kind = "label"\nlabel = "{name} end"\n'
    features = "".join(
        f'[table.features.{feature}]\ncolumn = "{name} {feature}"\n{unit_of(feature)}'
        for feature in cohort.feature_names
    )
    (folder / "mapping.toml").write_text(
        f'smallest_count = 1\n[table]\nfile = "table.csv"\npatient = "{name} id"\n[table.outcome]\n'
        f"{label if cohort.time is None else survival}{codes}\n{features}",
        encoding="utf-8",
    )


def unit_of(feature: str) -> str:
    """Return the line of a mapping that states a feature's unit, which is the federation's."""
    known = quantity(feature)
    return "" if known is None else f"unit = {json.dumps(known.unit)}\n"
