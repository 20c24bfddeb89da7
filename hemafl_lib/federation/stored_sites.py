"""Sites in a folder, so that a process of its own can read the one that it stands for."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hemafl_lib.data import store
from hemafl_lib.partition import Site

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class StoredSites:
    """Sites in a folder, each read by the process that needs it; stands in for `list[Site]`."""

    folder: str
    names: tuple[str, ...]

    def __call__(self, number: int) -> Site:
        """Return site ``number``, from memory if this process has read it before."""
        return _read_site(self.folder, number, self.names[number])


def store_sites(sites: Sequence[Site], folder: Path) -> StoredSites:
    """Write every site's cohorts into ``folder``."""
    for number, site in enumerate(sites):
        for part in PARTS:
            store.save_cohort(getattr(site, part), folder / f"{number}-{part}.safetensors")
    return StoredSites(str(folder), tuple(site.name for site in sites))


@functools.lru_cache(maxsize=64)
def _read_site(folder: str, number: int, name: str) -> Site:
    parts = {part: store.read_cohort(Path(folder) / f"{number}-{part}.safetensors") for part in PARTS}
    return Site(name=name, **parts)
