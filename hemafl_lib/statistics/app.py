"""The same questions over Flower: a client app that answers queries, and `Hospitals` behind a grid.

The server broadcasts the name of a statistic with arrays, each node replies with arrays. What is done
with them is the code that runs over sites in memory, so the estimates agree to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.client import partition_of, reply
from hemafl_lib.federation.engines import check_engine, run_app
from hemafl_lib.federation.exchange import from_record, to_record
from hemafl_lib.federation.replies import REFUSAL, read_replies, wait_for_nodes
from hemafl_lib.federation.roster import Roster
from hemafl_lib.federation.site_app import SiteApp
from hemafl_lib.partition import Site
from hemafl_lib.statistics.agreed_grid import NEXT_FULL_CELL
from hemafl_lib.statistics.baseline import HAZARD_SUMS
from hemafl_lib.statistics.concordance import CONCORDANT_PAIRS
from hemafl_lib.statistics.cox import RISK_AND_TIE_SUMS, RISK_SUMS
from hemafl_lib.statistics.cox_stratified import LOCAL_LIKELIHOOD
from hemafl_lib.statistics.follow_up import EVENT_TIMES
from hemafl_lib.statistics.kaplan_meier import LIFE_TABLE
from hemafl_lib.statistics.logistic import LOGISTIC_DERIVATIVES
from hemafl_lib.statistics.messages import (
    MINIMUM,
    Arrays,
    Hospitals,
    Statistic,
    check_sites,
    message_of,
)
from hemafl_lib.statistics.standardise import MOMENTS

Outcome = TypeVar("Outcome")

CATALOGUE: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        MOMENTS,
        EVENT_TIMES,
        NEXT_FULL_CELL,
        RISK_SUMS,
        RISK_AND_TIE_SUMS,
        LOCAL_LIKELIHOOD,
        LOGISTIC_DERIVATIVES,
        LIFE_TABLE,
        HAZARD_SUMS,
        CONCORDANT_PAIRS,
    )
}
"""All that a node answers to; it refuses any other question."""

DEADLINE = 120.0
"""Seconds to wait for the nodes to come up."""


def query_app(load_site: Callable[[int], Site], minimum: int = MINIMUM) -> ClientApp:
    """Return the Flower app of a site that answers queries; ``load_site`` maps "partition-id" to its data.

    ``minimum`` is the site's own rule; nothing that a server sends can lower it.
    """
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return answer_query(message, context, load_site(partition_of(context)), minimum)

    return app


def answer_query(message: Message, context: Context, site: Site, minimum: int) -> Message:
    """Return one node's reply: arrays, or the sentence with which it refuses."""
    asked = message.content.config_records["config"]
    try:
        statistic = find_statistic(str(asked["statistic"]))
        question = from_record(message.content.array_records["arrays"])
        arrays = message_of(statistic, site, question, cast(list[str], asked["features"]), minimum)
    except FederationError as refusal:
        refused = reply(message, context, site, {})
        refused.content[REFUSAL] = ConfigRecord({"reason": str(refusal)})
        return refused
    return reply(message, context, site, {}, arrays)


def find_statistic(name: str) -> Statistic:
    """Return the statistic of that name; raise `FederationError` for one outside the `CATALOGUE`."""
    if name not in CATALOGUE:
        raise FederationError(f"statistic '{name}' is unknown; ask for one of {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def hospitals_behind(grid: Grid, names: Sequence[str], features: Sequence[str]) -> Hospitals:
    """Return the sites behind a Flower grid, in the order of their "partition-id"."""
    roster = Roster(names)

    def send(statistic: Statistic, question: Arrays) -> list[Arrays]:
        config = ConfigRecord({"statistic": statistic.name, "features": list(features)})
        content = RecordDict({"arrays": to_record(question), "config": config})
        nodes = wait_for_nodes(grid, len(names), DEADLINE)
        roster.call(nodes, grid)
        messages = [
            Message(content=content, message_type=MessageType.QUERY, dst_node_id=node) for node in nodes
        ]
        return arrays_of(grid.send_and_receive(messages), roster)

    return Hospitals(names, features, send)


def arrays_of(replies: Iterable[Message], roster: Roster) -> list[Arrays]:
    """Return the arrays of all replies in the order of the sites.

    Raises `FederationError`, which names the site by the node that was asked, if a site refuses or fails, if
    its reply cannot be read or is not its own, or if it is missing: an exact result needs every site.
    """
    answers: list[Arrays] = []
    for each in read_replies(replies, roster, len(roster.names)):
        site = f"site '{each.site}'" if each.site in roster.names else each.site
        if each.failure is not None:
            raise FederationError(f"{site}: {each.failure}; mend it there and ask again, or leave it out.")
        if each.refusal is not None:
            raise FederationError(f"{site}: {each.refusal}.")
        if each.arrays is None:
            raise FederationError(f"{site}: it holds no arrays; let its node run the app of this library.")
        answers.append(each.arrays)
    if len(answers) != len(roster.names):
        raise FederationError(
            f"{len(answers)} of {len(roster.names)} sites replied with a partition-id of their own; "
            "start each node with its own."
        )
    return answers


@dataclass(frozen=True)
class Answers(SiteApp):
    """The site app that answers queries from the `CATALOGUE`; ``minimum`` is as in `query_app`."""

    minimum: int = MINIMUM

    def make_app(
        self, load_site: Callable[[int], Site], stop: Callable[[], bool] = lambda: False
    ) -> ClientApp:
        """Return the Flower app of a site, see `query_app`."""
        return query_app(load_site, self.minimum)


def over_flower(
    sites: Sequence[Site[TableCohort]],
    task: Callable[[Hospitals], Outcome],
    *,
    engine: str = "local",
    minimum: int = MINIMUM,
) -> Outcome:
    """Return ``task(hospitals)``, every question of which travels as a Flower message.

    For whom: who wants these statistics from hospitals on real nodes, with the same task as in memory.

    Parameters
    ----------
    sites
        Each becomes one node.
    task
        For example ``lambda hospitals: cox(hospitals, grid=months)``.
    engine
        "local", "simulation" or "deployment", as in `hemafl_lib.federation.run`.
    minimum
        The smallest count that a site tells.

    Raises
    ------
    FederationError
        If the engine is unknown, a node fails, or the task raises it.
    """
    check_engine(engine)
    check_sites(sites)
    names, features = [site.name for site in sites], sites[0].train.feature_names
    outcome: list[Outcome] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        outcome.append(task(hospitals_behind(grid, names, features)))

    run_app(engine, server_app, Answers(minimum), sites, progress=False)
    return outcome[0]
