"""Train the three arms of a family, measure them, and write them as saved models with their cards.

What was trained is kept in a folder, by what decides it: where only what the cards say has changed, nothing
is trained again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hemafl_book.clinic import FAMILIES
from hemafl_book.clinic.family import Family, Material
from hemafl_book.fingerprint import fingerprint
from hemafl_book.results import today
from hemafl_lib import __version__, federation
from hemafl_lib.clinic import Card, Place, SavedModel, Views, measured, save
from hemafl_lib.clinic.measuring import replace_in
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import AttentionCNN, load_model, save_model
from hemafl_lib.partition import Site

ARMS: Mapping[str, str] = {
    "one hospital": "one hospital alone",
    "federated": "a federation of hospitals",
    "centralised": "all cells in one place",
}
"""How each arm is trained, in the words of its card."""

TOGETHER = "hospitals of the federation, together"
"""The cells of all hospitals that train it."""


def make(
    name: str, folder: Path, kept: Path | None, root: Path | None, say: Callable[[str], object]
) -> list[SavedModel]:
    """Make the models of a family of `FAMILIES` in ``folder``/NAME/ARM, and return them.

    Parameters
    ----------
    name, folder
        The family, and where the models go.
    kept
        Folder for what is trained, from which it is taken if it is there; None keeps nothing.
    root
        Folder of the real data.
    say
        Gets a line for each model.

    Raises
    ------
    HemaflError
        If there is no such family, or its data are not there.
    """
    if name not in FAMILIES:
        raise HemaflError(f"family '{name}' is unknown; choose one of: {', '.join(FAMILIES)}.")
    family = FAMILIES[name]
    material = family.material(root)
    start = keep(family, material, "start", kept, partial(begin, family, material))
    made = []
    for arm in ARMS:
        network = keep(family, material, arm, kept, partial(train, family, material, arm, start))
        model = described(family, material, arm, network)
        save(model, folder / name / slug(arm))
        joint = next(score for score in model.card.scores if score.kind == "joint")
        say(f"{model.card.name}: balanced accuracy {joint.balanced_accuracy:.2f} on all test cells.")
        made.append(model)
    return made


def slug(arm: str) -> str:
    """Return the name of an arm's folder."""
    return arm.replace(" ", "-")


def keep(
    family: Family, material: Material, what: str, kept: Path | None, compute: Callable[[], nn.Module]
) -> nn.Module:
    """Return a trained network, from the folder of kept ones if it is there."""
    if kept is None:
        return compute()
    decides = {
        "what": what,
        "family": family.describe(),
        "data": data_of(material),
        "code": [code_of(begin), code_of(train)],
    }
    name = f"{family.name} {what}".replace(" ", "-")
    path = kept / f"{name}-{checksum(decides)[:16]}.safetensors"
    if not path.exists():
        save_model(compute(), path)
    return load_model(path)


def begin(family: Family, material: Material) -> nn.Module:
    """Return the network that all arms begin with: trained on drawn cells, if there are helpers."""
    network = AttentionCNN(len(family.classes), width=family.width, norm=family.norm, seed=family.seed)
    if not material.helpers:
        return network
    return federation.centralised(
        material.helpers,
        model=network,
        recipe=family.recipe,
        rounds=family.first_rounds,
        seed=family.seed,
        evaluate=False,
    ).model


def train(family: Family, material: Material, arm: str, start: nn.Module) -> nn.Module:
    """Train one arm from ``start``."""
    settings: dict[str, Any] = {
        "model": start,
        "recipe": family.recipe,
        "rounds": family.rounds,
        "seed": family.seed,
        "evaluate": False,
        "workers": 1,
    }
    if arm == "federated":
        return federation.run(material.sites, **settings).model
    sites = material.sites[:1] if arm == "one hospital" else material.sites
    return federation.centralised(sites, **settings).model


def described(family: Family, material: Material, arm: str, network: nn.Module) -> SavedModel:
    """Return a trained network with everything that its card says."""
    own = material.sites[:1] if arm == "one hospital" else material.sites
    home, everywhere = federation.pooled(own), federation.pooled(material.sites)
    card = Card(
        name=f"{family.name.replace(' ', '-')}/{slug(arm)}",
        family=family.name,
        arm=arm,
        title=family.title.format(arm=ARMS[arm]),
        about=family.about,
        simulated=family.simulated,
        classes=family.classes,
        sites=tuple(site.name for site in own),
        scores=(),
        temperature=1.0,
        sets=None,
        scope=(),
        code=checksum(code_of(make)),
        data=data_of(material),
        made=today(),
        version=__version__,
    )
    judged = [
        *(Place(site.name, "own", site.test) for site in own),
        *(Place(site.name, "unseen", site.test) for site in material.sites[len(own) :]),
        Place(TOGETHER, "joint", everywhere.test),
        *material.unseen,
    ]
    model = measured(
        network,
        card,
        size=home.train.size,
        held_out=named(home.validation, family),
        judged=[replace(place, cells=named(place.cells, family)) for place in judged],
        views=views_of(home, material),
    )
    about = family.about.format(refused=family.refusals(model.card))
    return replace(model, card=replace_in(model.card, about=about))


def views_of(home: Site[ImageCohort], material: Material) -> Views:
    """Return what the scopes are made of: home's cells and those of the drawn hospitals that help."""
    helping = [site.train.images for site in material.helpers]
    return Views(
        training=torch.cat([home.train.images, *helping]),
        held_out=torch.cat([home.validation.images, material.spare]),
        home=home.test.images,
        beyond=material.beyond,
        tried=material.tried,
    )


def named(cells: LabelledCohort, family: Family) -> LabelledCohort:
    """Return cells with the names of the classes that the card shows."""
    return replace(cells, classes=family.classes)


def data_of(material: Material) -> str:
    """Return one checksum of all data."""
    return checksum([source.checksum for source in material.data])


def code_of(function: Callable[..., object]) -> dict[str, str]:
    """Return the fingerprint of what a function of this module, and the families, reach."""
    return fingerprint(__name__, (function.__name__,))


def checksum(value: object) -> str:
    """Return a SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
