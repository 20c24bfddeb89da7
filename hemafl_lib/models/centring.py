"""Features far from 0, such as a year of birth: measured from their mean before anything is exponentiated.

Where 0 lies makes no difference to the slopes of a regression, but e^(7000 b) is no number, and of squares
of 7,000 the digits that tell patients apart are lost.
"""

import numpy as np

FAR = 10.0
"""How many standard deviations from 0 a mean may lie before the feature is measured from it."""


def centre_of(mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Return from where each feature is measured, float64[F]: its mean if that is far from 0, else 0.

    ``mean`` and ``square`` are the means of the feature and of its square, float64[F].
    """
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    return np.where(np.abs(mean) > FAR * spread, mean, 0.0)
