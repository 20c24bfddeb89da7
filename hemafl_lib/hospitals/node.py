"""The hospital's app: it trains, evaluates, and answers questions on the hospital's own data.

What goes wrong is told to the server in one sentence that quotes nothing of the data; the sentence with row
and file stays in the node's log. What a mapping file and its data say is read once for each kind of run.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp

from hemafl_lib import data
from hemafl_lib.data import own
from hemafl_lib.data.cohort import ImageCohort, TableCohort
from hemafl_lib.errors import DataError, FederationError, HemaflError
from hemafl_lib.federation.client import Job, client_app
from hemafl_lib.federation.exchange import from_record
from hemafl_lib.federation.flower_private import Mod
from hemafl_lib.federation.hospital import RunSettings, failure, read_settings
from hemafl_lib.federation.mods import check_kind
from hemafl_lib.hospitals.settings import APPS, DeepSurvRun, TableRun
from hemafl_lib.partition import Site, split
from hemafl_lib.secure import SecureAggregation
from hemafl_lib.settings import Settings
from hemafl_lib.statistics import Standardisation
from hemafl_lib.statistics.app import answer_query
from hemafl_lib.statistics.messages import COLUMNS, Account

LOGGER = logging.getLogger("flwr")

STANDARD = "standard"
"""The record of a message that holds the means and deviations over all hospitals."""


@dataclass(frozen=True)
class NodeConfig(Settings):
    """What a node knows about itself; its number and name alone leave it.

    With ``secure`` it tells updates and statistics summed under masks only, whatever the server asks; what an
    evaluation gives it tells as it is.
    """

    ERROR: ClassVar[type[FederationError]] = FederationError

    site: str
    data_folder: str
    mapping: str
    secure: bool


def answer(message: Message, context: Context) -> Message:
    """Do what the server asks, or say in one sentence why not."""
    try:
        check_kind(message)
        return app_of(message, context)(message, context)
    except DataError as error:
        reason = "its own data cannot be used as they are; 'hemafl data check' says there what is wrong"
        LOGGER.error("this node could not %s: %s", message.metadata.message_type, error)
    except HemaflError as error:
        reason = str(error)
        LOGGER.error("this node could not %s: %s", message.metadata.message_type, reason)
    except Exception as error:
        reason = f"an unexpected {type(error).__name__}, which is in its node's log"
        LOGGER.exception("this node could not %s", message.metadata.message_type)
    return failure(message, context, reason)


app = ClientApp()
app.train()(answer)
app.evaluate()(answer)
app.query()(answer)


def app_of(message: Message, context: Context) -> ClientApp:
    """Return the Flower app that answers a message, for this hospital's data and the server's settings."""
    node = read_settings(NodeConfig, context.node_config)
    name = str(context.run_config.get("app"))
    if name not in APPS:
        raise FederationError(f"the server asks for the app '{name}', which this library has not.")
    run = read_settings(APPS[name], context.run_config)
    mods: tuple[Mod, ...] = (SecureAggregation(),) if node.secure else ()
    if isinstance(run, RunSettings):
        images = own_images(node, run.size, run.classes, run.seed)
        return client_app(replace(run.job(), mods=mods), load(images))
    assert isinstance(run, TableRun)
    table, smallest = own_table(node, run.columns, run.OUTCOME)
    table = standardised(table, message)
    if isinstance(run, DeepSurvRun):
        table = split_table(table, run.seed)
        if message.metadata.message_type != MessageType.QUERY:
            return client_app(Job(run.model(), run.recipe(), run.seed, mods=mods), load(table))
    return query_app(table, smallest, mods)


def load(site: Site) -> Callable[[int], Site]:
    """Return what gives the app this hospital's own site, whatever its number."""
    return lambda number: site


def query_app(site: Site, smallest: int, mods: tuple[Mod, ...]) -> ClientApp:
    """Return the app that answers the questions of the statistics."""
    answering = ClientApp(mods=list(mods))

    @answering.query()
    def query(message: Message, context: Context) -> Message:
        return answer_query(message, context, site, smallest)

    return answering


@functools.lru_cache(maxsize=2)
def own_images(node: NodeConfig, size: int, classes: str, seed: int) -> Site[ImageCohort]:
    """Return the hospital's own images, split."""
    cohort = own.load_own_images(node.data_folder, own.read_mapping(node.mapping), node.site, size=size)
    return Site(node.site, *split(data.harmonise(cohort, classes), seed=seed))


@functools.lru_cache(maxsize=4)
def own_table(node: NodeConfig, columns: tuple[str, ...], outcome: str) -> tuple[Site[TableCohort], int]:
    """Return all rows of the hospital's own table as training rows, and its smallest count.

    Raises `FederationError`, which names features only, if the table lacks a feature or has another outcome.
    """
    mapping = own.read_mapping(node.mapping)
    cohort = own.load_own_table(node.data_folder, mapping, node.site)
    missing = [name for name in columns if name not in cohort.feature_names]
    if missing:
        raise FederationError(f"its table has no feature '{missing[0]}'; map it there, or leave it out.")
    if (cohort.label is None) != (outcome == "survival"):
        raise FederationError(f"its table has no outcome of the kind '{outcome}'; choose another app.")
    places = [cohort.feature_names.index(name) for name in columns]
    chosen = replace(cohort, features=cohort.features[:, places], feature_names=columns)
    nobody = chosen.take([])
    return Site(node.site, chosen, nobody, nobody), mapping.smallest_count


def split_table(site: Site[TableCohort], seed: int) -> Site[TableCohort]:
    """Return a hospital's rows split for training and validation."""
    return Site(site.name, *split(site.train, seed=seed))


def standardised(site: Site[TableCohort], message: Message) -> Site[TableCohort]:
    """Return the rows with unknown values filled, and scaled if asked, as the message's record says."""
    record = message.content.array_records.get(STANDARD)
    if record is None:
        return site
    told = from_record(record)
    size, names = len(site.train.feature_names), site.train.feature_names
    if any(told.get(name, np.zeros(0)).shape != (size,) for name in ("mean", "sd")):
        raise FederationError(
            "the server sends no mean and deviation of each feature; let it run this library."
        )
    values = pd.DataFrame(
        {name: told[name] for name in ("mean", "sd")}, index=pd.Index(names, name="feature")
    )
    nothing = Account(messages=pd.DataFrame(columns=COLUMNS))
    (filled,) = Standardisation(values, nothing).apply([site], scale=bool(told["scale"]))
    return filled
