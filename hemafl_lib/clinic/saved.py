"""A model that one can have: a folder with its weights and its card.

A folder may come from anybody: its files are checked, and no code of theirs runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hemafl_lib.clinic.card import Attentive, Card, Document, Layered, plain, read_document
from hemafl_lib.clinic.rounding import from_tensors, rounded, to_tensors
from hemafl_lib.errors import ModelError, quote
from hemafl_lib.files import reason, replace_file, sha256, write_json
from hemafl_lib.models import AttentionCNN, Norm, load_model, save_model
from hemafl_lib.models.attention_cnn import ATTENTION

WEIGHTS, CARD = "model.safetensors", "card.json"
"""The two files of a saved model."""

MOST_BYTES = 10_000_000
"""A card with more is not read."""

NORMS: Mapping[str, Norm] = {
    "BatchNorm2d": "batch",
    "FrozenBatchNorm2d": "frozen",
    "GroupNorm": "group",
    "Identity": "none",
}
"""What an `AttentionCNN` of each policy has after a convolution."""


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A network, its settings and its card; `hemafl_lib.clinic.answer` says what it answers."""

    network: nn.Module
    settings: Attentive | Layered
    card: Card

    @property
    def size(self) -> int:
        """Side in pixels of the images that it was trained on."""
        return self.settings.size


def settings_of(network: nn.Module, size: int) -> Attentive | Layered:
    """Return what a card says of a network that was trained on images of ``size`` pixels a side.

    Raises `ModelError` if the network does not give logits [1, C] of an image of that size.
    """
    if isinstance(network, AttentionCNN):
        first = network.blocks.get_submodule("0")
        kinds = {kind: name for name, kind in ATTENTION.items()}
        return Attentive(
            width=network.head.in_features // 8,
            attention=kinds[type(first.get_submodule("attention"))],  # type: ignore[arg-type]
            norm=NORMS[type(first.get_submodule("norm")).__name__],
            classes=network.head.out_features,
            size=size,
        )
    with torch.no_grad():
        logits = network.eval()(torch.zeros(1, 3, size, size))
    if logits.ndim != 2:
        raise ModelError(f"{type(network).__name__} gives no logits [1, C] of an image; give a classifier.")
    return Layered(classes=logits.shape[1], size=size)


def as_saved(network: nn.Module, size: int, card: Card) -> SavedModel:
    """Return a network with its card as it would be saved and loaded again: an `AttentionCNN` is rounded."""
    settings = settings_of(network, size)
    return SavedModel(
        rounded(network) if isinstance(settings, Attentive) else network.cpu().eval(), settings, card
    )


def save(model: SavedModel, folder: Path | str) -> None:
    """Write a model into ``folder``, which is made if need be; the files of another saved model are replaced.

    Raises
    ------
    ModelError
        If the network is neither an `AttentionCNN` nor one that `hemafl_lib.models.save_model` can write.
    DataError
        If a file cannot be written.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    if isinstance(model.settings, Attentive):
        tensors = to_tensors(model.network)
        replace_file(weights, lambda temporary: save_file(tensors, temporary), rescue=True)
    else:
        save_model(model.network, weights)
    document = Document(
        format="hemafl saved model",
        version=1,
        weights=sha256(weights),
        network=model.settings,
        card=model.card,
    )
    write_json(folder / CARD, plain(document))


def load(folder: Path | str) -> SavedModel:
    """Read what `save` wrote.

    Raises
    ------
    ModelError
        If the folder or one of its files is missing, damaged, or of something else.
    """
    folder = Path(folder)
    weights, card = folder / WEIGHTS, folder / CARD
    for path in (folder, card, weights):
        if not path.exists():
            raise ModelError(f"{path} does not exist; name the folder of a saved model, with {CARD} in it.")
    document = read_document(read_text(card), str(card))
    if sha256(weights) != document.weights:
        raise ModelError(f"{weights} is not the file that {card} was written for; save the model again.")
    if isinstance(document.network, Layered):
        network = load_model(weights)
    else:
        network = network_of(document.network, read_tensors(weights), str(weights))
    return SavedModel(network.eval(), document.network, document.card)


def read_text(path: Path) -> str:
    """Return the text of a card; raise `ModelError` if it cannot be read or is too long for one."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ModelError(
                f"{path} has more than {MOST_BYTES:,} bytes and is no card; save the model again."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({reason(error)}); save the model again.") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; raise `ModelError` if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({quote(str(error))}); save the model again.") from None


def network_of(settings: Attentive, tensors: Mapping[str, Tensor], name: str) -> AttentionCNN:
    """Return the network of settings and tensors; raise `ModelError` unless the two fit."""
    network = AttentionCNN(
        settings.classes, width=settings.width, attention=settings.attention, norm=settings.norm
    )
    expected = to_tensors(network)
    unlike = {
        key
        for key in expected.keys() | tensors.keys()
        if key not in expected or key not in tensors or _kind(expected[key]) != _kind(tensors[key])
    }
    if unlike:
        raise ModelError(
            f"{name}: the tensor '{quote(min(unlike))}' does not fit the network of the card; save the model "
            "again."
        )
    if not all(value.isfinite().all() for value in tensors.values()):
        raise ModelError(f"{name} holds weights that are not finite; train the model again.")
    network.load_state_dict(from_tensors(tensors), strict=False)  # counters, which nothing reads
    return network


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype
