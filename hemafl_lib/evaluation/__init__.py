"""How good is a model, for whom, and how sure can one be?"""

from hemafl_lib.evaluation.calibration import (
    brier,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)
from hemafl_lib.evaluation.classification import (
    Restricted,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    per_class,
    prior_adjusted_precision,
    restrict,
)
from hemafl_lib.evaluation.uncertainty import (
    Interval,
    McNemar,
    bootstrap_interval,
    mcnemar,
    paired_bootstrap,
    seed_interval,
)

__all__ = [
    "Interval",
    "McNemar",
    "Restricted",
    "accuracy",
    "balanced_accuracy",
    "bootstrap_interval",
    "brier",
    "classwise_calibration_error",
    "confusion_matrix",
    "expected_calibration_error",
    "macro_f1",
    "mcnemar",
    "paired_bootstrap",
    "per_class",
    "prior_adjusted_precision",
    "reliability",
    "restrict",
    "seed_interval",
]
