"""Tables of what a model's confidence is worth: calibration, prediction sets, answers withheld.

Validation images choose what has to be chosen (the temperature, the thresholds of prediction sets);
test images judge. Neither was trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hemafl_book.papers.arms import Prediction
from hemafl_lib import evaluation

LEVEL = 0.05
"""Share of images whose prediction set may miss the true class."""

BINS = 10
COVERAGES = np.linspace(0.05, 1, 20)


def tables(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the tables of a study that predicted "joint" (test) and "validation" images, by title.

    Left out are arms that give a true class of a validation image the probability 0, such as a random
    forest or a model of one hospital without that class: no temperature can be fitted to them.
    """
    ready = [(held, test) for held, test in pair_up(predictions) if possible(held)]
    softened = [(held, at_temperature(held, test)) for held, test in ready]
    return {
        "calibration": pd.DataFrame([calibration(*pair) for pair in ready]),
        "reliability": pd.concat(
            [
                reliability([test for _, test in ready]).assign(scores="as trained"),
                reliability([test for _, test in softened]).assign(scores="temperature"),
            ]
        ),
        "right and wrong": pd.concat([right_and_wrong(test) for _, test in ready]),
        "prediction sets": pd.concat(
            [sets(held, test, classes, by_class) for held, test in ready for by_class in (False, True)]
        ),
        "risk and coverage": pd.concat([risk_by_coverage(test) for _, test in ready]),
    }


def pair_up(predictions: Sequence[Prediction]) -> Iterator[tuple[Prediction, Prediction]]:
    """Yield each model's answers on validation and on test images."""
    held = {(p.arm, p.seed): p for p in predictions if p.where == "validation"}
    for test in predictions:
        if test.where == "joint" and (test.arm, test.seed) in held:
            yield held[test.arm, test.seed], test


def possible(held: Prediction) -> bool:
    """Tell whether every true class has a probability above 0."""
    return bool((held.probabilities[np.arange(len(held.labels)), held.labels] > 0).all())


def at_temperature(held: Prediction, test: Prediction) -> Prediction:
    """Return the test answers at the temperature that suits the validation answers best."""
    temperature = evaluation.fit_temperature(held.labels, held.probabilities)
    return replace(test, probabilities=evaluation.apply_temperature(test.probabilities, temperature))


def calibration(held: Prediction, test: Prediction) -> dict[str, object]:
    """Return one model's calibration on the test images, before and after temperature scaling."""
    errors = {
        "ECE": evaluation.expected_calibration_error,
        "class-wise ECE": evaluation.classwise_calibration_error,
        "Brier": evaluation.brier,
    }
    softened = at_temperature(held, test)
    row = {
        "arm": test.arm,
        "seed": test.seed,
        "temperature": evaluation.fit_temperature(held.labels, held.probabilities),
    }
    for name, error in errors.items():
        row[name] = error(test.labels, test.probabilities)
        row[f"{name}, temperature"] = error(softened.labels, softened.probabilities)
    return row


def reliability(tests: Sequence[Prediction]) -> pd.DataFrame:
    """Return the reliability diagram of each arm, the answers of all its seeds together."""
    parts = []
    for arm in dict.fromkeys(test.arm for test in tests):
        own = [test for test in tests if test.arm == arm]
        labels = np.concatenate([test.labels for test in own])
        scores = np.concatenate([test.probabilities for test in own])
        parts.append(evaluation.reliability(labels, scores, bins=BINS).assign(arm=arm))
    return pd.concat(parts)


def right_and_wrong(test: Prediction) -> pd.DataFrame:
    """Return count, mean and median confidence of a model's right and wrong answers."""
    table = evaluation.confidence_by_correctness(test.labels, test.probabilities).reset_index()
    auroc = evaluation.confidence_auroc(test.labels, test.probabilities)
    return table.assign(arm=test.arm, seed=test.seed, AUROC=auroc)


def sets(held: Prediction, test: Prediction, classes: Sequence[str], by_class: bool) -> pd.DataFrame:
    """Return coverage and size of a model's prediction sets, overall and by class."""
    threshold = evaluation.conformal_threshold(held.labels, held.probabilities, LEVEL, by_class=by_class)
    found = evaluation.prediction_sets(test.probabilities, threshold)
    table = evaluation.set_summary(test.labels, found, classes).reset_index()
    return table.assign(arm=test.arm, seed=test.seed, thresholds="one a class" if by_class else "one for all")


def risk_by_coverage(test: Prediction) -> pd.DataFrame:
    """Return the share of wrong answers among the most confident, at fixed shares answered."""
    curve = evaluation.risk_coverage(test.labels, test.probabilities)
    at = curve["coverage"].to_numpy().searchsorted(COVERAGES - 1e-9).clip(max=len(curve) - 1)
    area = evaluation.area_under_risk_coverage(test.labels, test.probabilities)
    risk = curve["risk"].to_numpy()[at]
    return pd.DataFrame(
        {"arm": test.arm, "seed": test.seed, "coverage": COVERAGES, "risk": risk, "area": area}
    )
