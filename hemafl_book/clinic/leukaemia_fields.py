"""Fields of leukaemia smears, drawn: what chapter 2's explorer shows, as models that one can have.

The weights trained on the real images of the chapter are not passed on, because the licence of the images
could not be verified.
"""

from pathlib import Path

from hemafl_book.clinic.family import Family, Material
from hemafl_book.clinic.outside import of_another_kind, outside
from hemafl_lib import partition
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.clinic import Place
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.training import Recipe

SIZE = 64
"""Side in pixels of the fields that the models read."""

HOSPITALS, UNSEEN = ("north", "south", "east"), ("harbour", "west")
CELLS, PATIENTS, FEW = 1200, 24, 200
SEED = 4


def material(root: Path | None) -> Material:
    """Return the drawn fields of three hospitals, and of two that nobody trains on; nothing is read."""
    cells = draw(HOSPITALS, CELLS)
    sites = partition.natural(cells, validation=0.15, test=0.2, seed=0)
    others = draw(UNSEEN, FEW)
    single = smear.simulate(FEW, size=SIZE, classes=smear.ELEVEN, sites=HOSPITALS, seed=SEED, masks=False)
    return Material(
        sites=sorted(sites, key=lambda site: HOSPITALS.index(site.name)),
        helpers=(),
        spare=cells.images[:0],
        unseen=[Place(f"{name} (drawn)", "unseen", others.of_site(name)) for name in UNSEEN],
        beyond={
            **outside(sites[0].test.images),
            **of_another_kind(single.images, "single cells"),
        },
        data=(cells.provenance, others.provenance),
    )


def draw(hospitals: tuple[str, ...], cells: int) -> ImageCohort:
    """Return drawn fields, one diagnosis a patient."""
    return smear.simulate(
        cells,
        size=SIZE,
        classes=smear.LEUKAEMIA,
        sites=hospitals,
        patients=PATIENTS,
        seed=SEED,
        masks=False,
    )


FAMILY = Family(
    name="leukaemia fields",
    title="Fields of leukaemia smears, drawn: {arm}",
    about=(
        "Trained on SIMULATED fields of leukaemia smears that hemafl_lib draws; no patient exists, and it "
        "has seen no real image. It shows how a model answers and is of no use for real smears. The classes "
        "are named after haematogones (benign) and early pre-B, pre-B and pro-B leukaemia, which no smear "
        "tells apart without immunophenotyping."
    ),
    classes=smear.LEUKAEMIA,
    simulated=True,
    material=material,
    recipe=Recipe(
        learning_rate=8e-3,
        batch_size=16,
        local_epochs=3,
        schedule="cosine",
        augmentation=Augmentation(flips=True),
    ),
    rounds=12,
    norm="group",
    settings={
        "size": SIZE,
        "hospitals": HOSPITALS,
        "unseen": UNSEEN,
        "fields": CELLS,
        "patients": PATIENTS,
        "seed of the fields": SEED,
        "smear": smear.VERSION,
    },
)
