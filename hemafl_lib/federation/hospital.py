"""The Flower app for hospitals: each node reads its own images, the server sees none of them.

``flwr run hospitals`` starts it (the folder ``hospitals`` holds its settings, which Flower calls run
config). The library is installed at every node; only settings and arrays travel. What a node says
about itself, its node config, never leaves it, apart from its number, its site's name, and the sentence that
says why it could not do its part:

- ``partition-id``: its number, which orders the sums.
- ``cohort``: the public layout in which its images lie, as ``hemafl data list`` names it.
- ``data-folder``: where they lie; without it HEMAFL_DATA says so.
- ``site``: the name under which it takes part; of a cohort of several sites the one it stands for.

All settings are checked before the first message. A round counts only if a hospital has trained and one has
evaluated; otherwise the run ends with the reason of each, and starting it again goes on from the last round
that counted.
"""

import dataclasses
import logging
import math
import os
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from pydantic import Field

from hemafl_lib import aggregation, data
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.data.loading import SIZES
from hemafl_lib.errors import FederationError, HemaflError, quote
from hemafl_lib.federation import run_folder
from hemafl_lib.federation.client import Job, client_app, partition_of
from hemafl_lib.federation.engines.polled_grid import PolledGrid
from hemafl_lib.federation.exchange import exchanged_names, get_arrays, set_arrays, trained_names
from hemafl_lib.federation.fingerprint import content_hash
from hemafl_lib.federation.mods import check_kind
from hemafl_lib.federation.round_check import RoundCheck
from hemafl_lib.federation.server import Server
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.models import AttentionCNN, Norm
from hemafl_lib.models.attention_cnn import Attention
from hemafl_lib.partition import Site, split
from hemafl_lib.settings import Count, Positive, Settings, Whole
from hemafl_lib.training import Recipe, make_loss

LOGGER = logging.getLogger("flwr")
"""Flower's log: what the server app writes to it is what ``flwr run --stream`` shows."""

ImageSize = Annotated[int, Field(ge=SIZES.start, le=SIZES.stop - 1)]
Width = Annotated[int, Field(ge=1, le=512)]
Epochs = Annotated[int, Field(ge=1, le=1000)]

Kind = TypeVar("Kind", bound=Settings)


@dataclass(frozen=True)
class RunSettings(Settings):
    """The run config: what the server asks of all hospitals (``hospitals/pyproject.toml``).

    ``hospitals`` is how many to wait for. ``deadline`` is in seconds: for the hospitals to come, and for
    their replies to each question. ``out`` is the server's folder, see `run_folder`.
    """

    ERROR: ClassVar[type[FederationError]] = FederationError

    hospitals: Count
    rounds: Count = 5
    deadline: Positive = 600.0
    out: str = "federation"
    seed: Whole = 0
    classes: str = "four"
    size: ImageSize = 64
    width: Width = 16
    attention: Attention = "se"
    norm: Norm = "group"
    aggregator: str = "FedAvg"
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    learning_rate: Positive = 0.002
    batch_size: Count = 32
    local_epochs: Epochs = 1
    balanced_sampler: bool = True

    def __post_init__(self) -> None:
        """Raise `FederationError` for a value that is not allowed."""
        super().__post_init__()
        if self.classes not in data.classes.CLASS_SCHEMES:
            known = ", ".join(data.classes.CLASS_SCHEMES)
            raise FederationError(f"classes='{self.classes}' is unknown; choose one of: {known}.")
        if not self.out.strip() or not self.out.isprintable():
            raise FederationError(f"out={self.out!r} is no name of a folder; give one line of text.")

    def job(self) -> Job:
        """Return what all sites are asked to do: train an attention CNN by a recipe."""
        model = AttentionCNN(
            len(data.classes.CLASS_SCHEMES[self.classes]),
            width=self.width,
            attention=self.attention,
            norm=self.norm,
            seed=self.seed,
        )
        recipe = Recipe(
            loss=self.loss,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            local_epochs=self.local_epochs,
            balanced_sampler=self.balanced_sampler,
        )
        return Job(model, recipe, self.seed)


@dataclass(frozen=True)
class NodeSettings(Settings):
    """The node config: what a node knows about itself, as said at the top of this module."""

    ERROR: ClassVar[type[FederationError]] = FederationError

    cohort: str
    site: str
    data_folder: str | None = None


def read_settings(kind: type[Kind], config: UserConfig) -> Kind:
    """Return the settings that Flower's config holds, whose names have hyphens for underscores.

    Raises `FederationError` if one is missing or its value not allowed; others are left alone.
    """
    given = {}
    for field in fields(kind):  # type: ignore[arg-type]  # mypy does not see that subclasses are dataclasses
        name = field.name.replace("_", "-")
        if name in config:
            given[field.name] = config[name]
        elif field.default is MISSING:
            raise FederationError(
                f"the setting '{name}' is missing; give it in the run config or node config."
            )
    return kind(**given)


def own_site(context: Context, run: RunSettings) -> Site[ImageCohort]:
    """Read this node's images and split them; nothing but what is trained on them leaves the node."""
    node = read_settings(NodeSettings, context.node_config)
    cohort = data.load_images(node.cohort, size=run.size, root=node.data_folder)
    if len(cohort.sites) > 1:
        cohort = cohort.of_site(node.site)
    return Site(node.site, *split(data.harmonise(cohort, run.classes), seed=run.seed))


def answer(message: Message, context: Context) -> Message:
    """Train or evaluate on this node's images, as every client app of the library does.

    What goes wrong is answered in one sentence. An error that is not the library's may quote a patient's row:
    it stays in this node's log.
    """
    try:
        check_kind(message)
        run = read_settings(RunSettings, context.run_config)
        site = own_site(context, run)
        return client_app(run.job(), {partition_of(context): site}.__getitem__)(message, context)
    except HemaflError as error:
        reason = str(error)
        LOGGER.error("this node could not %s: %s", message.metadata.message_type, reason)
    except Exception as error:
        reason = f"an unexpected {type(error).__name__}, which is in its node's log"
        LOGGER.exception("this node could not %s", message.metadata.message_type)
    return failure(message, context, reason)


def failure(message: Message, context: Context, reason: str) -> Message:
    """Return the reply of a node that could not do its part: its name, its number, and why."""
    node = context.node_config
    content = RecordDict({"failure": ConfigRecord({"reason": quote(reason)})})
    if isinstance(node.get("partition-id"), int):
        content["metrics"] = MetricRecord({"partition-id": int(node["partition-id"])})
    if isinstance(node.get("site"), str):
        content["site"] = ConfigRecord({"name": node["site"]})
    return Message(content, reply_to=message)


@dataclass
class Training:
    """A training over hospitals that leaves a model in a folder, and goes on there if it was interrupted.

    Attributes
    ----------
    job, strategy
        What the hospitals are asked to do, and how they are asked and aggregated.
    folder, settings
        Where the last round, the history and then the model are written, and the settings of the run.
    guessing
        The loss of a model that knows nothing, for judging whether a round has diverged; infinite if unknown.
    rows
        What a row is called: "images", "patients".
    summed
        Whether the replies to a training are known by their sum only.
    """

    job: Job
    strategy: AggregatorStrategy
    folder: Path
    settings: dict[str, Any]
    guessing: float = math.inf
    rows: str = "images"
    summed: bool = False

    def run(self, grid: Grid, context: Context) -> None:
        """Train over the hospitals behind ``grid``; the folder is claimed by the caller.

        Raises `FederationError` after a round in which nobody trained, or whose model nobody could evaluate
        or everybody found diverged.
        """
        job, folder, rounds = self.job, self.folder, self.strategy.rounds
        server = Server(job, self.strategy, get_arrays(job.model, exchanged_names(job.model)), rounds)
        server.watch = RoundCheck(self.strategy, self.guessing, folder, self.settings, self.rows, self.summed)
        server.keep(folder / run_folder.CHECKPOINT_FILE, run_parts(self.settings, job))
        if server.saved and server.saved.round:
            LOGGER.info("%s holds %d of %d rounds; going on.", folder, server.saved.round, rounds)
        server.serve(grid, context)
        set_arrays(job.model, server.arrays)
        run_folder.finish(folder, job.model)
        LOGGER.info("finished %d rounds; the model is in %s.", rounds, folder / run_folder.MODEL_FILE)


def serve(grid: Grid, context: Context) -> None:
    """Train over the hospitals; the folder ``out`` holds the last round, the history, and then the model.

    Raises
    ------
    FederationError
        Before the first message if a setting or ``out`` will not do or too few hospitals come; after a round
        in which nobody trained, or whose model nobody could evaluate or everybody found diverged.
    """
    run = read_settings(RunSettings, context.run_config)
    job, folder = run.job(), Path(os.path.expanduser(run.out)).absolute()
    strategy = AggregatorStrategy(
        aggregation.by_name(run.aggregator),
        nodes=run.hospitals,
        rounds=run.rounds,
        trained=trained_names(job.model),
        deadline=run.deadline,
        patience=run.deadline,
    )
    training = Training(job, strategy, folder, dataclasses.asdict(run), loss_of_guessing(job, run))
    with run_folder.claim(folder):
        training.run(PolledGrid(grid, grid.get_node_ids, lambda node: None), context)


def loss_of_guessing(job: Job, run: RunSettings) -> float:
    """Return the loss of a model for which all classes are equally likely."""
    classes = len(data.classes.CLASS_SCHEMES[run.classes])
    return float(make_loss(job.recipe)(torch.zeros(1, classes), torch.zeros(1, dtype=torch.int64)))


def run_parts(settings: dict[str, Any], job: Job) -> dict[str, str]:
    """Return what makes a run of hospitals this one: all settings but where and how long, and the start."""
    parts = {**settings, "the initial model": job.model}
    return {
        name: content_hash(value, name) for name, value in parts.items() if name not in ("out", "deadline")
    }


node_app = ClientApp()
node_app.train()(answer)
node_app.evaluate()(answer)

server_app = ServerApp()
server_app.main()(serve)
