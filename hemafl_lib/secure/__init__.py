"""Secure aggregation: the server learns the sum of what the sites send, and no single part of it.

The protocol is that of Bonawitz et al. ("Practical secure aggregation for privacy-preserving machine
learning", 2017) for a server that is curious; of what a lying server might try, `session` says what a site
refuses. Read `session` first, then `aggregation` (the site's end) and `grid` (the server's).

Flower 1.41 has SecAgg+ (Bell et al. 2020) of its own, and it is not used here, for four reasons. It belongs
to Flower's legacy API: ``SecAggPlusWorkflow`` asks for a ``LegacyContext``, and there is nothing like it for
strategies of the Message API. Its mask generator folds the agreed key of 256 bits into a seed of 32 for
NumPy's Mersenne Twister, so that a server can try them all. Its client reveals whatever shares it is asked
for, also both of one site's. And it shortens each number to a range without a word.

Budget: 1780 lines.
"""

from hemafl_lib.secure.aggregation import SecureAggregation
from hemafl_lib.secure.grid import SecureGrid
from hemafl_lib.secure.noise import NoiseShare
from hemafl_lib.secure.session import Party, threshold_of, unmask
from hemafl_lib.secure.statistics import hospitals_together, over_flower

__all__ = [
    "NoiseShare",
    "Party",
    "SecureAggregation",
    "SecureGrid",
    "hospitals_together",
    "over_flower",
    "threshold_of",
    "unmask",
]
