"""A model of two parts: a frozen prefix, evaluated once per image, and a suffix that is trained.

A frozen layer gives the same output for the same image in every epoch, in every round and at every
site. `activations` computes these outputs once; training the suffix on them gives the same suffix
as training the whole model on the images, in a fraction of the time.
"""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hemafl_lib.augmentation import UNCHANGED, Augmentation, to_float, variant_maker, with_variants
from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.device import choose
from hemafl_lib.errors import ModelError


class SplitModel(nn.Module):
    """``suffix(prefix(normalise(images)))``, of which only the suffix is trained.

    The prefix stays in evaluation mode and its parameters take no gradient; a gradient with respect
    to the images still passes through it, which saliency maps need.

    Parameters
    ----------
    normalise
        From images float32[B, 3, H, W] in [0, 1] to what the prefix expects.
    prefix, suffix
        The frozen and the trained layers. Only the suffix travels between sites, see `trained_part`.
    weights
        One line on where the parameters come from.
    pretrained
        Whether they were trained before, on other images.
    """

    def __init__(
        self, normalise: nn.Module, prefix: nn.Module, suffix: nn.Module, *, weights: str, pretrained: bool
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.prefix = prefix.requires_grad_(False)
        self.suffix = suffix
        self.weights = weights
        self.pretrained = pretrained
        self.train()

    def train(self, mode: bool = True) -> "SplitModel":
        """Set the mode of the suffix; the prefix stays in evaluation mode."""
        super().train(mode)
        self.prefix.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, C] of ``images``, float32[B, 3, H, W] in [0, 1].

        The suffix reads in the memory layout in which `activations` stores, so that it rounds alike.
        """
        return self.suffix(self.prefix(self.normalise(images)).contiguous())


def trained_part(model: nn.Module) -> nn.Module:
    """Return what is trained and travels: the suffix of a `SplitModel`, or the whole of another model."""
    return model.suffix if isinstance(model, SplitModel) else model


def activations(
    model: SplitModel,
    cohort: ImageCohort | VariantCohort,
    *,
    augmentation: Augmentation = UNCHANGED,
    count: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    workers: int = 2,
    device: str | None = None,
    progress: bool = True,
) -> VariantCohort:
    """Evaluate the frozen prefix once for every variant of every image.

    Parameters
    ----------
    model
        Whose prefix is evaluated.
    cohort
        Images, of which ``count`` variants are made as `hemafl_lib.augmentation.variants` would with
        the same ``augmentation`` and ``seed``, a batch at a time; or variants made before,
        uint8[N, K, 3, S, S].
    batch_size
        Images evaluated at a time, by each worker.
    workers
        Threads, each on one core. The result does not depend on their number.
    device
        Where the prefix is evaluated, "cpu" or "cuda"; by default as ``HEMAFL_DEVICE`` says. The result is
        on the CPU.
    progress
        Whether to show a progress bar.

    Returns
    -------
    VariantCohort
        The rows of ``cohort`` with ``variants`` float32[N, K, ...]: inputs of ``model.suffix``.

    Raises
    ------
    ModelError
        If the model has no frozen prefix, or the cohort holds activations already.
    """
    if not isinstance(model, SplitModel):
        raise ModelError(f"{type(model).__name__} has no frozen prefix; give a model made by 'backbone'.")
    if cohort.inputs.dtype != torch.uint8:
        raise ModelError(f"the cohort holds {cohort.inputs.dtype}, not uint8; give images, not activations.")
    if batch_size < 1 or workers < 1:
        raise ModelError(f"batch_size is {batch_size} and workers is {workers}; give at least 1 of each.")
    pixels, count = _pixels(cohort, augmentation, count, seed)
    chosen = choose(device)
    normalise, prefix = (copy.deepcopy(part).to(chosen) for part in (model.normalise, model.prefix))

    @torch.no_grad()
    def evaluate(rows: slice, index: int) -> Tensor:
        return prefix(normalise(to_float(pixels(rows, index).to(chosen)))).cpu()

    shape = evaluate(slice(0, 1), 0).shape[1:]
    outputs = torch.empty(len(cohort), count, *shape)

    def fill(job: tuple[slice, int]) -> None:
        rows, index = job
        outputs[rows, index] = evaluate(rows, index)

    batches = [slice(start, start + batch_size) for start in range(0, len(cohort), batch_size)]
    jobs = [(rows, index) for rows in batches for index in range(count)]
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for _ in tqdm(pool.map(fill, jobs), total=len(jobs), desc="frozen layers", disable=not progress):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return with_variants(cohort, outputs)


def _pixels(
    cohort: ImageCohort | VariantCohort, augmentation: Augmentation, count: int, seed: int
) -> tuple[Callable[[slice, int], Tensor], int]:
    """Return a function that gives the pixels of variant k of some rows, and the number of variants."""
    if isinstance(cohort, VariantCohort):
        return (lambda rows, index: cohort.variants[rows, index]), cohort.variants.shape[1]
    return variant_maker(cohort, augmentation, count, seed), count
