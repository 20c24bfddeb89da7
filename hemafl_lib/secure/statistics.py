"""Exact statistics from sums that no single site's part can be read from.

The estimates of `hemafl_lib.statistics` are written against `Hospitals`, which puts a question to all sites
and returns their messages. Most only add these up. Here the server gets the sum alone, as the message of one
large hospital that stands for all: `over_flower` runs the same lines over it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import PrivacyError
from hemafl_lib.federation.client import partition_of
from hemafl_lib.federation.engines import check_engine, run_app
from hemafl_lib.federation.site_app import SiteApp
from hemafl_lib.partition import Site
from hemafl_lib.secure.aggregation import SecureAggregation
from hemafl_lib.secure.session import threshold_of
from hemafl_lib.statistics.app import answer_query, hospitals_behind
from hemafl_lib.statistics.baseline import HAZARD_SUMS
from hemafl_lib.statistics.cox import RISK_AND_TIE_SUMS, RISK_SUMS
from hemafl_lib.statistics.cox_stratified import LOCAL_LIKELIHOOD
from hemafl_lib.statistics.kaplan_meier import LIFE_TABLE
from hemafl_lib.statistics.logistic import LOGISTIC_DERIVATIVES
from hemafl_lib.statistics.messages import MINIMUM, Arrays, Hospitals, Statistic, check_sites
from hemafl_lib.statistics.standardise import MOMENTS

Outcome = TypeVar("Outcome")

SUMS = (
    MOMENTS,
    RISK_SUMS,
    RISK_AND_TIE_SUMS,
    LOCAL_LIKELIHOOD,
    LOGISTIC_DERIVATIVES,
    LIFE_TABLE,
    HAZARD_SUMS,
)
"""The statistics of which a server needs nothing but the sum over sites."""

ALL = "all hospitals together"
"""The name of the hospital that stands for all."""


@dataclass(frozen=True)
class SecureAnswers(SiteApp):
    """The site app that answers queries with masked sums; ``minimum`` is as in `query_app`."""

    minimum: int = MINIMUM
    secure: SecureAggregation = field(default_factory=SecureAggregation)

    def make_app(
        self, load_site: Callable[[int], Site], stop: Callable[[], bool] = lambda: False
    ) -> ClientApp:
        """Return the Flower app of a site."""
        app = ClientApp(mods=[self.secure])

        @app.query()
        def query(message: Message, context: Context) -> Message:
            return answer_query(message, context, load_site(partition_of(context)), self.minimum)

        return app


def hospitals_together(
    grid: Grid, names: Sequence[str], features: Sequence[str], secure: SecureAggregation
) -> Hospitals:
    """Return the sites behind a Flower grid as one hospital, which tells their sums.

    Every site must be there for every question: an exact result needs all. Asking for anything but `SUMS`
    raises `PrivacyError`.
    """
    sites = hospitals_behind(secure.behind(grid), names, features)

    def send(statistic: Statistic, question: Arrays) -> list[Arrays]:
        if statistic not in SUMS:
            raise PrivacyError(
                f"'{statistic.name}' is no sum over sites, so secure aggregation has none of it; for "
                "survival give a 'grid' of times."
            )
        return sites.send(statistic, question)[:1]

    return Hospitals((ALL,), features, send)


def over_flower(
    sites: Sequence[Site[TableCohort]],
    task: Callable[[Hospitals], Outcome],
    *,
    secure: SecureAggregation | None = None,
    engine: str = "local",
    minimum: int = MINIMUM,
) -> Outcome:
    """Return ``task(hospitals)``, where the hospitals are one that tells the sums over all sites.

    As `hemafl_lib.statistics.over_flower`, but that no message of a single site can be read. Numbers of at
    least 2^-11 are added up exactly, so that a result differs from the plain one by rounding at most.

    Raises
    ------
    PrivacyError
        If there are fewer than three sites, or the task asks for what is no sum.
    FederationError
        As the plain one does.
    """
    check_engine(engine)
    check_sites(sites)
    secure = secure or SecureAggregation()
    threshold_of(secure.threshold, len(sites))
    names, features = [site.name for site in sites], sites[0].train.feature_names
    outcome: list[Outcome] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        outcome.append(task(hospitals_together(grid, names, features, secure)))

    run_app(engine, server_app, SecureAnswers(minimum, secure), sites, progress=False)
    return outcome[0]
