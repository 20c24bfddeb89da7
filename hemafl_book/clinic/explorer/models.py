"""The models of a comparison, and their maps for a class, or for one class and not another."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from hemafl_book.clinic import FAMILIES
from hemafl_book.clinic.make import ARMS, slug
from hemafl_lib import explain
from hemafl_lib.clinic import SavedModel, load
from hemafl_lib.errors import ExplanationError

FOLDER = Path(__file__).resolve().parents[3] / "book" / "clinic" / "models"
"""Where the models lie that come with the book."""

BOOKS_OWN = frozenset(f"{family.name}: {arm}" for family in FAMILIES.values() for arm in ARMS)
"""The names of these models, see `name_of`."""

METHODS: Mapping[str, str] = {
    name: {
        "grad_cam": "Grad-CAM",
        "grad_cam_plus_plus": "Grad-CAM++",
        "layer_cam": "LayerCAM",
        "hires_cam": "HiResCAM (signed)",
        "integrated_gradients": "integrated gradients (signed)",
        "occlusion": "occlusion (signed)",
        "guided_grad_cam": "guided Grad-CAM (signed)",
        "gradient_shap": "gradient SHAP (signed)",
        "score_cam": "Score-CAM",
    }.get(name, name)
    for name in explain.ALL_METHODS
}
"""The methods of `hemafl_lib.explain`, and how they are read."""


class Asked(nn.Module):
    """A network's scores [N, C] in calibrated log-odds, each less that of a class it is held against.

    The softmax of the scores is the card's probability, whatever class they are held against, so that maps
    and what measures them are about what the reader sees.
    """

    def __init__(self, model: SavedModel, against: int | None = None) -> None:
        super().__init__()
        self.network, self.temperature, self.against = model.network, model.card.temperature, against

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of images float32[N, 3, S, S]."""
        scores = self.network(images) / self.temperature
        return scores if self.against is None else scores - scores[:, [self.against]]


def shipped() -> dict[str, SavedModel]:
    """Return the models that come with the book by their names: of each family its three arms."""
    models = [load(FOLDER / family / slug(arm)) for family in FAMILIES for arm in ARMS]
    return {name_of(model): model for model in models}


def name_of(model: SavedModel) -> str:
    """Return a model's name as lists show it."""
    return f"{model.card.family}: {model.card.arm}"


def layers(model: SavedModel) -> list[str]:
    """Return the layers of a network whose feature maps can be chosen, the last first."""
    parts = dict(model.network.named_modules())
    return [name for name in explain.layer_groups(model.network) if not isinstance(parts[name], nn.Linear)]


def relevance(asked: Asked, images: Tensor, target: int, method: str, layer: str | None = None) -> Tensor:
    """Return the maps, float32[N, h, w], of images uint8[N, 3, S, S] or floats in [0, 1].

    Raises `ExplanationError` if the method or the layer is unknown, or the network lacks what it needs.
    """
    if asked.against == target:
        raise ExplanationError("a class is held against itself; choose another to hold it against.")
    named = f"network.{layer}" if layer is not None and method in explain.READ_FEATURE_MAPS else None
    return explain.relevance(asked.eval(), images, target, method, layer=named, device="cpu")
