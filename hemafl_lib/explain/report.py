"""The report card of an explanation: every number beside what a map without a model would reach."""

import pandas as pd
from torch import Tensor, nn

from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.explain.baselines import centred_gaussian, edge_maps, random_maps
from hemafl_lib.explain.faithfulness import deletion, insertion
from hemafl_lib.explain.localisation import area_share, share_inside
from hemafl_lib.explain.maps import rank_correlation, sparsity
from hemafl_lib.explain.saliency import saliency
from hemafl_lib.explain.sanity import layer_groups, shuffle_weights
from hemafl_lib.explain.stability import shift_stability, stain_stability
from hemafl_lib.seeds import torch_generator


def report_card(
    model: nn.Module,
    cohort: ImageCohort,
    target: int | Tensor,
    method: str,
    *,
    layer: str | None = None,
    sigma: float = 0.15,
    pixels: int = 2,
    stain: float = 0.05,
    seed: int = 0,
    device: str | None = None,
) -> pd.DataFrame:
    """Measure the maps of one method, one row an image.

    Parameters
    ----------
    model, target, method, layer, device
        As in `hemafl_lib.explain.saliency`.
    cohort
        The images, with masks or without.
    sigma
        Of the centred Gaussian, as a share of the side.
    pixels, stain
        How far images are changed to measure stability, see `hemafl_lib.explain.stability`.
    seed
        Of the random order, the shuffled weights and the stains.

    Returns
    -------
    DataFrame
        - ``deletion`` (smaller is better), ``insertion`` (larger is better): areas under the curves, and the
          same for the baselines: ``deletion_random``, ``deletion_edges`` and so on.
        - ``nucleus``, ``cell``: shares of positive relevance inside, beside ``nucleus_gaussian`` and
          ``nucleus_area``, ``cell_gaussian`` and ``cell_area``. Only if the cohort has masks.
        - ``randomised``: rank correlation with the map of the same model, all its weights shuffled; near 0
          if the map shows the model.
        - ``shift``, ``stain``: rank correlation with the maps of images that were changed a little.
        - ``sparsity``: the Gini index.
    """
    images, stains = cohort.images, torch_generator(seed, "stain")
    maps = saliency(model, images, target, method, layer=layer, device=device)
    forgetful = shuffle_weights(model, layer_groups(model), torch_generator(seed, "randomised"))
    forgotten = saliency(forgetful, images, target, method, layer=layer, device=device)
    columns = {
        **_faithfulness(model, images, target, maps, seed, device),
        **_localisation(cohort, maps, sigma),
        "randomised": rank_correlation(forgotten, maps),
        "shift": shift_stability(model, images, target, method, pixels=pixels, layer=layer, device=device),
        "stain": stain_stability(
            model, images, target, method, stains, stain=stain, layer=layer, device=device
        ),
        "sparsity": sparsity(maps),
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def _faithfulness(
    model: nn.Module, images: Tensor, target: int | Tensor, maps: Tensor, seed: int, device: str | None
) -> dict[str, Tensor]:
    """Return the areas under the curves of the maps and of two baselines."""
    compared = {
        "": maps,
        "_random": random_maps(images, torch_generator(seed, "random order")),
        "_edges": edge_maps(images),
    }
    return {
        f"{name}{suffix}": curves(model, images, target, other, device=device).areas
        for name, curves in (("deletion", deletion), ("insertion", insertion))
        for suffix, other in compared.items()
    }


def _localisation(cohort: ImageCohort, maps: Tensor, sigma: float) -> dict[str, Tensor]:
    """Return the shares inside nucleus and cell; nothing if nobody drew masks."""
    if cohort.masks is None:
        return {}
    gaussian = centred_gaussian(len(cohort), cohort.size, sigma)
    shares = {}
    for part, inside in (("nucleus", cohort.masks == 2), ("cell", cohort.masks > 0)):
        shares[part] = share_inside(maps, inside)
        shares[f"{part}_gaussian"] = share_inside(gaussian, inside)
        shares[f"{part}_area"] = area_share(inside)
    return shares
