"""Differential privacy: of the single record at a site, and of the whole site on the server.

"Only parameters are shared" hides nothing by itself. Differential privacy bounds what they tell about one
member of the data, by a number, epsilon, that an accountant adds up over the whole run.

The attacks that it should withstand are in ``inversion`` (a cell from a gradient) and ``membership`` (who was
in the data).

Budget: 1550 lines.
"""

from hemafl_lib.privacy import inversion, membership
from hemafl_lib.privacy.accounting import (
    ACCOUNTANTS,
    Steps,
    add_steps,
    compare_accountants,
    epsilon,
    noise_for,
)
from hemafl_lib.privacy.client_level import ClientPrivacy, clip_reply, noise_deviation
from hemafl_lib.privacy.record_level import RecordPrivacy, gradients_by_row, private_fit, round_steps

__all__ = [
    "ACCOUNTANTS",
    "ClientPrivacy",
    "RecordPrivacy",
    "Steps",
    "add_steps",
    "clip_reply",
    "compare_accountants",
    "epsilon",
    "gradients_by_row",
    "inversion",
    "membership",
    "noise_deviation",
    "noise_for",
    "private_fit",
    "round_steps",
]
