"""How good is a model, for whom, and how sure can one be?

Budget: 1800 lines.
"""

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
    Restriction,
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
from hemafl_lib.evaluation.roc import area_under_roc, roc_curves
from hemafl_lib.evaluation.selective import (
    area_under_risk_coverage,
    confidence_auroc,
    confidence_by_correctness,
    risk_coverage,
)
from hemafl_lib.evaluation.small_samples import (
    all_positive_f1,
    binary_f1,
    f1_interval,
    one_patient,
    repeated_folds,
    threshold_sweep,
)
from hemafl_lib.evaluation.survival import (
    brier_curve,
    calibration_at,
    concordance,
    concordance_by_site,
    harrell_c,
    integrated_brier_score,
    kaplan_meier_at,
    uno_c,
)
from hemafl_lib.evaluation.uncertainty import (
    Interval,
    McNemar,
    bootstrap_interval,
    difference_interval,
    mcnemar,
    paired_bootstrap,
    seed_interval,
    share_interval,
)

__all__ = [
    "Interval",
    "McNemar",
    "Restriction",
    "Spread",
    "accuracy",
    "all_positive_f1",
    "apply_temperature",
    "area_under_risk_coverage",
    "area_under_roc",
    "attainable",
    "balanced_accuracy",
    "binary_f1",
    "bootstrap_interval",
    "brier",
    "brier_curve",
    "calibration_at",
    "classwise_calibration_error",
    "concordance",
    "concordance_by_site",
    "confidence_auroc",
    "confidence_by_correctness",
    "conformal_threshold",
    "confusion_matrix",
    "difference_interval",
    "expected_calibration_error",
    "f1_interval",
    "fit_temperature",
    "harrell_c",
    "integrated_brier_score",
    "jain_index",
    "kaplan_meier_at",
    "macro_f1",
    "mcnemar",
    "nearest_counts",
    "nonconformity",
    "one_patient",
    "paired_bootstrap",
    "per_class",
    "prediction_sets",
    "prior_adjusted_precision",
    "reliability",
    "repeated_folds",
    "restrict",
    "risk_coverage",
    "roc_curves",
    "seed_interval",
    "set_summary",
    "share_interval",
    "sizes_consistent_with",
    "spread",
    "threshold_sweep",
    "uno_c",
]
