"""The Flower app for hospitals: each node reads its own images, the server sees none of them.

``flwr run hospitals`` starts it (the folder ``hospitals`` holds its settings, which Flower calls run
config). The library is installed at every node; only settings and arrays travel. What a node says
about itself, its node config, never leaves it, apart from its number and its site's name:

- ``partition-id``: its number, which orders the sums.
- ``cohort``: the public layout in which its images lie, as ``hemafl data list`` names it.
- ``data-folder``: where they lie; without it HEMAFL_DATA says so.
- ``site``: the name under which it takes part; of a cohort of several sites the one it stands for.
"""

from pathlib import Path

from flwr.app import Context, Message
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib import aggregation, data
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
from hemafl_lib.models import AttentionCNN, save_model
from hemafl_lib.partition import Site, split
from hemafl_lib.training import Recipe

MODEL_FILE, HISTORY_FILE = "model.safetensors", "history.json"


def setting(config: UserConfig, name: str) -> str | int | float | bool:
    """Return a setting; raise `FederationError` if it was not given."""
    if name not in config:
        raise FederationError(f"the setting '{name}' is missing; give it in the run config or node config.")
    return config[name]


def job_of(config: UserConfig) -> Job:
    """Return what the run config asks all sites to do: train an attention CNN by a recipe."""
    model = AttentionCNN(
        len(data.classes.CLASS_SCHEMES[setting(config, "classes")]),
        width=setting(config, "width"),
        attention=setting(config, "attention"),
        norm=setting(config, "norm"),
        seed=setting(config, "seed"),
    )
    recipe = Recipe(
        loss=setting(config, "loss"),
        learning_rate=setting(config, "learning-rate"),
        batch_size=setting(config, "batch-size"),
        local_epochs=setting(config, "local-epochs"),
        balanced_sampler=setting(config, "balanced-sampler"),
    )
    return Job(model, recipe, setting(config, "seed"))


def own_site(context: Context) -> Site:
    """Read this node's images and split them; nothing but what is trained on them leaves the node."""
    node, config = context.node_config, context.run_config
    name = str(setting(node, "site"))
    cohort = data.load(
        str(setting(node, "cohort")), size=setting(config, "size"), root=node.get("data-folder")
    )
    if len(cohort.sites) > 1:
        cohort = cohort.of_site(name)
    cohort = data.harmonise(cohort, str(setting(config, "classes")))
    return Site(name, *split(cohort, seed=setting(config, "seed")))


def answer(message: Message, context: Context) -> Message:
    """Train or evaluate on this node's images, as every client app of the library does."""
    site = own_site(context)
    return client_app(job_of(context.run_config), {partition_of(context): site}.__getitem__)(message, context)


def serve(grid: Grid, context: Context) -> None:
    """Train over the hospitals, then write the model and the history into the folder ``out``."""
    config = context.run_config
    job, rounds = job_of(config), setting(config, "rounds")
    strategy = AggregatorStrategy(
        aggregation.by_name(str(setting(config, "aggregator"))),
        nodes=setting(config, "hospitals"),
        rounds=rounds,
        trained=trained_names(job.model),
        deadline=setting(config, "deadline"),
    )
    names = exchanged_names(job.model)
    result = strategy.start(grid, to_record(get_arrays(job.model, names)), num_rounds=rounds)
    set_arrays(job.model, from_record(result.arrays))
    out = Path(str(setting(config, "out")))
    save_model(job.model, out / MODEL_FILE)
    write_json(out / HISTORY_FILE, {"history": strategy.history, "refused": strategy.refused})


node_app = ClientApp()
node_app.train()(answer)
node_app.evaluate()(answer)

server_app = ServerApp()
server_app.main()(serve)
