"""What follows from an estimate and its standard error."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm


def wald_table(estimate: np.ndarray, se: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Return estimates, 95 % confidence intervals and p-values by Wald, one row per name."""
    half = norm.ppf(0.975) * se
    columns = {"coefficient": estimate, "se": se, "lower": estimate - half, "upper": estimate + half}
    columns |= {"z": estimate / se, "p": 2 * norm.sf(np.abs(estimate / se))}
    return pd.DataFrame(columns, index=pd.Index(names, name="feature"))
