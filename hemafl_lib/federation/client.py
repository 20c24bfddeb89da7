"""The client app: what every site runs, whatever the engine."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import BudgetSpent, FederationError
from hemafl_lib.federation.exchange import (
    exchanged_names,
    from_record,
    get_arrays,
    get_record,
    set_arrays,
    to_record,
)
from hemafl_lib.federation.flower_private import Mod
from hemafl_lib.federation.model_copy import copy_model
from hemafl_lib.federation.site_app import SiteApp
from hemafl_lib.federation.trainer import Trainer
from hemafl_lib.partition import Site
from hemafl_lib.seeds import torch_generator
from hemafl_lib.settings import Settings
from hemafl_lib.training import Recipe, score


@dataclass(frozen=True)
class Job(Settings, SiteApp):
    """What all sites are told once: the model to train and how.

    ``model`` is a template and never trained itself; every client works on a copy. ``mods`` stand around
    the client app, the first outermost.
    """

    model: nn.Module
    recipe: Recipe
    seed: int
    keep_local: str | None = None
    device: str | None = None
    trainer: Trainer = field(default_factory=Trainer)
    mods: tuple[Mod, ...] = ()

    def make_app(
        self, load_site: Callable[[int], Site], stop: Callable[[], bool] = lambda: False
    ) -> ClientApp:
        """Return the Flower app of a site, see `client_app`."""
        return client_app(self, load_site, stop)


def client_app(
    job: Job, load_site: Callable[[int], Site], stop: Callable[[], bool] = lambda: False
) -> ClientApp:
    """Return the Flower app of a site; ``load_site`` maps its "partition-id" to its data.

    ``stop`` is asked between batches, so that an interrupted run ends at once.
    """
    app = ClientApp(mods=list(job.mods))
    travelling = exchanged_names(job.model, job.keep_local)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site, model = load_site(partition_of(context)), site_model(job, message, context)
        config = get_record(message.content, "config", ConfigRecord)
        try:
            measured = job.trainer.train(
                model,
                site.train,
                job.recipe,
                torch_generator(job.seed, "fit", site.name, whole_number(config, "server-round")),
                context.state,
                progress=schedule_progress(job.recipe, config),
                device=job.device,
                stop=stop,
            )
        except BudgetSpent as error:
            return refusal_to_train(message, context, site, str(error))
        keep_at_site(job, model, context)
        metrics = {"num-examples": len(site.train), **measured}
        return reply(message, context, site, metrics, get_arrays(model, travelling))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        site, model = load_site(partition_of(context)), site_model(job, message, context)
        metrics = score(model, site.validation, job.recipe, device=job.device)
        return reply(message, context, site, {"num-examples": len(site.validation), **metrics})

    return app


def partition_of(context: Context) -> int:
    """Return which of the sites this node is; raise `FederationError` if it was not told."""
    if "partition-id" not in context.node_config:
        raise FederationError(
            "this node has no 'partition-id'; start it with --node-config 'partition-id=K'."
        )
    return int(context.node_config["partition-id"])


def site_model(job: Job, message: Message, context: Context) -> nn.Module:
    """Return a copy of the template with the global arrays, and with those that stayed at the site."""
    torch.set_num_threads(1)
    model = copy_model(job.model)
    set_arrays(model, from_record(get_record(message.content, "arrays", ArrayRecord)))
    if "local-arrays" in context.state:
        set_arrays(model, from_record(get_record(context.state, "local-arrays", ArrayRecord)))
    return model


def keep_at_site(job: Job, model: nn.Module, context: Context) -> None:
    """Store the arrays that do not travel in the node's own state."""
    if job.keep_local is None:
        return
    travelling = set(exchanged_names(model, job.keep_local))
    local = [name for name in exchanged_names(model) if name not in travelling]
    context.state["local-arrays"] = to_record(get_arrays(model, local))


def schedule_progress(recipe: Recipe, config: ConfigRecord) -> float:
    """Return the share of rounds already done; raise `FederationError` if the schedule needs it in vain."""
    if "num-rounds" in config:
        return (whole_number(config, "server-round") - 1) / whole_number(config, "num-rounds")
    if recipe.schedule != "constant":
        raise FederationError(
            f"schedule='{recipe.schedule}' needs 'num-rounds' in the train config; let the strategy send it."
        )
    return 0.0


def whole_number(config: ConfigRecord, name: str) -> int:
    """Return a whole number of a message's config; raise `FederationError` if it holds none."""
    value = config.get(name)
    if not isinstance(value, int):
        raise FederationError(f"the message's config has no whole number '{name}'; let the strategy send it.")
    return value


def reply(
    message: Message,
    context: Context,
    site: Site,
    metrics: dict[str, float],
    arrays: Parameters | None = None,
) -> Message:
    """Return the reply that both Flower's own strategies and ours understand.

    A metric that could not be measured (NaN), such as concordance where no two patients can be compared, is
    left out: a number that is none would have the reply refused.
    """
    measured = {name: value for name, value in metrics.items() if not math.isnan(value)}
    content = RecordDict(
        {
            "metrics": MetricRecord({**measured, "partition-id": partition_of(context)}),
            "site": ConfigRecord({"name": site.name}),
        }
    )
    if arrays is not None:
        content["arrays"] = to_record(arrays)
    return Message(content, reply_to=message)


def refusal_to_train(message: Message, context: Context, site: Site, reason: str) -> Message:
    """Return the reply of a site that must not train any more; it ends the run."""
    answer = reply(message, context, site, {"num-examples": len(site.train)})
    answer.content["spent"] = ConfigRecord({"reason": reason})
    return answer
