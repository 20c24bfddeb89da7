"""Statistics over sites that need no rows: sums travel, and the estimates are those of pooled rows.

Each method is a pair: what a site computes from its rows, a pure function from a table to a message, and
what the server does with the sums of the messages. Every result carries an `Account`: how many rounds,
how many bytes, and what each kind of message reveals. ``over_flower`` runs the same over Flower.

Budget: 2300 lines.
"""

from hemafl_lib.statistics.agreed_grid import AgreedGrid, agreed_grid
from hemafl_lib.statistics.app import CATALOGUE, hospitals_behind, over_flower, query_app
from hemafl_lib.statistics.baseline import BaselineHazard, baseline_hazard
from hemafl_lib.statistics.concordance import Concordance, concordance, pair_counts
from hemafl_lib.statistics.cox import CoxFit, cox, risk_and_tie_sums
from hemafl_lib.statistics.cox_stratified import cox_stratified
from hemafl_lib.statistics.follow_up import on_grid
from hemafl_lib.statistics.kaplan_meier import SurvivalCurve, kaplan_meier
from hemafl_lib.statistics.logistic import FederatedLogisticFit, logistic
from hemafl_lib.statistics.messages import MINIMUM, Account, Hospitals, Statistic, hospitals_of
from hemafl_lib.statistics.standardise import Standardisation, standardise

__all__ = [
    "CATALOGUE",
    "MINIMUM",
    "Account",
    "AgreedGrid",
    "BaselineHazard",
    "Concordance",
    "CoxFit",
    "FederatedLogisticFit",
    "Hospitals",
    "Standardisation",
    "Statistic",
    "SurvivalCurve",
    "agreed_grid",
    "baseline_hazard",
    "concordance",
    "cox",
    "cox_stratified",
    "hospitals_behind",
    "hospitals_of",
    "kaplan_meier",
    "logistic",
    "on_grid",
    "over_flower",
    "pair_counts",
    "query_app",
    "risk_and_tie_sums",
    "standardise",
]
