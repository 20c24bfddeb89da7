"""Does a map change if the model forgets what it learned? Cascading randomisation of the weights.

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3. A map that stays as it was
shows the image, not the model.
"""

import copy
from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.maps import correlation, rank_correlation
from hemafl_lib.explain.saliency import saliency


def layer_groups(model: nn.Module) -> list[str]:
    """Return the names of the model's parts that have parameters, from the head down.

    A part is a child of the model, or, where the child is a sequence, an element of it.
    """
    parts = []
    for name, child in model.named_children():
        elements = child.named_children() if isinstance(child, nn.Sequential) else []
        parts += [(f"{name}.{key}", element) for key, element in elements] or [(name, child)]
    return [name for name, part in reversed(parts) if next(part.parameters(), None) is not None]


def shuffle_weights(model: nn.Module, groups: Sequence[str], generator: torch.Generator) -> nn.Module:
    """Return a copy of ``model`` in which the parameters of ``groups`` are shuffled within each tensor.

    Adebayo et al. draw new initial weights. Shuffled weights have forgotten as much, and keep their
    distribution, so that activations neither vanish nor explode.

    Raises
    ------
    ExplanationError
        If the model has no such part.
    """
    known = dict(model.named_modules())
    unknown = [name for name in groups if name not in known]
    if unknown:
        raise ExplanationError(f"the model has no part '{unknown[0]}'; see 'layer_groups'.")
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name in groups:
            for value in copied.get_submodule(name).parameters():
                mixed = torch.randperm(value.numel(), generator=generator).to(value.device)
                value.copy_(value.flatten()[mixed].reshape(value.shape))
    return copied


def cascade(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    method: str,
    generator: torch.Generator,
    *,
    layer: str | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """Randomise the model from the head down, one group of layers more at each stage.

    Parameters
    ----------
    model, images, target, method, layer, device
        As in `hemafl_lib.explain.saliency`. The model stays as it is.
    generator
        Where the shuffling comes from.

    Returns
    -------
    DataFrame
        One row a stage and image: ``stage`` (0 is the model itself), ``group`` (randomised last), ``image``
        (its place), ``rank_correlation`` (Spearman) and ``correlation`` (Pearson) of the stage's map with
        that of the model, NaN where one of the two maps is constant: that of
        Grad-CAM is zero where no place speaks for the class, which one shuffled head may give for all images.
        Several generators, averaged, say more.
    """
    explain = partial(saliency, images=images, target=target, method=method, layer=layer, device=device)
    original = explain(model)
    rows = []
    groups = ["", *layer_groups(model)]
    for stage, group in enumerate(groups):
        model = shuffle_weights(model, [group] if group else [], generator)
        maps = explain(model)
        likeness = {
            "rank_correlation": rank_correlation(maps, original).numpy(),
            "correlation": correlation(maps, original).numpy(),
        }
        rows.append(pd.DataFrame({"stage": stage, "group": group, "image": range(len(images)), **likeness}))
    return pd.concat(rows, ignore_index=True)
