"""What makes a run this one and no other, part by part, so that a checkpoint can say what differs."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hemafl_lib.aggregation import Aggregator
from hemafl_lib.data.cohort import Cohort
from hemafl_lib.device import choose
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.client import Job
from hemafl_lib.partition import Site

Parts = dict[str, str]
"""A SHA-256 for every part of a run that decides its result, by the words that an error has for it."""


def run_parts(
    sites: Sequence[Site],
    job: Job,
    aggregator: Aggregator,
    monitor: Mapping[str, Cohort],
    **settings: Any,
) -> Parts:
    """Return all that decides a run's result.

    Of the data counts what they hold, row by row and in order, and not what they are called. ``settings``
    are plain values by name.

    Raises
    ------
    FederationError
        If the aggregator, the trainer or a mod holds something that could not be known again.
    """
    parts: dict[str, Any] = {"the names of the sites": [site.name for site in sites]}
    parts |= {
        f"the data of site '{site.name}'": [rows_of(site.train), rows_of(site.validation)] for site in sites
    }
    parts |= {f"the monitored cohort '{name}'": rows_of(cohort) for name, cohort in monitor.items()}
    parts |= {f"recipe.{name}": value for name, value in vars(job.recipe).items()}
    parts |= {"the model": job.model, "the aggregator": aggregator, "the trainer": job.trainer}
    parts |= {"the mods": list(job.mods), "seed": job.seed, "keep_local": job.keep_local}
    parts |= {"device": choose(job.device)} | settings
    return {name: content_hash(value, name) for name, value in parts.items()}


def rows_of(cohort: Cohort) -> dict[str, Any]:
    """Return the rows of a cohort and what its numbers stand for, without where they come from."""
    named = {name: getattr(cohort, name, None) for name in ("classes", "feature_names")}
    return {name: getattr(cohort, name) for name in cohort.ROWS} | named


def difference(ours: Parts, theirs: Parts) -> str | None:
    """Return in words which parts of two runs differ, at most three of them; None if none does."""
    differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if not differ:
        return None
    more = [f"{len(differ) - 3} more"] if len(differ) > 3 else []
    return ", ".join([*differ[:3], *more])


def content_hash(value: Any, name: str) -> str:
    """Return the SHA-256 of what a value holds; ``name`` is what an error calls it.

    It may be None, a bool, a number, a text, an array, a tensor, a model, a dataclass, or a list, tuple or
    mapping of these. A field of a dataclass counts if it stands in the dataclass's ``repr``. Raises
    `FederationError` for anything else.
    """
    digest = hashlib.sha256()
    feed(digest, value, name)
    return digest.hexdigest()


def feed(digest: "hashlib._Hash", value: Any, name: str) -> None:
    """Add a value to a hash, with what tells it from others that hold the same bytes."""
    digest.update(f"{type(value).__module__}.{type(value).__qualname__}:".encode())
    if value is None or isinstance(value, bool | int | float | str):
        digest.update(f"{value!r};".encode())
    elif isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        # The type of an array of texts depends on the longest in it, also after that one has been left out.
        texts = value.dtype.kind in "UO"
        feed(digest, value.tolist() if texts else torch.from_numpy(np.array(value)), name)
    elif isinstance(value, nn.Module):
        feed(digest, model_content(value), name)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)};".encode())
        for each in value:
            feed(digest, each, name)
    elif isinstance(value, Mapping):
        feed(digest, list(value.items()), name)
    elif dataclasses.is_dataclass(value):
        hidden = {field.name for field in dataclasses.fields(value) if not field.repr}
        feed(digest, [(key, held) for key, held in vars(value).items() if key not in hidden], name)
    else:
        raise FederationError(
            f"a checkpoint would not know {name} again, for it is or holds {value!r}; make it a frozen "
            "dataclass of plain values."
        )


def model_content(model: nn.Module) -> list[Any]:
    """Return what a model is and holds: its layers, their plain settings, and all tensors."""
    plain = bool | int | float | str | tuple
    layers = [
        [name, repr(type(layer)), {k: v for k, v in vars(layer).items() if isinstance(v, plain)}]
        for name, layer in model.named_modules()
    ]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [layers, [(name, value.requires_grad, value) for name, value in tensors]]
