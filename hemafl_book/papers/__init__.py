"""The papers' experiments, one module a paper, what they share, and the registry of them.

A paper's module holds its protocol as data (`protocol`), its cohorts and its tables (`run`, `report`), and
says in ``OFFER`` what can be asked of it; the loop over studies and seeds is `studies.run_studies`. To add a
paper, write its module and give it a line in `PAPERS`:
`hemafl run NAME`, `hemafl list`, `make results` and the tests then know it.

Budget: 9,850 lines.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from hemafl_book.fingerprint import Fingerprint, fingerprint
from hemafl_lib.errors import HemaflError

if TYPE_CHECKING:
    from hemafl_book.papers.changes import Changes
    from hemafl_book.papers.offer import Offer
    from hemafl_book.papers.where import Where
    from hemafl_book.results import Results

PAPERS: dict[str, str] = {
    "blood-morphology": "blood_morphology",
    "leave-one-out": "leave_one_out",
    "left-out-tuned": "left_out_tuned",
    "own-patients": "own_patients",
    "attention-cnn": "attention_cnn",
    "all-transfer": "all_transfer",
    "all-networks": "all_networks",
    "all-privacy": "all_privacy",
    "all-traffic": "all_traffic",
    "mds-survival": "mds_survival",
    "scd-infarct": "scd_infarct",
}
"""The module of each paper in this package, imported when it is asked for."""


class Paper(Protocol):
    """What the module of a paper has."""

    OFFER: "Offer"

    def protocol(self, preset: str, source: str, changes: "Changes") -> Any:
        """Return the protocol of a preset on a source of data, with changes."""

    def run(self, asked: Any, where: "Where") -> "Results":
        """Return the tables of a protocol, as `protocol` returns it.

        ``where`` names the folder of the data, engine, device, and the folder of what is finished.
        """

    def report(self, results: "Results") -> str:
        """Return what was found, as text."""


def find(name: str) -> Paper:
    """Return the module of a paper; raise `HemaflError` if there is none of that name."""
    if name not in PAPERS:
        raise HemaflError(f"experiment '{name}' is unknown; choose one of {', '.join(PAPERS)}.")
    return cast(Paper, import_module(f"{__name__}.{PAPERS[name]}"))


def code_of(name: str) -> Fingerprint:
    """Return the fingerprint of the code that decides a paper's numbers."""
    return fingerprint(f"{__name__}.{PAPERS[name]}", ("protocol", "run"))
