"""Measures that are taught line by line, against libraries that nobody here wrote."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from hemafl_lib import evaluation

KNOWN, CLASSES = 200, 4


@pytest.fixture(scope="module")
def rows():
    """Labels, and probabilities from which they were drawn."""
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.full(CLASSES, 0.6), 600)
    labels = (scores.cumsum(axis=1) < generator.random((600, 1))).sum(axis=1)
    return np.minimum(labels, CLASSES - 1), scores


@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_netcals(rows, bins):
    from netcal.metrics import ECE

    labels, scores = rows
    assert evaluation.expected_calibration_error(labels, scores, bins) == pytest.approx(
        ECE(bins).measure(scores, labels), abs=1e-12
    )


@pytest.mark.parametrize("true_temperature", [0.5, 2.5])
def test_the_temperature_and_what_it_mends_are_netcals(rows, true_temperature):
    from netcal.scaling import TemperatureScaling

    labels, scores = rows
    distorted = evaluation.apply_temperature(scores, 1 / true_temperature)
    theirs = TemperatureScaling()
    theirs.fit(distorted, labels)
    found = evaluation.fit_temperature(labels, distorted)
    # Theirs multiplies logits.
    assert found == pytest.approx(1 / float(np.squeeze(theirs.temperature)), rel=1e-4)
    mended = evaluation.apply_temperature(distorted, found)
    assert mended == pytest.approx(theirs.transform(distorted), abs=1e-4)


class Stated(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are its input."""

    def fit(self, scores, labels=None):
        self.classes_ = np.arange(CLASSES)
        return self

    def predict_proba(self, scores):
        return scores

    def predict(self, scores):
        return scores.argmax(axis=1)


def mapie_sets(rows, alpha, method, **options):
    """The sets of all rows but the `KNOWN` first, on which MAPIE chooses its threshold."""
    from mapie.classification import SplitConformalClassifier

    labels, scores = rows
    conformal = SplitConformalClassifier(
        Stated().fit(scores), confidence_level=1 - alpha, conformity_score=method, prefit=True, random_state=5
    )
    conformal.conformalize(scores[:KNOWN], labels[:KNOWN])
    return conformal.predict_set(scores[KNOWN:], conformity_score_params=options)[1][:, :, 0]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4])
def test_sets_by_the_true_probability_are_mapies(rows, alpha):
    labels, scores = rows
    threshold = evaluation.conformal_threshold(labels[:KNOWN], scores[:KNOWN], alpha)
    sets = evaluation.prediction_sets(scores[KNOWN:], threshold)
    assert np.array_equal(sets, mapie_sets(rows, alpha, "lac"))


class MapiesShares:
    """Draws the share of a class that MAPIE counts, which is one minus its random number."""

    def random(self, shape):
        return 1 - np.random.RandomState(5).uniform(size=shape)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4])
def test_random_adaptive_sets_are_mapies(rows, alpha):
    labels, scores = rows
    options = {"method": "aps", "generator": MapiesShares()}
    threshold = evaluation.conformal_threshold(labels[:KNOWN], scores[:KNOWN], alpha, **options)
    sets = evaluation.prediction_sets(scores[KNOWN:], threshold, **options)
    assert np.array_equal(sets, mapie_sets(rows, alpha, "aps", include_last_label="randomized"))
