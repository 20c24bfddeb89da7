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
import os
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

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

Kind = TypeVar("Kind", bound=Settings)


@dataclass(frozen=True)
class RunSettings(Settings):
    """The run config: what the server asks of all hospitals (``hospitals/pyproject.toml``).

    ``hospitals`` is how many to wait for. ``deadline`` is in seconds: for the hospitals to come, and for
    their replies to each question. ``out`` is the server's folder, see `run_folder`.
    """

    ERROR: ClassVar[type[FederationError]] = FederationError

    hospitals: Count
    rounds: Count
    deadline: Positive
    out: str
    seed: Whole
    classes: str
    size: ImageSize
    width: Width
    attention: Attention
    norm: Norm
    aggregator: str
    loss: Literal["cross_entropy", "focal"]
    learning_rate: Positive
    batch_size: Count
    local_epochs: Count
    balanced_sampler: bool

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
    server = Server(job, strategy, get_arrays(job.model, exchanged_names(job.model)), run.rounds)
    server.watch = RoundCheck(strategy, loss_of_guessing(job, run), folder, dataclasses.asdict(run))
    with run_folder.claim(folder):
        server.keep(folder / run_folder.CHECKPOINT_FILE, run_parts(run, job))
        if server.saved and server.saved.round:
            LOGGER.info("%s holds %d of %d rounds; going on.", folder, server.saved.round, run.rounds)
        server.serve(PolledGrid(grid, grid.get_node_ids, lambda node: None), context)
        set_arrays(job.model, server.arrays)
        run_folder.finish(folder, job.model)
    LOGGER.info("finished %d rounds; the model is in %s.", run.rounds, folder / run_folder.MODEL_FILE)


def loss_of_guessing(job: Job, run: RunSettings) -> float:
    """Return the loss of a model for which all classes are equally likely."""
    classes = len(data.classes.CLASS_SCHEMES[run.classes])
    return float(make_loss(job.recipe)(torch.zeros(1, classes), torch.zeros(1, dtype=torch.int64)))


def run_parts(run: RunSettings, job: Job) -> dict[str, str]:
    """Return what makes a run of hospitals this one: all settings but where and how long, and the start."""
    settings = {**dataclasses.asdict(run), "the initial model": job.model}
    return {
        name: content_hash(value, name) for name, value in settings.items() if name not in ("out", "deadline")
    }


node_app = ClientApp()
node_app.train()(answer)
node_app.evaluate()(answer)

server_app = ServerApp()
server_app.main()(serve)
