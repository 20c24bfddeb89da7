"""What the paper on leukaemia by transfer learning prints, and what arithmetic alone says about it.

World Journal of Advanced Research and Reviews 24(03), 2795-2806 (2024): ten networks alone (table 1), the
three best in a federation (table 2), five folds of a cross-validation (figure 7). 3,242 images, each in
four flips, make 12,968; they were then split 70 / 20 / 10, which leaves 2,594 for the test.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import pandas as pd

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arithmetic import attainable, nearest_counts


class Row(NamedTuple):
    """One network's row of a table, in per cent, as printed."""

    network: str
    accuracy: str
    precision: str
    recall: str
    f1: str


ALONE = (
    Row("VGG16", "85.42", "86.1", "84.8", "85.45"),
    Row("VGG19", "86.31", "87", "85.9", "86.45"),
    Row("ResNet50", "88.23", "88.8", "87.5", "88.15"),
    Row("ResNet101", "89.4", "90.1", "88.9", "89.5"),
    Row("DenseNet121", "91.23", "91.8", "90.9", "91.35"),
    Row("NASNetMobile", "89.85", "90.4", "89.1", "89.75"),
    Row("InceptionV3", "92.42", "92.9", "91.8", "92.35"),
    Row("Xception", "91.8", "92.4", "91.1", "91.75"),
    Row("EfficientNetB0", "87.52", "88.1", "86.5", "87.3"),
    Row("MobileNetV2", "85.93", "86.5", "85.1", "85.8"),
)
"""Table 1: each network alone."""

FEDERATED = (
    Row("DenseNet121", "93.21", "93.8", "92.9", "93.35"),
    Row("InceptionV3", "95.49", "96.1", "94.8", "95.45"),
    Row("Xception", "94.15", "94.7", "93.8", "94.25"),
)
"""Table 2: the networks above 90 % in a federation of 10 rounds of 5 local epochs."""

FOLDS = ("95.13", "98.15", "95.88", "96.54", "96.41")
"""Figure 7: accuracies of five folds."""


class Related(NamedTuple):
    """What the paper says of an earlier one: authors, method, what is told apart, its figure as printed."""

    authors: str
    method: str
    task: str
    figure: str


RELATED = (
    Related("Das and Kuppan", "DenseNet in a federation", "two classes", "accuracy 94.3"),
    Related("Ghongade et al.", "pretrained networks", "two classes", '"high"'),
    Related("Ullah et al.", "VGG16 with channel attention", "not said", "accuracy 91.1"),
    Related("Haque et al.", "Inception-ResNet", "two classes; several", "F1 96.07; 95.89"),
    Related("Saeed et al.", "EfficientNetV2S with attention", "two classes", "accuracy 99.73"),
    Related("Ansari et al.", "a network of their own", "ALL and AML", "accuracy 99"),
    Related("Palczynski et al.", "MobileNetV2 and machine learning", "not said", "accuracy 97.4"),
)
"""The related work of section 2, as the paper describes it; with which images it was done is not said."""

ORIGINALS, COPIES, TEST_IMAGES = 3242, 4, 2594


def grim(percentages: Sequence[str], n: int = TEST_IMAGES, decimals: int = 2) -> pd.DataFrame:
    """Return, for each percentage, whether a whole number of ``n`` images gives it (see `attainable`).

    One row a percentage. Columns: ``printed``, ``attainable``, and ``nearest``, the unrounded percentages of
    the counts just below and above it, as text. A number made up passes with a chance of about
    n / 10^(decimals + 2): 26 % for 2,594 images and two decimals.
    """
    rows = []
    for printed in percentages:
        near = nearest_counts(printed, n, decimals)["percentage"]
        rows.append(
            {
                "printed": printed,
                "attainable": attainable(printed, n, decimals),
                "nearest": " or ".join(f"{value:.3f}" for value in near),
            }
        )
    return pd.DataFrame(rows)


def f1_from_row(table: Sequence[Row]) -> pd.DataFrame:
    """Return each row's F1 beside the two means of its precision and recall.

    The F1 of a table is the mean of the classes' F1, and in general neither mean of the mean precision and
    the mean recall. The harmonic mean, by which F1 is defined, lies (P - R)^2 / (2 (P + R)) below the
    arithmetic one: to two decimals they differ only where P and R are 1.3 points or more apart.

    Columns: ``network``, ``F1`` (as printed), ``mean`` and ``harmonic mean`` (rounded to two decimals), and
    whether the F1 ``is the mean`` and ``is the harmonic mean``, both rounded as the F1 is printed, and
    whether it is the harmonic mean ``to two decimals``: a table may drop the zeros at the end.
    """
    rows = []
    for row in table:
        precision, recall, f1 = (Decimal(value) for value in (row.precision, row.recall, row.f1))
        mean, harmonic = (precision + recall) / 2, 2 * precision * recall / (precision + recall)
        rows.append(
            {
                "network": row.network,
                "F1": row.f1,
                "mean": str(_round(mean)),
                "harmonic mean": str(_round(harmonic)),
                "is the mean": f1 == mean.quantize(f1, ROUND_HALF_UP),
                "is the harmonic mean": f1 == harmonic.quantize(f1, ROUND_HALF_UP),
                "to two decimals": f1 == _round(harmonic),
            }
        )
    return pd.DataFrame(rows)


def _round(value: Decimal) -> Decimal:
    """Return a percentage with two decimals."""
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


def share_with_sibling(copies: int = COPIES, training: float = 0.7) -> float:
    """Return the share of test images of which a copy is in the training set, if copies are split at random.

    None of the other ``copies - 1`` is there with probability (1 - training)^(copies - 1): 97.3 % of the
    paper's test images have a flipped sibling that the network was trained on.
    """
    _check(copies, training, "training")
    return 1 - (1 - training) ** (copies - 1)


def distinct_originals(originals: int = ORIGINALS, copies: int = COPIES, test: float = 0.2) -> float:
    """Return how many originals the test set holds on average, if their copies are split at random.

    An original has at least one copy there with probability 1 - (1 - test)^copies: the paper's 2,594 test
    images show 1,914 originals, so that they tell less than 2,594 images would.
    """
    _check(copies, test, "test")
    return originals * (1 - (1 - test) ** copies)


def _check(copies: int, share: float, name: str) -> None:
    """Refuse fewer than one copy and what is no share."""
    if copies < 1 or not 0 <= share <= 1:
        raise EvaluationError(
            f"'copies' is {copies} and '{name}' is {share}; give at least 1, and a share from 0 to 1."
        )
