"""What a user may rely on when a model is compared with baselines that learn next to nothing."""

import os

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from hemafl_book.papers.baselines import (
    colour_probabilities,
    colour_statistics,
    learn_and_answer,
    learners,
    majority_probabilities,
)
from hemafl_lib import data
from hemafl_lib.data import smear
from hemafl_lib.errors import EvaluationError


@pytest.fixture(scope="module")
def cohort():
    return smear.simulate(80, size=32)


def test_logistic_regression_is_the_default_and_does_not_depend_on_the_seed(cohort):
    train, test = cohort.take(range(50)), cohort.take(range(50, 80))
    scaler = StandardScaler().fit(colour_statistics(train.images))
    model = LogisticRegression(max_iter=2000, class_weight="balanced")
    model.fit(scaler.transform(colour_statistics(train.images)), train.labels.numpy())
    expected = model.predict_proba(scaler.transform(colour_statistics(test.images)))
    found = colour_probabilities(train, test)
    assert found[:, model.classes_] == pytest.approx(expected)
    assert np.array_equal(found, colour_probabilities(train, test, "logistic", seed=1))


def test_the_forest_is_decided_by_its_seed_and_gives_a_missing_class_no_probability(cohort):
    train = cohort.take(np.flatnonzero(cohort.labels.numpy() != 2))
    first, again, other = (colour_probabilities(train, cohort, "forest", seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.all(first[:, 2] == 0)
    assert first.sum(axis=1) == pytest.approx(1)


def test_the_majority_baseline_is_scikit_learns_dummy(cohort):
    train, test = cohort.take(range(50)), cohort.take(range(50, 80))
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((50, 1)), train.labels.numpy())
    found = majority_probabilities(train, test)
    assert found.shape == (30, len(cohort.classes))
    assert found[:, dummy.classes_] == pytest.approx(dummy.predict_proba(np.zeros((30, 1))))


def test_an_unknown_model_is_refused(cohort):
    with pytest.raises(EvaluationError, match="'model' is 'tree'; choose"):
        colour_probabilities(cohort, cohort, "tree")


@pytest.mark.real
@pytest.mark.skipif("HEMAFL_DATA" not in os.environ, reason="HEMAFL_DATA does not name a data folder")
def test_colour_alone_nearly_gives_the_real_leukaemia_label_away(tmp_path, monkeypatch):
    if "taleqani" not in data.available():
        pytest.skip("HEMAFL_DATA does not hold 'taleqani'")
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path))
    cohort = data.load("taleqani", size=64)
    labels = cohort.labels.numpy()
    rows = train_test_split(np.arange(len(cohort)), test_size=0.2, random_state=0, stratify=labels)
    train, test = (cohort.take(part) for part in rows)
    accuracy = {
        model: np.mean(colour_probabilities(train, test, model).argmax(axis=1) == test.labels.numpy())
        for model in ("logistic", "forest")
    }
    majority = np.mean(majority_probabilities(train, test).argmax(axis=1) == test.labels.numpy())
    assert 0.90 < accuracy["logistic"] < 0.98
    assert 0.94 < accuracy["forest"] < 0.99
    assert majority == pytest.approx(985 / 3256, abs=0.01)


def test_what_learns_once_answers_as_if_it_had_learnt_anew_for_every_place(cohort):
    train, judged = cohort.take(range(50)), {"a": cohort.take(range(50, 70)), "b": cohort.take(range(70, 80))}
    forest = {"forest": learners(0)["colour alone, random forest"]}
    for said in learn_and_answer(train, judged, 0, forest):
        anew = colour_probabilities(train, judged[said.where], "forest", seed=0)
        assert np.array_equal(said.probabilities, anew)
