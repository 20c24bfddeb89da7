"""White cells of Barcelona, as chapter 1's eleven-class study deals them: models for real cells.

The eleven classes are put together to the eight groups of the collection, because a network this small, of
this few cells, cannot tell the stages of granulocytes apart. All arms begin with a network trained on cells
of drawn hospitals: chapter 1 found that these help at hospitals that nobody trained on.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hemafl_book.clinic.family import Family, Material
from hemafl_book.clinic.outside import of_another_kind, outside
from hemafl_book.clinic.refused import DIAGNOSES, tried
from hemafl_book.papers import blood_morphology
from hemafl_lib import data, partition
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.clinic import Card, Place
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.training import Recipe

SIZE = 48
"""Side in pixels of the images that the models read."""

CLIENTS, UNSEEN = blood_morphology.SPLIT_CLIENTS, blood_morphology.SPLIT_UNSEEN[0]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "neutrophil": ("segmented_neutrophil", "band_neutrophil", "neutrophil"),
    "eosinophil": ("eosinophil",),
    "basophil": ("basophil",),
    "lymphocyte": ("lymphocyte",),
    "monocyte": ("monocyte",),
    "immature granulocyte": ("metamyelocyte", "myelocyte", "promyelocyte", "immature_granulocyte"),
    "erythroblast": ("erythroblast",),
    "platelet": ("platelet",),
}
"""The classes, and the cell types of each."""

STRANGERS: Mapping[str, str] = {"Tecom": "tecom", "BCCD": "bccd", "CellaVision": "cellavision"}
"""Hospitals that no arm sees, and the names of their data sets."""

DRAWN = "drawn hospitals"
DRAWN_HOSPITALS, DRAWN_CELLS, SPARE_CELLS = 10, 150, 15
SEED = 0


def material(root: Path | None) -> Material:
    """Return Barcelona's cells as two hospitals of their own stains, drawn ones, and who judges."""
    asked = replace(blood_morphology.protocol("paper", "real"), size=SIZE)
    parted = next(study for study in asked.studies if study.cohort == "eleven")
    whole = blood_morphology.eleven(asked, root)
    cells = grouped(blood_morphology.made_into_three(whole, parted, SEED))
    seen = cells.take(np.flatnonzero(np.isin(cells.site, CLIENTS)))
    sites = partition.natural(seen, validation=0.15, test=0.15, seed=SEED)
    drawn = drawn_cells(DRAWN_CELLS, SEED)
    fields = data.load_images("taleqani", size=SIZE, root=root)
    strange = {name: data.load_images(name, size=SIZE, root=root) for name in STRANGERS.values()}
    second = grouped(data.load_images("barcelona", size=SIZE, root=root).of_site("barcelona-2"))
    others = {name: grouped(cohort) for name, cohort in strange.items()}
    return Material(
        sites=sites,
        helpers=partition.natural(drawn, validation=0.0, test=0.0, seed=SEED),
        spare=drawn_cells(SPARE_CELLS, SEED + 1).images,
        unseen=[
            Place(f"{UNSEEN} (Barcelona's cells, stain drawn)", "related", cells.of_site(UNSEEN)),
            Place("Barcelona's second batch, own stain", "related", second),
            *(Place(name, "unseen", others[key]) for name, key in STRANGERS.items()),
        ],
        beyond={
            **outside(sites[0].test.images),
            **of_another_kind(fields.images, "fields of leukaemia smears"),
        },
        data=(cells.provenance, drawn.provenance, *(cohort.provenance for cohort in others.values())),
        tried=tried(
            {
                "home": sites[0].test.images,
                "Barcelona's second batch": second.images,
                **{name: others[key].images for name, key in STRANGERS.items()},
            },
            SIZE,
            root,
        ),
    )


def grouped(cohort: ImageCohort) -> ImageCohort:
    """Return the cells of the cohort that belong to a group, labelled with it."""
    group = {kind: number for number, kinds in enumerate(GROUPS.values()) for kind in kinds}
    labels = torch.tensor([group.get(name, -1) for name in cohort.classes])[cohort.labels]
    relabelled = replace(cohort, labels=labels, classes=tuple(GROUPS))
    return relabelled.take(np.flatnonzero(labels.numpy() >= 0))


def drawn_cells(each: int, seed: int) -> ImageCohort:
    """Return so many cells of each drawn hospital, as one client; ``seed`` is that of the cells."""
    names = [f"drawn-{number:02d}" for number in range(DRAWN_HOSPITALS)]
    styles = {name: smear.random_style(numpy_generator(SEED, "style", name)) for name in names}
    cells = smear.simulate(
        DRAWN_HOSPITALS * each,
        size=SIZE,
        classes=smear.ELEVEN,
        sites=styles,
        patients=10,
        seed=seed,
        masks=False,
    )
    return grouped(replace(cells, site=np.full(len(cells), DRAWN)))


def refusals(card: Card) -> str:
    """Return what a card counts as refused of cells that it has no class for, and of blurred ones."""
    of_kind = {each.of: percent(each.share) for each in card.refused}
    good = {score.where: percent(score.flagged) for score in card.scores if score.flagged is not None}
    blasts = ", ".join(f"{of_kind[kind]} of {kind}" for kind in DIAGNOSES.values())
    return (
        "Of single cells cut by a rule out of one other hospital's fields, and called after the diagnosis of "
        f"the field, it gives no answer to {blasts}; whether for their stain or for their kind these data "
        f"cannot say: it gives none to {good['Tecom']} of Tecom's and {good['BCCD']} of BCCD's good cells "
        "either. No other cell without a class was tried; "
        "expect it to be called something else. Of blurred cells of home it refuses "
        f"{of_kind['blurred, home']}."
    )


def percent(share: float) -> str:
    """Return a share as it is read."""
    return f"{100 * share:.0f} %"


FAMILY = Family(
    name="white cells",
    title="White cells of Barcelona, eight classes: {arm}",
    about=(
        "Trained on images of normal blood cells of the Hospital Clinic of Barcelona (Acevedo et al. 2020, "
        "Mendeley Data snkd93bnjr, CC BY 4.0), dealt to made-up hospitals whose stains are drawn; "
        "before, on SIMULATED cells of ten drawn hospitals, whose stains it takes for known, too. It reads "
        "a picture of a single cell that fills about half of the view. Neutrophils are segmented and band "
        "forms; immature granulocytes are normal promyelocytes, myelocytes and metamyelocytes, and no "
        "leukaemic promyelocyte was ever shown. There is no class for blasts, "
        "reactive or malignant lymphocytes, plasma cells or smudge cells. {refused} Erythroblasts "
        "and platelets are classes here, though they are no white cells."
    ),
    refusals=refusals,
    classes=tuple(GROUPS),
    simulated=False,
    material=material,
    recipe=Recipe(
        learning_rate=6e-3,
        batch_size=32,
        local_epochs=1,
        schedule="cosine",
        balanced_sampler=True,
        augmentation=Augmentation(flips=True, translate=0.1, rotate=180, stain=0.5),
    ),
    rounds=25,
    first_rounds=15,
    norm="group",
    settings={
        "size": SIZE,
        "clients": CLIENTS,
        "unseen": UNSEEN,
        "drawn hospitals": DRAWN_HOSPITALS,
        "drawn cells of each": DRAWN_CELLS,
        "smear": smear.VERSION,
    },
)
