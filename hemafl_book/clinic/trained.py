"""The models that `hemafl run --save` keeps: those of each arm, trained with the first seed.

An experiment gives tables and lets its models go. What computes frozen numbers is not touched for the sake of
a file: while a `Keeper` watches, the one function that trains an arm also hands on what it trained.
"""

import copy
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from torch import nn

from hemafl_book import papers
from hemafl_book.clinic.outside import outside
from hemafl_book.papers import studies
from hemafl_book.papers.arms import Trial
from hemafl_book.papers.kept import checksum
from hemafl_book.papers.leave_one_out import REAL
from hemafl_book.papers.protocol import slug
from hemafl_book.papers.where import Where
from hemafl_book.results import today
from hemafl_lib import __version__, federation
from hemafl_lib.clinic import Card, Kind, Place, SavedModel, Views, measured, save
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import HemaflError
from hemafl_lib.federation import Run
from hemafl_lib.files import check_folder
from hemafl_lib.models import SplitModel
from hemafl_lib.partition import Site
from hemafl_lib.training import predict

FEWEST = 10
"""A scope of fewer images is none."""

HOSPITAL = {batch: hospital for hospital, batches in REAL.items() for batch in batches}
"""The hospital of each batch of real cells."""

PAPERS = ("attention-cnn", "blood-morphology")
"""The papers whose models read images and can be kept."""


class Keeper:
    """Keeps the models of a paper's run in ``folder``, one folder an arm.

    Raises `HemaflError` if the paper has no models to keep, or the folder cannot be written.
    """

    def __init__(self, paper: str, folder: Path) -> None:
        if paper not in PAPERS:
            raise HemaflError(f"--save keeps models of {' and '.join(PAPERS)}; leave it out for '{paper}'.")
        check_folder(folder)
        self.paper, self.folder = paper, folder
        self.size = 0
        self.trained: list[tuple[Trial, Mapping[str, Run]]] = []

    @contextmanager
    def watching(self, asked: Any) -> Iterator[None]:
        """Note what is trained with the first seed of a protocol while this is open."""
        plain, first, lock = studies.train, asked.seeds[0], threading.Lock()
        self.size = asked.size

        def train(trial: Trial, where: Where, stop: threading.Event | None = None) -> dict[str, Run]:
            runs = plain(trial, where, stop)
            if trial.seed == first:
                with lock:
                    self.trained.append((trial, runs))
            return runs

        studies.train = train
        try:
            yield
        finally:
            studies.train = plain

    def save(self, say: Callable[[str], object]) -> None:
        """Measure and write what was noted; say where each model is.

        Raises `HemaflError` if nothing was trained.
        """
        if not self.trained:
            raise HemaflError(
                "nothing was trained, because all was finished before; leave --checkpoint out to keep models."
            )
        taken: set[str] = set()
        for trial, runs in self.trained:
            for name, run in runs.items():
                folder = self.folder / free_name(slug(name), taken)
                save(described(self.paper, self.size, trial, name, run), folder)
                say(f"The model '{name}' is in {folder}.")
        say("Give such a folder, then pictures, to 'hemafl predict' and 'hemafl explain'.")


def free_name(name: str, taken: set[str]) -> str:
    """Return a name, with a number if it is taken, and note it."""
    chosen = next(one for one in chain([name], (f"{name}-{n}" for n in count(2))) if one not in taken)
    taken.add(chosen)
    return chosen


def described(paper: str, size: int, trial: Trial, name: str, run: Run) -> SavedModel:
    """Return a model of a trial with its card; ``name`` is that of the run, see `arms.train`."""
    alone = name.removeprefix(f"{trial.arm.name}: ")
    sites = [site for site in trial.sites if trial.arm.kind != "isolated" or site.name == alone]
    home = federation.pooled(sites)
    classes = home.train.classes
    source = home.train.provenance
    card = Card(
        name=f"{paper}/{slug(name)}",
        family=paper,
        arm=name,
        title=f"{papers.find(paper).OFFER.title}: {name}",
        about=f"Trained by 'hemafl run {paper}', seed {trial.seed}. {source.banner()}"[:2000],
        simulated=source.simulated,
        classes=classes,
        sites=tuple(site.name for site in sites),
        scores=(),
        temperature=1.0,
        sets=None,
        scope=(),
        code=checksum(papers.code_of(paper)),
        data=source.checksum,
        made=today(),
        version=__version__,
    )
    own = {site.name for site in sites}
    judged = [
        Place(where, kind_of(where, own), cells)
        for where, cells in trial.judged.items()
        if where != "validation"
    ]
    return measured(
        whole(trial.model, run.model),
        card,
        size=size,
        held_out=home.validation,
        judged=judged,
        views=views_of(home),
        logits=None if isinstance(home.train, ImageCohort) else lambda cells: predict(run.model, cells),
    )


def kind_of(where: str, own: Collection[str]) -> Kind:
    """Return whose cells judge a model of the hospitals ``own``: a later batch of theirs is no stranger's."""
    if where in own:
        return "own"
    if where == "joint":
        return "joint"
    return "related" if HOSPITAL.get(where) in own else "unseen"


def whole(initial: nn.Module, trained: nn.Module) -> nn.Module:
    """Return the network that reads images: with frozen layers, these and the trained ones behind them."""
    if not isinstance(initial, SplitModel):
        return trained
    network = copy.deepcopy(initial)
    network.suffix = trained
    return network


def views_of(home: Site) -> Views | None:
    """Return what scopes are made of; None where the cells are no images, or too few."""
    parts = (home.train, home.validation, home.test)
    if any(not isinstance(part, ImageCohort) or len(part) < FEWEST for part in parts):
        return None
    training, held_out, test = (part.inputs for part in parts)
    return Views(training, held_out, test, outside(test))
