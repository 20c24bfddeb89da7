"""Sites in a folder, so that a process of its own can read the one that it stands for."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hemafl_lib.data import store
from hemafl_lib.files import read_json, write_json
from hemafl_lib.partition import Site

PARTS = ("train", "validation", "test")

NAMES = "sites.json"


@dataclass(frozen=True)
class StoredSites:
    """Sites in a folder, each read by the process that needs it; stands in for `list[Site]`."""

    folder: str

    def __call__(self, number: int) -> Site:
        """Return site ``number``, from memory if this process has read it before."""
        return _read_site(Path(self.folder), number)


def store_sites(sites: Sequence[Site], folder: Path) -> StoredSites:
    """Write every site's name and cohorts into ``folder``."""
    write_json(folder / NAMES, [site.name for site in sites])
    for number, site in enumerate(sites):
        for part in PARTS:
            store.save_cohort(getattr(site, part), folder / f"{number}-{part}.safetensors")
    return StoredSites(str(folder))


@functools.lru_cache(maxsize=64)
def _read_site(folder: Path, number: int) -> Site:
    parts = {part: store.read_cohort(folder / f"{number}-{part}.safetensors") for part in PARTS}
    return Site(name=read_json(folder / NAMES)[number], **parts)
