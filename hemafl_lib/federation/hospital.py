"""The Flower app for hospitals: each node reads its own images, the server sees none of them.

``flwr run hospitals`` starts it (the folder ``hospitals`` holds its settings, which Flower calls run
config). The library is installed at every node; only settings and arrays travel. What a node says
about itself, its node config, never leaves it, apart from its number and its site's name:

- ``partition-id``: its number, which orders the sums.
- ``cohort``: the public layout in which its images lie, as ``hemafl data list`` names it.
- ``data-folder``: where they lie; without it HEMAFL_DATA says so.
- ``site``: the name under which it takes part; of a cohort of several sites the one it stands for.
"""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from flwr.app import Context, Message, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib import aggregation, data
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.client import Job, client_app, partition_of
from hemafl_lib.federation.exchange import (
    exchanged_names,
    from_record,
    get_arrays,
    set_arrays,
    to_record,
    trained_names,
)
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.files import write_json
from hemafl_lib.models import AttentionCNN, Norm, save_model
from hemafl_lib.models.attention_cnn import Attention
from hemafl_lib.partition import Site, split
from hemafl_lib.settings import Count, Positive, Settings, Whole
from hemafl_lib.training import Recipe

MODEL_FILE, HISTORY_FILE = "model.safetensors", "history.json"

Kind = TypeVar("Kind", bound=Settings)


@dataclass(frozen=True)
class RunSettings(Settings):
    """The run config: what the server asks of all hospitals (``hospitals/pyproject.toml``).

    ``hospitals`` is how many to wait for, at most ``deadline`` seconds; ``out`` the server's folder.
    """

    ERROR: ClassVar[type[FederationError]] = FederationError

    hospitals: Count
    rounds: Whole
    deadline: Positive
    out: str
    seed: Whole
    classes: str
    size: Count
    width: Count
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
    """Train or evaluate on this node's images, as every client app of the library does."""
    run = read_settings(RunSettings, context.run_config)
    site = own_site(context, run)
    return client_app(run.job(), {partition_of(context): site}.__getitem__)(message, context)


def serve(grid: Grid, context: Context) -> None:
    """Train over the hospitals, then write the model and the history into the folder ``out``."""
    run = read_settings(RunSettings, context.run_config)
    job, out = run.job(), Path(run.out)
    strategy = AggregatorStrategy(
        aggregation.by_name(run.aggregator),
        nodes=run.hospitals,
        rounds=run.rounds,
        trained=trained_names(job.model),
        deadline=run.deadline,
    )
    initial = to_record(get_arrays(job.model, exchanged_names(job.model)))
    result = strategy.start(grid, initial, num_rounds=run.rounds)
    set_arrays(job.model, from_record(result.arrays))
    save_model(job.model, out / MODEL_FILE)
    write_json(out / HISTORY_FILE, {"history": strategy.history, "refused": strategy.refused})


node_app = ClientApp()
node_app.train()(answer)
node_app.evaluate()(answer)

server_app = ServerApp()
server_app.main()(serve)
