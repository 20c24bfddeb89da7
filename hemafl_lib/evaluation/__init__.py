"""How good is a model, for whom, and how sure can one be?"""

from hemafl_lib.evaluation.arithmetic import (
    attainable,
    nearest_counts,
    sizes_consistent_with,
)
from hemafl_lib.evaluation.calibration import (
    apply_temperature,
    brier,
    classwise_calibration_error,
    expected_calibration_error,
    fit_temperature,
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
from hemafl_lib.evaluation.conformal import (
    conformal_threshold,
    nonconformity,
    prediction_sets,
    set_summary,
)
from hemafl_lib.evaluation.fairness import (
    Spread,
    jain_index,
    spread,
)
from hemafl_lib.evaluation.selective import (
    area_under_risk_coverage,
    confidence_auroc,
    confidence_by_correctness,
    risk_coverage,
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
    "Spread",
    "accuracy",
    "apply_temperature",
    "area_under_risk_coverage",
    "attainable",
    "balanced_accuracy",
    "bootstrap_interval",
    "brier",
    "classwise_calibration_error",
    "confidence_auroc",
    "confidence_by_correctness",
    "conformal_threshold",
    "confusion_matrix",
    "expected_calibration_error",
    "fit_temperature",
    "jain_index",
    "macro_f1",
    "mcnemar",
    "nearest_counts",
    "nonconformity",
    "paired_bootstrap",
    "per_class",
    "prediction_sets",
    "prior_adjusted_precision",
    "reliability",
    "restrict",
    "risk_coverage",
    "seed_interval",
    "set_summary",
    "sizes_consistent_with",
    "spread",
]
