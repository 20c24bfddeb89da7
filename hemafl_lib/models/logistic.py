"""Logistic regression as a model that sites train together, step by step.

`hemafl_lib.models.penalised` fits the same model to one table in a few Newton steps.
"""

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ModelError


class LogisticRegression(nn.Module):
    """A logit for each class: a weighted sum of the features, and a constant.

    All parameters begin at 0, where every class is equally likely: the loss has a single minimum, so a
    random beginning would help nothing. Train it with the loss "cross_entropy" of a `Recipe`.

    Parameters
    ----------
    features
        Number of features F; they should have mean 0 and standard deviation 1, and no value missing.
    classes
        Number of classes C.

    Raises
    ------
    ModelError
        If there is no feature, or are fewer than two classes.
    """

    def __init__(self, features: int, classes: int = 2) -> None:
        super().__init__()
        if features < 1 or classes < 2:
            raise ModelError(
                f"LogisticRegression: features={features} and classes={classes} must be at least 1 and 2."
            )
        self.weight = nn.Parameter(torch.zeros(classes, features))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits float32[B, C] of ``features`` float32[B, F]."""
        return features @ self.weight.T + self.bias
