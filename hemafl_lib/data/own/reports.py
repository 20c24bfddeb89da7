"""What is wrong with a hospital's own data, what is in it, and what of it leaves the hospital."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hemafl_lib.data.findings import shown
from hemafl_lib.data.own.images import examine_images
from hemafl_lib.data.own.mapping import ImageMapping, Mapping, TableMapping
from hemafl_lib.data.own.quantities import quantity
from hemafl_lib.data.own.table import examine_table

SHOWN = 200
"""Problems that a printed report names; the rest is counted."""

SMALLEST = 8
"""Side in pixels at which images are decoded to be checked."""


@dataclass(frozen=True)
class TableReport:
    """A table that was checked: ``problems`` and ``noted`` are lines, ``unread`` names of columns.

    ``features`` has one row a feature: ``unit``, ``known`` (patients), ``low``, ``median`` and ``high``.
    ``outcome`` counts patients by what became of them.
    """

    file: str
    patients: int
    features: pd.DataFrame
    outcome: dict[str, int]
    problems: tuple[str, ...]
    noted: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the table can be trained on."""
        return not self.problems

    def text(self) -> str:
        """Return the report as lines of text."""
        counts = ", ".join(f"{name} {count:,}" for name, count in self.outcome.items())
        lines = [f"{self.file}: {self.patients:,} patients with a known outcome ({counts or 'none'})"]
        if len(self.features):
            lines += [f"  {line}" for line in self.features.to_string(na_rep="-").split("\n")]
        lines += [f"  noted     {line}" for line in self.noted]
        if self.unread:
            lines.append(f"  unread    no part of the mapping names {', '.join(self.unread)}")
        lines += problem_lines(self.problems)
        return printable([*lines, "  the table can be used" if self.ok else "  NOT READY"])


@dataclass(frozen=True)
class ImagesReport:
    """Images that were checked: how many there are of each class and size, and all ``problems``."""

    folder: Path
    classes: dict[str, int]
    sizes: dict[str, int]
    patients: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is used as it lies."""
        return not self.problems

    def text(self) -> str:
        """Return the report as lines of text."""
        total = sum(self.classes.values())
        lines = [f"{self.folder}: {total:,} images of {self.patients:,} patients"]
        lines += [f"  class {name:28} {count:>7,}" for name, count in sorted(self.classes.items())]
        lines += [f"  size  {name:28} {count:>7,}" for name, count in sorted(self.sizes.items())[:SHOWN]]
        lines += problem_lines(self.problems)
        return printable([*lines, "  all images can be used" if self.ok else "  NOT AS IT SHOULD BE"])


def printable(lines: Iterable[str]) -> str:
    """Return a report's lines as one text; what cannot be printed of names in them is spelt out."""
    return "\n".join(map(shown, lines))


def problem_lines(problems: tuple[str, ...]) -> list[str]:
    """Return a printed line for each problem, as far as there are not too many."""
    lines = [f"  problem   {problem}" for problem in problems[:SHOWN]]
    rest = len(problems) - SHOWN
    return [*lines, f"            and {rest:,} more like these"] if rest > 0 else lines


def check_own(folder: Path | str, mapping: Mapping) -> list[TableReport | ImagesReport]:
    """Read all that a mapping names and report on it; raise `DataError` if a folder cannot be opened."""
    reports: list[TableReport | ImagesReport] = []
    if mapping.table is not None:
        reports.append(check_table(Path(folder), mapping.table))
    if mapping.images is not None:
        reports.append(check_images(Path(folder), mapping.images))
    return reports


def check_table(folder: Path, mapping: TableMapping) -> TableReport:
    """Report on a table."""
    table = examine_table(folder, mapping)
    names = [name for name in mapping.features if name in table.rows]
    rows = []
    for name in names:
        about, values = quantity(name), table.rows[name].dropna()
        unit = about.unit if about is not None else mapping.features[name].unit
        rows.append((unit or "code", len(values), values.min(), values.median(), values.max()))
    features = pd.DataFrame(rows, pd.Index(names), ["unit", "known", "low", "median", "high"])
    last = next((name for name in ("event", "label") if name in table.rows), None)
    counts = Counter([] if last is None else table.rows[last].tolist())
    return TableReport(
        file=mapping.file,
        patients=len(table.rows),
        features=features,
        outcome={f"{last}={value:g}": count for value, count in sorted(counts.items())},
        problems=table.problems,
        noted=table.noted,
        unread=table.unread,
    )


def check_images(folder: Path, mapping: ImageMapping) -> ImagesReport:
    """Report on folders of images."""
    found = examine_images(folder, mapping, SMALLEST)
    return ImagesReport(
        folder=found.listing.folder,
        classes=dict(Counter(cell.cell_type for cell in found.cells)),
        sizes=dict(Counter(f"{cell.width}x{cell.height}" for cell in found.cells)),
        patients=len({cell.patient for cell in found.cells}),
        problems=found.problems,
    )


def leaving(mapping: Mapping) -> list[str]:
    """Return in sentences what of the data of a mapping leaves the hospital, and what does not."""
    fewest = mapping.smallest_count
    told = ["The hospital's name and number in the federation."]
    if mapping.table is not None:
        names = ", ".join(mapping.table.features)
        told += [
            f"For the statistics: of {names}, how many values are known, their sum and their sum of squares; "
            "of a 0/1 feature the sum is a number of patients, however few.",
            "For Kaplan-Meier, Cox and logistic regression: sums over patients; the hospital refuses a sum in"
            f" which some patients, but fewer than {fewest}, died or withdrew between two times, or have a "
            "label.",
            "For DeepSurv: a network's weights after training, how many patients they rest on, loss and "
            "C-index.",
        ]
    if mapping.images is not None:
        told.append(
            "For images: a network's weights after training, how many images they rest on, loss and accuracy."
        )
    return [
        *told,
        "Where the hospital cannot do its part, a sentence that says so and quotes no cell or file.",
        "No row, image, date, patient's key, column name, file name or folder leaves the hospital as such. "
        "Sums and weights can still tell of patients, and of exact times whole rows can be reckoned; with "
        "secure aggregation the server reads no single hospital's sums and weights. How the model does at "
        "this hospital, and on how many patients or images, it reads in any case.",
    ]
