"""An explorer's recorded pictures as a file of numbers in ``book/results``.

The file is written by `save` when a sweep is computed, and read by the page, so that opening or testing
a notebook never computes a sweep. It stores what all pictures share once.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hemafl_lib.errors import DataError
from hemafl_lib.files import read_json, write_json
from hemafl_lib.notebook import results
from hemafl_lib.notebook.widgets import Picture, Series, Setting


def save(name: str, recorded: Mapping[Setting, Picture]) -> None:
    """Write ``book/results/explorer-NAME.json``; numbers are rounded to three decimals."""
    pictures = [_rounded(asdict(picture)) for picture in recorded.values()]
    shared = {
        key: value for key, value in pictures[0].items() if all(picture[key] == value for picture in pictures)
    }
    rows = [
        {"setting": list(setting), **{k: v for k, v in picture.items() if k not in shared}}
        for setting, picture in zip(recorded, pictures, strict=True)
    ]
    write_json(results.folder() / f"explorer-{name}.json", {"shared": shared, "pictures": rows})


def load(name: str) -> dict[Setting, Picture]:
    """Read ``book/results/explorer-NAME.json``; raise `DataError` if it is missing or damaged."""
    path = results.folder() / f"explorer-{name}.json"
    content = read_json(path)
    try:
        return {
            tuple(row.pop("setting")): _picture({**content["shared"], **row}) for row in content["pictures"]
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); record the explorer again.") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value


def _picture(values: dict[str, Any]) -> Picture:
    series = [Series(**series) for series in values["series"]]
    ranges = {key: tuple(values[key]) for key in ("y_range", "x_range") if values[key] is not None}
    return Picture(**{**values, "series": series, **ranges})
