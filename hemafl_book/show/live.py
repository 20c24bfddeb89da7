"""Which data the live cells of a chapter run on.

The notebooks are stored with the outputs of what a paper embeds: simulated or shipped data. Whoever has the
real data sets ``HEMAFL_LIVE=real`` beside ``HEMAFL_DATA``, and the same cells run on them. ``HEMAFL_DATA``
alone does not do it: it is also set where the stored outputs are compared.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from hemafl_book.papers.offer import Offer
from hemafl_lib.data import data_root
from hemafl_lib.errors import HemaflError

VARIABLE = "HEMAFL_LIVE"


@dataclass(frozen=True)
class Live:
    """The data of a chapter's live cells.

    Attributes
    ----------
    source
        One of the sources of the chapter's paper.
    root
        The folder of the real data; None where the cells run on what is embedded.
    embedded
        What the numbers on the page were recorded on, in words.
    """

    source: str
    root: Path | None
    embedded: str

    @property
    def recorded(self) -> bool:
        """Whether the numbers on the page were recorded on these data."""
        return self.root is None


def live_data(offer: Offer) -> Live:
    """Return what the live cells of a paper's chapter run on.

    Raises `HemaflError` if ``HEMAFL_LIVE`` says something else than "real", and `DataError` if it does and
    there is no folder of real data.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return Live(offer.sources[-1], None, offer.embedded)
    if asked != "real":
        raise HemaflError(f"{VARIABLE}='{asked}' is unknown; set it to 'real', or leave it out.")
    return Live(offer.sources[0], data_root(), offer.embedded)
