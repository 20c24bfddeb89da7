"""The mapping file: what a hospital calls its columns, units, codes and folders, in TOML.

Two tables of a file are for the two kinds of data, and either may be missing::

    smallest_count = 5               # smaller counts of deaths, withdrawals or labels are refused

    [table]
    file = "patients.csv"
    patient = "PatNr"                # the column that tells patients apart
    missing = ["-9", "k.A."]         # cells that say: not known

    [table.outcome]                  # survival: from an origin to the last date known ...
    kind = "survival"
    event = "Status"
    codes = { dead = 1, alive = 0 }
    origin = "Diagnosis"
    last = "LastSeen"
    dates = "%d.%m.%Y"
                                     # ... or a length of time: time = "Months", unit = "months"

    [table.features.haemoglobin]     # the federation's name
    column = "Hb"
    unit = "g/l"                     # the unit of the column

    [table.features.male]
    column = "Sex"
    codes = { m = 1, f = 0 }

    [images]
    suffixes = [".png"]
    patient = "prefix"               # the file's name up to "_" names the patient

    [images.classes]                 # folder = type of cell
    SEG = "segmented_neutrophil"
"""

import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hemafl_lib.data.classes import CELL_TYPES
from hemafl_lib.data.images import FORMATS
from hemafl_lib.data.own.quantities import quantity
from hemafl_lib.data.tables import PER_MONTH
from hemafl_lib.errors import DataError, one_line


def inside(path: str) -> str:
    """Return a path; raise ValueError if it could lead out of the data folder, on whatever system."""
    for kind in (PurePosixPath(path), PureWindowsPath(path)):
        if kind.anchor or ".." in kind.parts or "\0" in path:
            raise ValueError("it must lie in the data folder: give its path there, without '..'")
    return path


Text = Annotated[str, Field(min_length=1, max_length=200)]
Inside = Annotated[Text, AfterValidator(inside)]

FILL_IN = "?"
"""What a drafted mapping holds where a person has to decide."""


class Part(BaseModel):
    """Part of a mapping: other names, other types and numbers that are not finite are refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Feature(Part):
    """Where a feature is: the ``column``, with the ``unit`` of its numbers or the ``codes`` of its words.

    ``low`` and ``high`` bound the values as they stand in the column.
    """

    column: Text
    unit: Text | None = None
    codes: dict[str, float] | None = None
    low: float | None = None
    high: float | None = None


class Survival(Part):
    """An outcome with a time: ``codes`` say which word of the column ``event`` means that it was observed.

    The time is a length (``time`` in ``unit``), or goes from the date ``origin`` to the date ``last``.
    """

    kind: Literal["survival"]
    event: Text
    codes: dict[str, Literal[0, 1]]
    time: Text | None = None
    unit: Text | None = None
    origin: Text | None = None
    last: Text | None = None
    dates: Text = "%Y-%m-%d"

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raise ValueError unless there is one way to know the time."""
        if (self.time is None) == (self.origin is None) or (self.origin is None) != (self.last is None):
            raise ValueError("give either 'time' with its 'unit', or 'origin' and 'last'")
        if self.time is not None and self.unit not in PER_MONTH:
            raise ValueError(f"'unit' must be one of {', '.join(PER_MONTH)}")
        if set(self.codes.values()) != {0, 1}:
            raise ValueError("'codes' must say which word means 1, the event, and which 0, none so far")
        return self


class Label(Part):
    """An outcome of two kinds: ``codes`` say which word of the column ``label`` means 1, and which 0."""

    kind: Literal["label"]
    label: Text
    codes: dict[str, Literal[0, 1]]


class TableMapping(Part):
    """The table of patients: its ``file`` in the data folder, and what its columns are."""

    file: Inside
    patient: Text
    missing: list[str] = []
    outcome: Annotated[Survival | Label, Field(discriminator="kind")]
    features: Annotated[dict[str, Feature], Field(min_length=1)]

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raise ValueError for a unit that the library cannot convert."""
        for name, feature in self.features.items():
            known = quantity(name)
            if not name.isidentifier():
                raise ValueError(f"the feature '{name}' must be a name of letters, digits and '_'")
            if known is not None and feature.codes is None and feature.unit not in known.factor:
                raise ValueError(
                    f"the unit of '{name}' is {feature.unit!r}, and it must be one of "
                    f"{', '.join(known.factor)}"
                )
        return self


class ImageMapping(Part):
    """The images: ``classes`` names the type of cell of each class folder; ``left_out`` are other folders.

    ``patient`` says what tells patients apart: "image" (each image is a patient of its own), "prefix" (the
    file's name up to the first "_") or "folder" (a folder in the class folder).
    """

    folder: Inside = "."
    suffixes: Annotated[list[Text], Field(min_length=1)]
    patient: Literal["image", "prefix", "folder"] = "image"
    left_out: list[str] = []
    classes: Annotated[dict[str, str], Field(min_length=1)]

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raise ValueError for types of cells and suffixes that are not known."""
        for folder, cell_type in self.classes.items():
            if cell_type not in CELL_TYPES:
                raise ValueError(
                    f"the class folder '{folder}' is said to hold '{cell_type}', and it must be one of "
                    f"{', '.join(CELL_TYPES)}"
                )
        for suffix in self.suffixes:
            if suffix.lower() not in FORMATS:
                raise ValueError(f"the suffix '{suffix}' must be one of {', '.join(FORMATS)}")
        return self


class Mapping(Part):
    """A mapping file; smaller counts of deaths, withdrawals or labels than ``smallest_count`` are refused."""

    smallest_count: Annotated[int, Field(ge=1)] = 5
    table: TableMapping | None = None
    images: ImageMapping | None = None

    @model_validator(mode="after")
    def fits(self) -> Self:
        """Raise ValueError for a mapping of nothing."""
        if self.table is None and self.images is None:
            raise ValueError("give '[table]' or '[images]'")
        return self


def read_mapping(path: Path | str) -> Mapping:
    """Return what a mapping file says; raise `DataError` if it cannot be read or says what cannot be."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not in UTF-8"
        raise DataError(f"the mapping {path} cannot be read ({reason}); correct the path or file.") from None
    return parse_mapping(text, str(path))


def parse_mapping(text: str, name: str) -> Mapping:
    """Return what the text of a mapping file says; ``name`` is what errors call it.

    Raises `DataError` in one sentence: the setting, its value, and what is allowed.
    """
    try:
        content = tomllib.loads(text)
        open_places = sorted(places_to_fill(content))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the mapping {name} is no TOML ({error}); correct that line.") from None
    except RecursionError:
        raise DataError(f"the mapping {name} has too many brackets in brackets; take them out.") from None
    if open_places:
        raise DataError(
            f"the mapping {name} still holds '{FILL_IN}' for {', '.join(open_places)}; fill in what is true."
        )
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        raise DataError(f"the mapping {name}: {sentence(error)}") from None


def places_to_fill(content: Any, place: str = "") -> list[str]:
    """Return the places of a mapping's content that a draft left open."""
    if isinstance(content, dict):
        inside = [places_to_fill(value, f"{place}.{name}".strip(".")) for name, value in content.items()]
        return [found for part in inside for found in part]
    return [place] if content == FILL_IN else []


def sentence(error: ValidationError) -> str:
    """Return what is wrong with the first wrong setting, and what would be right."""
    first = error.errors()[0]
    kinds = ("survival", "label")  # pydantic names the kind of outcome as if it were a place
    place = ".".join(str(step) for step in first["loc"] if step not in kinds) or "it"
    said = first["msg"].removeprefix("Value error, ").replace("Input should", "it must", 1)
    if first["type"] == "missing":
        return f"'{place}' is missing; add it."
    if first["type"] == "extra_forbidden":
        return f"'{place}' is no setting; look for a slip in its name, or take it out."
    if first["type"] == "value_error":
        return f"'{place}' will not do; {said}."
    return f"'{place}' is {one_line(repr(first['input']))}; {said}."
