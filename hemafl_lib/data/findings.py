"""What lies in a folder beside good images: what `load` does with it, and what a reader should do.

`KINDS` decides both once. A finding that is not refused is left out, or read in one of several possible ways;
`load` then states it in the provenance, and for `check` the folder is not as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Kind:
    """A kind of finding: ``what`` becomes of it, its ``remedy``, and whether `load` refuses its folder."""

    what: str
    remedy: str
    refused: bool = False


KINDS = {
    "suffix": Kind(
        "left out, because its suffix is none of this layout",
        "save it as the layout says, or move it out of the folder",
    ),
    "outside": Kind(
        "left out, because it lies outside the folders that this layout reads",
        "move it to the folder of its class, or away",
    ),
    "hidden": Kind(
        "left out, because it has the name of a hidden or system file",
        "delete it, or rename it if it holds a cell",
    ),
    "link": Kind(
        "left out, because links are not followed", "put what it points to in its place, or delete it"
    ),
    "beside": Kind(
        "left out, because it is no file of this table", "delete it, or rename it if it is to be read"
    ),
    "unclaimed": Kind(
        "a folder of no cohort, or not under its cohort's name", "rename it as the card says, or move it away"
    ),
    "special": Kind("left out, because it is neither file nor folder", "delete it"),
    "lonely": Kind(
        "left out, because a picture, mask or row of the same number is missing", "restore it, or delete it"
    ),
    "empty": Kind("an empty folder", "fill it, or delete it"),
    "case": Kind("a class in another spelling", "rename it"),
    "two places": Kind(
        "in the place of one class and named like another", "move it to the folder of its class"
    ),
    "pages": Kind("more than one picture, of which the first is read", "save the first in a file of its own"),
    "turned": Kind("marked as turned by an orientation tag", "turn the picture itself, and delete the tag"),
    "transparent": Kind("partly transparent, read as white there", "save it without transparency"),
    "print": Kind("in the four colours of print, converted without a profile", "save it as RGB"),
    "copy": Kind("the same picture as another of its class", "delete one of the two"),
    "two labels": Kind("the same picture as one of another class", "delete the one whose class is wrong"),
    "nothing": Kind("no picture that can be read in it", "fill it, or delete it", refused=True),
    "unknown": Kind(
        "no known class", "move it out of the folder, or to the folder of its class", refused=True
    ),
    "name": Kind("a name that is not UTF-8", "rename it", refused=True),
    "closed": Kind(
        "a folder that cannot be opened", "give the user of this program the right to", refused=True
    ),
    "unread": Kind("cannot be read", "replace the file or remove it", refused=True),
}


class Finding(NamedTuple):
    """One finding: its kind, the path of its file or folder as `shown`, and what more there is to say."""

    kind: str
    file: str
    detail: str = ""

    @property
    def refused(self) -> bool:
        """Whether `load` refuses a folder with such a finding."""
        return KINDS[self.kind].refused

    def line(self) -> str:
        """Return the finding and its remedy as one sentence."""
        kind = KINDS[self.kind]
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.file}: {kind.what}{detail}; {kind.remedy}."


def sentences(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return one sentence for each kind of finding, in the order of `KINDS`: its count and an example."""
    told = []
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for finding in findings:
        by_kind[finding.kind].append(finding.file)
    for kind, files in by_kind.items():
        if files:
            what = KINDS[kind].what
            others = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
            told.append(f"{what[0].upper()}{what[1:]}: {files[0]}{others}.")
    return tuple(told)


def shown(path: object) -> str:
    """Return a path as one line of printable text, whatever bytes the file system holds."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
