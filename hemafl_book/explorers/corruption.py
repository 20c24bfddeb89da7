"""What corrupted hospitals do: to the labels of their cells, and to what they send back."""

from dataclasses import replace
from typing import TypeVar

from hemafl_lib.data.cohort import LabelledCohort
from hemafl_lib.partition import Site

Labelled = TypeVar("Labelled", bound=LabelledCohort)


def mislabel(site: Site[Labelled]) -> Site[Labelled]:
    """Return the site with every training label moved to the next class."""
    labels = (site.train.labels + 1) % len(site.train.classes)
    return replace(site, train=replace(site.train, labels=labels))
