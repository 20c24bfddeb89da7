"""Settings: frozen dataclasses whose values are checked once, when they are made.

A class of settings states what it allows in its annotations, and pydantic checks it::

    @dataclass(frozen=True)
    class Recipe(Settings):
        loss: Literal["cross_entropy", "focal", "cox"] = "cross_entropy"
        learning_rate: Positive = 2e-3

A value that is not allowed gives one sentence (`HemaflError`, or what the class names in ``ERROR``). One
that is allowed stays exactly as it was given: 1 does not become 1.0, nor "1" a number, since a run is known
again by the ``repr`` of its settings and a protocol by their ``asdict``.

Budget: 110 lines.
"""

from dataclasses import fields
from functools import cache
from typing import Annotated, Any, ClassVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from hemafl_lib.errors import HemaflError

Positive = Annotated[float, Field(gt=0)]
"""A finite number above 0."""

NotNegative = Annotated[float, Field(ge=0)]
"""A finite number of at least 0."""

Probability = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""

Whole = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""


class Settings:
    """Base of a frozen dataclass whose values are checked against its annotations.

    NaN and infinity are refused, and numbers given as text. A rule between two settings goes into the
    subclass's own ``__post_init__``, which calls this one first.
    """

    ERROR: ClassVar[type[HemaflError]] = HemaflError
    """What is raised for a value that is not allowed."""

    def __post_init__(self) -> None:
        """Raise ``ERROR`` in one sentence: the class, the setting, its value, and what is allowed."""
        kind: Any = type(self)
        values = {field.name: getattr(self, field.name) for field in fields(kind)}
        try:
            _model(kind).model_validate(values)
        except ValidationError as error:
            raise kind.ERROR(f"{kind.__name__}: {_sentence(error.errors()[0])}") from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Settings inside settings were checked when they were made."""
        return core_schema.is_instance_schema(cls)


@cache
def _model(kind: Any) -> type[BaseModel]:
    """Return what checks a class of settings, made from its annotations."""
    hints = get_type_hints(kind, include_extras=True)
    # pydantic keeps some names for itself (``copy``, ``model_...``): an alias lets settings have any name.
    columns: Any = {
        f"setting_{index}": (hints[field.name], Field(alias=field.name))
        for index, field in enumerate(fields(kind))
    }
    rules = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return create_model(kind.__name__, __config__=rules, **columns)


def _sentence(error: ErrorDetails) -> str:
    """Return what is wrong with one setting, and what would be right."""
    name, *inside = error["loc"]
    # The errors of a union name its members after the setting; of a list, the place of the value in it.
    place = "".join(f"[{step}]" for step in inside if isinstance(step, int))
    value = f"{name}{place}={error['input']!r}"
    if error["type"] == "literal_error":
        return f"{value} is unknown; choose one of: {error['ctx']['expected'].replace(' or ', ', ')}."
    rule = error["msg"].replace("Input should", "it must", 1).replace("valid integer", "whole number")
    return f"{value} is not allowed; {rule}."
