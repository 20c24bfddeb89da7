"""What stands beside a saved model: what it is, who trained it, how good it is where, and what it must say.

A card is read from a JSON file that may come from anybody. Whatever it says is checked here, and nothing of
it is run.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hemafl_lib.errors import ModelError, one_line
from hemafl_lib.settings import Positive, Probability

UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that Unicode counts as printable, and that nobody sees."""


def plain_name(name: str) -> str:
    """Return a name; raise ValueError if a reader could take it for another name.

    The page for own cells has the same rule (``book/_app/clinic/model.js``), so that no model passes for one
    of the book.
    """
    if not name.isprintable() or UNSEEN.search(name) or name != " ".join(name.split()):
        raise ValueError("it must be letters that can be seen, with single blanks between them")
    return name


def plain_text(text: str) -> str:
    """Return a text; raise ValueError if it holds what steers a terminal or turns the words around it."""
    if not all(letter.isprintable() or letter == "\n" or category(letter) == "Zs" for letter in text):
        raise ValueError("it must be letters, blanks and line ends that can be printed")
    return text


Text = Annotated[str, Field(max_length=2000), AfterValidator(plain_text)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(plain_name)]
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]
Row = Annotated[tuple[float, ...], Field(min_length=1, max_length=2000)]

MOST_CLASSES, WIDEST, LONGEST_SIDE = 100, 128, 1024
"""Classes, first-block channels and side in pixels of the largest network that a card may describe."""


class Checked(BaseModel):
    """Part of a card: other names, other types and numbers that are not finite are refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


Kind = Literal["own", "joint", "related", "unseen"]
"""Whose cells judge: a hospital's that trained, all such together, others of that hospital, a stranger's."""


class Score(Checked):
    """How good a model is at one place.

    Attributes
    ----------
    where, kind
        Whose cells: "own" of a hospital that trained, "joint" of all that trained, "related" if they come
        from the same hospital in another batch or stain, with which nobody trained, or "unseen".
    cells, classes
        How many cells were judged, and of how many classes.
    balanced_accuracy, low, high
        Mean recall of these classes with its 95 % interval.
    chance
        Balanced accuracy of always giving the same answer.
    calibration_error
        The mean gap between the probability of the answer and the share of right answers (15 bins). With few
        cells some of it is chance.
    coverage, set_size
        Share of the cells whose set holds the true class, and classes in a set on average.
    flagged
        Share of the cells that are called out of scope, though they are cells of these classes.
    """

    where: Name
    kind: Kind
    cells: Annotated[int, Field(ge=1)]
    classes: Annotated[int, Field(ge=1)]
    balanced_accuracy: Probability
    low: Probability
    high: Probability
    chance: Probability
    calibration_error: Probability | None = None
    coverage: Probability | None = None
    set_size: Annotated[float, Field(ge=0)] | None = None
    flagged: Probability | None = None


class Sets(Checked):
    """Split conformal sets: a set holds each class whose 1 - probability is at most ``threshold``.

    ``level`` is the share of cells from home whose set is to hold the true class.
    """

    level: Probability
    threshold: Probability


class Scope(Checked):
    """What images of the known kind look like: a Gaussian of some numbers of an image.

    Attributes
    ----------
    of
        "colours" (`hemafl_lib.clinic.colour_statistics`) or "features" (means of the feature maps).
    mean, matrix
        float[d] and float[k][d]: the squared distance of x is the squared length of matrix (x - mean).
    threshold
        An image farther away than this is out of scope.
    in_scope_flagged, out_of_scope_flagged
        Shares of images beyond the threshold: home's cells that had no part in choosing it, and images that
        are out of scope, all kinds together.
    detected
        The same for each kind of image that is out of scope.
    """

    of: Literal["colours", "features"]
    mean: Row
    matrix: Annotated[tuple[Row, ...], Field(min_length=1, max_length=2000)]
    threshold: Positive
    in_scope_flagged: Probability
    out_of_scope_flagged: Probability
    detected: dict[Name, Probability] | None = None

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raise ValueError unless each row of the matrix is as long as the mean."""
        if any(len(row) != len(self.mean) for row in self.matrix):
            raise ValueError("each row of 'matrix' must be as long as 'mean'")
        return self


class Refused(Checked):
    """The share of ``pictures`` of a kind, which is no cell of the classes or badly taken, without an answer.

    Nothing was chosen on these pictures, unlike on those that a `Scope` counts.
    """

    of: Name
    pictures: Annotated[int, Field(ge=1)]
    share: Probability


class Card(Checked):
    """Everything that is said of a saved model.

    Attributes
    ----------
    name, family, arm
        Models of one family are compared with each other; ``name`` is "FAMILY/ARM" in short.
    title, about
        One line, and a sentence or two: trained on what, by whom the images were taken, under which licence.
    simulated
        Whether it was trained on drawn cells only.
    classes, sites
        Names of the classes in the order of the logits, and of the hospitals that trained it.
    scores, sets, scope, refused
        See the classes of these names; ``sets`` is None and ``scope`` empty where nothing was held out to
        choose them on, and ``refused`` is empty where nothing was tried.
    temperature
        Probabilities are the softmax of the logits divided by this.
    code, data, made, version
        Fingerprint of the code, checksum of the data, the day, and the library's version.
    """

    name: Name
    family: Name
    arm: Name
    title: Text
    about: Text
    simulated: bool
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    sites: tuple[Name, ...]
    scores: tuple[Score, ...]
    temperature: Temperature
    sets: Sets | None = None
    scope: tuple[Scope, ...]
    refused: tuple[Refused, ...] = ()
    code: Text
    data: Text
    made: Text
    version: Text


class Attentive(Checked):
    """The settings of an `AttentionCNN`, whose weights are rounded to int8.

    ``size`` is the side in pixels of the images that it was trained on.
    """

    kind: Literal["AttentionCNN"] = "AttentionCNN"
    width: Annotated[int, Field(ge=1, le=WIDEST)]
    attention: Literal["se", "eca", "cbam", "none"]
    norm: Literal["batch", "frozen", "group", "none"]
    classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)]
    size: Annotated[int, Field(ge=8, le=LONGEST_SIDE)]


class Layered(Checked):
    """Any other network, which `hemafl_lib.models.save_model` wrote layer by layer, to the bit."""

    kind: Literal["layers"] = "layers"
    classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)]
    size: Annotated[int, Field(ge=8, le=LONGEST_SIDE)]


class Document(Checked):
    """The file ``card.json``; ``weights`` is the SHA-256 of the file beside it."""

    format: Literal["hemafl saved model"]
    version: Literal[1]
    weights: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    network: Annotated[Attentive | Layered, Field(discriminator="kind")]
    card: Card

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raise ValueError unless the card names the classes that the network tells apart, each once."""
        if len(self.card.classes) != self.network.classes:
            raise ValueError("'classes' must name each class of the network")
        if len(set(self.card.classes)) < len(self.card.classes):
            raise ValueError("'classes' must have a name of its own for each class")
        return self


def read_document(text: str, name: str) -> Document:
    """Return what the text of a ``card.json`` says; raise `ModelError`, which names it, if it is none."""
    try:
        return Document.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = one_line(".".join(str(step) for step in first["loc"]), 100)
        where, what = f"'{place}': " if place else "", first["msg"].removeprefix("Value error, ")
        raise ModelError(
            f"{name} is no card of a saved model ({where}{one_line(what, 200)}); save the model again."
        ) from None


def plain(part: Checked) -> dict[str, Any]:
    """Return a part of a card as plain JSON values, without what is not said, floats with six digits."""
    found: dict[str, Any] = _short(part.model_dump(mode="json", exclude_none=True))
    return found


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list | tuple) else value
