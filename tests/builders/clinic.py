"""A saved model of random weights, and pictures for it."""

import torch

from hemafl_lib.clinic import Card, SavedModel, Scope, Sets, as_saved
from hemafl_lib.models import AttentionCNN
from hemafl_lib.seeds import torch_generator

CLASSES = ("lymphocyte", "monocyte", "neutrophil")
SIZE = 32


def a_card(**changes) -> Card:
    """A card that says something of everything; nothing of it was measured."""
    said = {
        "name": "cells/federated",
        "family": "cells",
        "arm": "federated",
        "title": "A model of a test",
        "about": "Trained on nothing.",
        "simulated": True,
        "classes": CLASSES,
        "sites": ("first", "second"),
        "scores": (),
        "temperature": 1.5,
        "sets": Sets(level=0.9, threshold=0.7),
        "scope": (),
        "code": "code",
        "data": "data",
        "made": "2026-01-01",
        "version": "0",
    }
    return Card(**{**said, **changes})


def a_scope(threshold: float) -> Scope:
    """A scope that measures how far an image's mean red is from a half."""
    return Scope(
        of="colours",
        mean=(0.5, *[0.0] * 14),
        matrix=((1.0, *[0.0] * 14),),
        threshold=threshold,
        in_scope_flagged=0.01,
        out_of_scope_flagged=0.9,
    )


def a_model(card: Card | None = None, **settings) -> SavedModel:
    """An attention CNN whose batch norms have seen some images."""
    network = AttentionCNN(len(CLASSES), **settings)
    with torch.no_grad():
        network.train()(images(16).float() / 255)
    return as_saved(network, SIZE, card or a_card())


def images(count: int) -> torch.Tensor:
    """Random images, uint8[count, 3, 32, 32]."""
    generator = torch_generator(0, "clinic images")
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator).to(torch.uint8)
