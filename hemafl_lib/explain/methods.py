"""Every method by its name, whichever module computes it."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.blended import BLENDED, blended_map
from hemafl_lib.explain.class_maps import CLASS_MAPS, class_map
from hemafl_lib.explain.saliency import METHODS, saliency

ALL_METHODS: Mapping[str, Callable[..., Tensor]] = {**METHODS, **CLASS_MAPS, **BLENDED}
"""The methods by name: those of chapter 2, other ways to weigh feature maps, and those that blend."""

READ_FEATURE_MAPS = ("grad_cam", "guided_grad_cam", *CLASS_MAPS, "score_cam")
"""The methods for which a layer can be chosen."""


def relevance(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    method: str,
    *,
    layer: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Return one map per image by any method, float32[N, h, w] on the CPU.

    ``method`` is a key of `ALL_METHODS`; the other arguments are those of `hemafl_lib.explain.saliency`.
    Raises `ExplanationError` as `saliency`, `class_map` and `blended_map` do.
    """
    if method not in ALL_METHODS:
        raise ExplanationError(f"method '{method}' is unknown; choose one of: {', '.join(ALL_METHODS)}.")
    compute = saliency if method in METHODS else class_map if method in CLASS_MAPS else blended_map
    return compute(model, images, target, method, layer=layer, device=device)
