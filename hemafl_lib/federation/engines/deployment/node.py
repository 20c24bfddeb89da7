"""What a node of the deployment engine runs: the client app, with its job and data from a folder.

The node is a program of its own. It finds what all sites are told in the folder that its node config
names: the model and the cohorts as safetensors, the rest as JSON.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hemafl_lib.augmentation import Augmentation
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.client import Job, client_app
from hemafl_lib.federation.stored_sites import StoredSites, store_sites
from hemafl_lib.federation.trainer import described, restored
from hemafl_lib.files import read_json, write_json
from hemafl_lib.models.model_file import load_model, save_model
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe

MODEL, JOB = "model.safetensors", "job.json"

NODE_APP = f"{__name__}:app"
"""How Flower names the client app of this module."""


def node_configs(folder: Path, nodes: int) -> list[dict[str, str | int]]:
    """Return the node configs of nodes that find the job in ``folder``."""
    return [
        {"job-folder": str(folder), "partition-id": number, "num-partitions": nodes}
        for number in range(nodes)
    ]


def store_job(job: Job, sites: Sequence[Site], folder: Path) -> None:
    """Write into ``folder`` what the nodes need; raise `ModelError` if the model cannot be written."""
    save_model(job.model, folder / MODEL)
    settings = {
        field.name: getattr(job, field.name) for field in dataclasses.fields(job) if field.name != "model"
    }
    settings |= {"recipe": dataclasses.asdict(job.recipe), "trainer": described(job.trainer)}
    write_json(folder / JOB, {"job": settings, "sites": store_sites(sites, folder).names})


@functools.lru_cache(maxsize=1)
def load_job(folder: Path) -> tuple[Job, StoredSites]:
    """Read what `store_job` wrote, or return it again if it was the last to be read."""
    stored = read_json(folder / JOB)
    recipe = stored["job"]["recipe"]
    recipe = Recipe(**{**recipe, "augmentation": Augmentation(**recipe["augmentation"])})
    trainer, model = restored(stored["job"]["trainer"]), load_model(folder / MODEL)
    job = Job(**{**stored["job"], "recipe": recipe, "trainer": trainer, "model": model})
    return job, StoredSites(str(folder), tuple(stored["sites"]))


def answer(message: Message, context: Context) -> Message:
    """Answer a message as the client app of the node's folder does."""
    if "job-folder" not in context.node_config:
        raise FederationError(
            "this node has no 'job-folder'; start it with --node-config 'job-folder=\"PATH\"'."
        )
    job, sites = load_job(Path(str(context.node_config["job-folder"])))
    return client_app(job, sites)(message, context)


app = ClientApp()
app.train()(answer)
app.evaluate()(answer)
