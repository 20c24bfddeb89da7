"""Softmax regression by gradient descent in NumPy: what explorers train that nobody is to wait for.

A step of so small a model costs PyTorch twenty times what it costs NumPy. Tests hold the explorers that use
this to `hemafl_lib.federation.run`.
"""

import numpy as np


def with_one(features: np.ndarray) -> np.ndarray:
    """Return features float32[N, F] with a column of ones for the bias, float32[N, F + 1]."""
    return np.hstack([features, np.ones((len(features), 1), dtype=features.dtype)])


def scores(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the scores float32[N, C] of weights float32[F + 1, C], whose last row is the bias."""
    return with_one(features) @ weights


def step(weights: np.ndarray, inputs: np.ndarray, wanted: np.ndarray, rate: float) -> np.ndarray:
    """Return the weights after one step down the mean cross-entropy of some rows.

    ``inputs`` float32[N, F + 1] are features `with_one`, ``wanted`` float32[N, C] the labels as ones and
    zeros.
    """
    found = inputs @ weights
    grown = np.exp(found - found.max(axis=1, keepdims=True))
    wrong = grown / grown.sum(axis=1, keepdims=True) - wanted
    return weights - rate / len(inputs) * (inputs.T @ wrong)
