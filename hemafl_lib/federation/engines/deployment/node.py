"""What a node of the deployment engine runs: the site app and the site that lie in its folder.

The node is a program of its own. It finds what all sites are told in the folder that its node config
names: models and cohorts as safetensors, the rest as JSON.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.deployment import Deployment
from hemafl_lib.federation.site_app import SiteApp, load_app, store_app
from hemafl_lib.federation.stored_sites import StoredSites, store_sites
from hemafl_lib.partition import Site

NODE_APP = f"{__name__}:app"
"""How Flower names the client app of this module."""


def run_deployment(server_app: ServerApp, site_app: SiteApp, sites: Sequence[Site]) -> None:
    """Run a site app on one SuperNode a site, and the server app in this process."""
    with Deployment() as deployment:
        store_app(site_app, deployment.folder)
        store_sites(sites, deployment.folder)
        configs = [
            {"folder": str(deployment.folder), "partition-id": number, "num-partitions": len(sites)}
            for number in range(len(sites))
        ]
        deployment.start(NODE_APP, configs)
        deployment.run(server_app)


@functools.lru_cache(maxsize=1)
def stored_app(folder: str) -> ClientApp:
    """Return the client app of what lies in a folder, the same if it was the last to be asked for."""
    return load_app(Path(folder)).make_app(StoredSites(folder))


def answer(message: Message, context: Context) -> Message:
    """Answer a message as the client app of the node's folder does."""
    if "folder" not in context.node_config:
        raise FederationError("this node has no 'folder'; start it with --node-config 'folder=\"PATH\"'.")
    return stored_app(str(context.node_config["folder"]))(message, context)


app = ClientApp()
app.train()(answer)
app.evaluate()(answer)
app.query()(answer)
