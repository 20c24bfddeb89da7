"""Baselines without any deep learning: what an accuracy has to beat to mean anything."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hemafl_book.papers.arms import Prediction
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort
from hemafl_lib.errors import EvaluationError
from hemafl_lib.seeds import derive

ColourModel = Literal["logistic", "forest"]


def colour_statistics(images: Tensor) -> np.ndarray:
    """Return mean, standard deviation and 5th, 50th and 95th percentile of red, green and blue.

    ``images`` is uint8[N, 3, H, W]; the result float32[N, 15]. It knows nothing of shape.
    """
    pixels = images.flatten(2).float()
    quantiles = torch.quantile(pixels, torch.tensor([0.05, 0.5, 0.95]), dim=2)
    parts = [pixels.mean(dim=2), pixels.std(dim=2), *quantiles]
    return torch.cat(parts, dim=1).numpy()


def _classifier(model: ColourModel, seed: int) -> ClassifierMixin:
    """Return an untrained classifier that gives every class the same weight."""
    if model == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    if model == "forest":
        return RandomForestClassifier(
            n_estimators=300, class_weight="balanced", n_jobs=1, random_state=derive(seed, "forest") % 2**32
        )
    raise EvaluationError(f"'model' is '{model}'; choose 'logistic' or 'forest'.")


Answerer = Callable[[LabelledCohort], np.ndarray]
"""Returns probabilities float64[N, C] for the rows of a cohort."""

Learner = Callable[[ImageCohort], Answerer]
"""Learns from images."""


def learn_colours(train: ImageCohort, model: ColourModel = "logistic", seed: int = 0) -> Answerer:
    """Train a simple classifier on `colour_statistics`; see `colour_probabilities`."""
    classifier = _classifier(model, seed)
    classifier.fit(colour_statistics(train.images), train.labels.numpy())

    def answer(test: LabelledCohort) -> np.ndarray:
        result = np.zeros((len(test), len(train.classes)))
        result[:, classifier.classes_] = classifier.predict_proba(colour_statistics(test.inputs))
        return result

    return answer


def colour_probabilities(
    train: ImageCohort, test: ImageCohort, model: ColourModel = "logistic", seed: int = 0
) -> np.ndarray:
    """Return class probabilities float64[N, C] of a simple classifier on `colour_statistics`.

    Parameters
    ----------
    train, test
        What the classifier learns from, and the N images it judges. Classes that ``train`` lacks get
        probability 0.
    model
        ``"logistic"``: a logistic regression; ``"forest"``: a random forest of 300 trees, which also
        finds combinations of colours (Breiman, 2001).
    seed
        Decides the forest; the logistic regression is not random.

    Raises
    ------
    EvaluationError
        If the model is unknown.
    """
    return learn_colours(train, model, seed)(test)


def learn_shares(train: LabelledCohort) -> Answerer:
    """Learn no more than the class shares; see `majority_probabilities`."""
    return lambda test: np.tile(train.counts() / len(train), (len(test), 1))


def majority_probabilities(train: LabelledCohort, test: LabelledCohort) -> np.ndarray:
    """Return the class shares of ``train`` for every row of ``test``, float64[N, C].

    A classifier that looks at nothing: it always answers with the most common class, and its confidence
    is honest where the test has the same shares.
    """
    return learn_shares(train)(test)


def learners(seed: int) -> dict[str, Learner]:
    """Return what needs no network, by name.

    ``seed`` decides the forest.
    """
    return {
        "colour alone, logistic regression": learn_colours,
        "colour alone, random forest": partial(learn_colours, model="forest", seed=seed),
        "commonest class": learn_shares,
    }


def learn_and_answer(
    train: ImageCohort, judged: Mapping[str, ImageCohort], seed: int, named: Mapping[str, Learner]
) -> list[Prediction]:
    """Return what each learner, having learnt from ``train``, says about the cohorts that it is judged on."""
    answerers = {name: learn(train) for name, learn in named.items()}
    return [
        Prediction(name, seed, where, cohort.labels.numpy(), answer(cohort))
        for name, answer in answerers.items()
        for where, cohort in judged.items()
    ]
