"""Gradient inversion: what a server can see of the cells in the updates that sites send it.

From the input of a linear layer, its gradients tell everything (`linear_inputs`). For a convolutional
network, an image is searched whose gradient points the same way as the one received (`invert`). Each
attack is scored beside guesses that need no gradient at all (`assess`).
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.device import choose
from hemafl_lib.errors import PrivacyError
from hemafl_lib.models.norms import Normalise
from hemafl_lib.privacy.accounting import check_clip, check_noise
from hemafl_lib.privacy.record_level import refuse_mixing
from hemafl_lib.seeds import initialised
from hemafl_lib.training import as_input

Gradient = dict[str, Tensor]
"""The gradient of the loss by the name of each trained parameter."""

# Models that leak


def fully_connected(classes: int, *, size: int, hidden: int = 256, seed: int = 0) -> nn.Sequential:
    """Return two linear layers with a rectifier between them, for images float32[B, 3, size, size]."""
    with initialised(seed, "fully_connected"):
        return nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                first=nn.Linear(3 * size * size, hidden),
                act=nn.ReLU(),
                head=nn.Linear(hidden, classes),
            )
        )


def strided_cnn(classes: int, *, size: int, width: int = 32, seed: int = 0) -> nn.Sequential:
    """Return a small convolutional network that gives its images away.

    Like the LeNet of Zhu et al. ("Deep leakage from gradients", 2019): strides instead of pooling, smooth
    activations, no normalisation, and a last layer that sees every place. The wider, the more a gradient
    tells: 32 channels give batches of four away, 16 hardly those of two. Takes float32[B, 3, size, size]
    in [0, 1]; ``size`` must be a multiple of 4.
    """
    if size < 4 or size % 4:
        raise PrivacyError(f"strided_cnn: size={size} is not a multiple of 4; scale the images first.")
    with initialised(seed, "strided_cnn"):
        return nn.Sequential(
            OrderedDict(
                normalise=Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
                conv1=nn.Conv2d(3, width, kernel_size=5, stride=2, padding=2),
                act1=nn.GELU(),
                conv2=nn.Conv2d(width, width, kernel_size=5, stride=2, padding=2),
                act2=nn.GELU(),
                conv3=nn.Conv2d(width, width, kernel_size=5, padding=2),
                act3=nn.GELU(),
                flatten=nn.Flatten(),
                head=nn.Linear(width * (size // 4) ** 2, classes),
            )
        )


# What the server receives


def gradient(model: nn.Module, images: Tensor, labels: Tensor, *, device: str | None = None) -> Gradient:
    """Return the gradient of the mean cross-entropy over a batch, as a site computes it; it is on the CPU.

    ``images`` are uint8 or float32 in [0, 1], [B, 3, S, S], ``labels`` int64[B]. The model is used in the
    mode (training or evaluation) that it is in, and stays as it is. ``device`` is where it is computed:
    "cpu", "cuda" or, by default, as ``HEMAFL_DEVICE`` says.
    """
    chosen = choose(device)
    received = _gradient(copy.deepcopy(model).to(chosen), as_input(images, chosen), labels.to(chosen))
    return {name: value.cpu() for name, value in received.items()}


def _gradient(model: nn.Module, images: Tensor, labels: Tensor, create_graph: bool = False) -> Gradient:
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    loss = F.cross_entropy(model(images), labels)
    values = torch.autograd.grad(loss, list(trained.values()), create_graph=create_graph)
    return dict(zip(trained, values, strict=True))


def gradient_of_update(model: nn.Module, update: dict[str, Tensor], learning_rate: float) -> Gradient:
    """Return the gradient that led from the parameters of ``model`` to those in ``update``.

    FedAvg sends parameters, not gradients; after one step of plain stochastic gradient descent the
    difference is the gradient times the learning rate. After several steps it is their sum, of which
    each was taken elsewhere. For whom: an auditor who holds what a site sent in such a run. ``update`` is
    a state dictionary with at least the trained parameters of the model that the site was sent, ``model``.
    """
    if not learning_rate > 0:
        raise PrivacyError(f"learning_rate={learning_rate} must be positive.")
    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    missing = sorted(trained.keys() - update.keys())
    if missing:
        raise PrivacyError(f"the update lacks '{missing[0]}'; give the state dictionary of the same model.")
    return {name: (value - update[name]) / learning_rate for name, value in trained.items()}


def protected_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    clip: float,
    noise: float,
    generator: torch.Generator,
    *,
    device: str | None = None,
) -> Gradient:
    """Return the gradient as DP-SGD sends it: each image's is clipped, noise is added to the sum.

    Abadi et al. 2016, algorithm 1.

    Parameters
    ----------
    model, images, labels, device
        As in `gradient`.
    clip
        Largest Euclidean norm of one image's gradient over all parameters.
    noise
        Noise multiplier: the standard deviation of the noise on the sum is ``noise`` times ``clip``. The
        result is the sum divided by the number of images.
    generator
        Of the noise.

    Raises
    ------
    PrivacyError
        If ``clip`` is not positive, ``noise`` is negative, or a layer such as batch normalisation makes
        one image's gradient depend on the others.
    """
    check_clip(clip)
    check_noise(noise)
    refuse_mixing(model)
    total = {name: torch.zeros(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        own = gradient(model, image, label, device=device)
        factor = (clip / gradient_norm(own)).clamp(max=1.0)
        for name, value in own.items():
            total[name] += factor * value
    return {
        name: (value + noise * clip * torch.randn(value.shape, generator=generator)) / len(labels)
        for name, value in total.items()
    }


def gradient_norm(values: Gradient) -> Tensor:
    """Return the Euclidean norm over all parameters, a scalar."""
    return torch.stack([value.norm() for value in values.values()]).norm()


# Attacks


def linear_inputs(weight_gradient: Tensor, bias_gradient: Tensor) -> Tensor:
    """Return what each neuron of a linear layer says that the layer's input was, float32[K', F].

    A neuron computes w x + b, so that the gradient of w is that of b times x, and their ratio is x: exactly,
    for one image (Phong et al. 2018; Geiping et al. 2020, proposition 3.1). Over a batch the ratio is
    a weighted mean of the images for which the neuron fires, and exact where that is a single one.

    Parameters
    ----------
    weight_gradient, bias_gradient
        float32[K, F] and float32[K] of a layer with K neurons.

    Returns
    -------
    Tensor
        One row for each of the K' neurons with a bias gradient other than 0, the largest first.
    """
    if weight_gradient.ndim != 2 or bias_gradient.shape != weight_gradient.shape[:1]:
        raise PrivacyError(
            f"gradients of shapes {tuple(weight_gradient.shape)} and {tuple(bias_gradient.shape)} are not of "
            "one linear layer; give its weight [K, F] and its bias [K]."
        )
    fires = bias_gradient.abs().argsort(descending=True, stable=True)[: int((bias_gradient != 0).sum())]
    return weight_gradient[fires] / bias_gradient[fires, None]


def infer_label(received: Gradient, bias: str) -> int:
    """Return the label of a single image from the gradient of the last layer's bias.

    For the cross-entropy it is the probability of each class, less 1 for the true one: the only negative
    entry (iDLG; Zhao et al. 2020). Of a noisy gradient it is the smallest entry, which may be wrong.
    ``bias`` is the name of that parameter, such as ``"head.bias"``. For whom: an auditor who was sent an
    update, which names no label; `invert` needs one.
    """
    if bias not in received:
        raise PrivacyError(f"'{bias}' is not in the gradient; choose one of: {', '.join(received)}.")
    return int(received[bias].argmin())


@dataclass(frozen=True)
class Search:
    """How `invert` searches: Adam from random pixels, on the sign of the slope, in steps that shrink.

    ``learning_rate`` is in units of brightness (images lie in [0, 1]) and falls to a tenth after 3/8, 5/8
    and 7/8 of the ``steps``; ``total_variation`` is the weight of the mean absolute difference between
    neighbouring pixels (Geiping et al. 2020). Batches need more steps than one image.
    A noisy gradient needs a weight of 0.2 to 1: a defence is tested against the attacker who knows of it.
    """

    steps: int = 300
    learning_rate: float = 0.1
    total_variation: float = 5e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0 or not self.total_variation >= 0:
            raise PrivacyError(
                f"{self}: steps and learning_rate must be positive, total_variation not negative."
            )


@dataclass(frozen=True)
class Inversion:
    """What `invert` found.

    ``images`` is float32[B, 3, S, S] in [0, 1]; ``distances`` holds one minus the cosine between its gradient
    and the one received, before each step.
    """

    images: Tensor
    distances: list[float]


def invert(
    model: nn.Module,
    received: Gradient,
    labels: Tensor,
    size: int,
    generator: torch.Generator,
    search: Search | None = None,
    *,
    device: str | None = None,
) -> Inversion:
    """Search for images whose gradient points the same way as the one received (Geiping et al. 2020, eq. 4).

    The search minimises one minus the cosine between the two gradients, plus total variation. It finds
    little where the gradient tells little: after pooling over places, and where batch normalisation mixes
    the batch. Not finding an image does not prove that nobody can.

    Parameters
    ----------
    model
        With the parameters and in the mode in which the gradient was taken; it stays as it is.
    received
        From `gradient`, `gradient_of_update` or `protected_gradient`.
    labels
        int64[B], known or inferred (`infer_label`).
    size
        Side S of the images.
    generator
        Of the pixels at the start.
    search
        How to search; by default as `Search` says.
    device
        Where the search runs, as in `gradient`; what it finds is on the CPU.

    Raises
    ------
    PrivacyError
        If the gradient is not one of this model, not finite, or 0.
    """
    search = search or Search()
    chosen = choose(device)
    model = copy.deepcopy(model).to(chosen)
    _check_received(model, received)
    received = {name: value.to(chosen) for name, value in received.items()}
    labels = labels.to(chosen)
    images = torch.rand(len(labels), 3, size, size, generator=generator).to(chosen).requires_grad_()
    optimiser = torch.optim.Adam([images], search.learning_rate)
    milestones = [int(search.steps * share) for share in (3 / 8, 5 / 8, 7 / 8)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)
    distances = []
    for _ in range(search.steps):
        distance = cosine_distance(_gradient(model, images, labels, create_graph=True), received)
        objective = distance + search.total_variation * pixel_variation(images)
        images.grad = torch.autograd.grad(objective, images)[0].sign()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(0, 1)
        distances.append(float(distance.detach()))
    return Inversion(images.detach().cpu(), distances)


def _check_received(model: nn.Module, received: Gradient) -> None:
    for name, value in model.named_parameters():
        if value.requires_grad and (name not in received or received[name].shape != value.shape):
            raise PrivacyError(
                f"the gradient has no '{name}' of shape {tuple(value.shape)}; give the model that it is of."
            )
    size = float(gradient_norm(received))
    if not 0 < size < float("inf"):
        raise PrivacyError(f"the gradient has norm {size}; only a finite one other than 0 can be inverted.")


def cosine_distance(left: Gradient, right: Gradient) -> Tensor:
    """Return one minus the cosine of the angle between two gradients, a scalar in [0, 2]."""
    product = sum((value * right[name]).sum() for name, value in left.items())
    return 1 - product / (gradient_norm(left) * gradient_norm({name: right[name] for name in left}))


def pixel_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, across plus down, a scalar."""
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().mean()
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    return across + down


# How much of a cell came back


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in decibels, float32[B]; infinite where nothing differs.

    10 log10(1 / mean squared error), for images [B, 3, S, S] in [0, 1].
    """
    return -10 * (images - truth).square().flatten(1).mean(dim=1).log10()


WINDOW = 11
"""Side of the window of the structural similarity, in pixels; its Gaussian has a deviation of 1.5."""


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity (SSIM), float32[B]: 1 for equal images, about 0 for unrelated ones.

    Wang et al. 2004, equation 13, for images [B, 3, S, S] in [0, 1]: local means, variances and covariance
    under a Gaussian of 11 x 11 pixels that lies wholly inside; averaged over places and colours.
    """
    if images.shape[-1] < WINDOW:
        raise PrivacyError(f"SSIM needs images of at least {WINDOW} pixels a side, not {images.shape[-1]}.")
    places = torch.arange(WINDOW, dtype=images.dtype) - WINDOW // 2
    line = (-places.square() / (2 * 1.5**2)).exp()
    line = line / line.sum()
    window = (line[:, None] * line)[None, None].expand(images.shape[1], 1, -1, -1)

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=values.shape[1])

    mean_x, mean_y = local_mean(images), local_mean(truth)
    variance_x = local_mean(images * images) - mean_x**2
    variance_y = local_mean(truth * truth) - mean_y**2
    covariance = local_mean(images * truth) - mean_x * mean_y
    small, tiny = 0.03**2, 0.01**2
    brightness = (2 * mean_x * mean_y + tiny) / (mean_x**2 + mean_y**2 + tiny)
    structure = (2 * covariance + small) / (variance_x + variance_y + small)
    return (brightness * structure).flatten(1).mean(dim=1)


def match_images(candidates: Tensor, truth: Tensor) -> Tensor:
    """Return for each true image the candidate that is taken for it, [B, 3, S, S].

    A gradient does not tell the order of a batch, and `linear_inputs` gives more rows than images. Each
    candidate is used once; the sum of the squared errors is the least possible.
    """
    if len(candidates) < len(truth):
        raise PrivacyError(f"{len(candidates)} candidates cannot match {len(truth)} images; give more.")
    errors = torch.cdist(truth.flatten(1).double(), candidates.flatten(1).double()).square()
    _, chosen = linear_sum_assignment(errors.numpy())
    return candidates[torch.from_numpy(chosen)]


def rank(images: Tensor, cohort: ImageCohort, rows: Sequence[int]) -> np.ndarray:
    """Return how many cells of the cohort are at least as near to each image as its true cell, int64[B].

    1 means that the image picks out the true cell among all of the cohort; near in squared error.
    ``rows`` says which cell of the cohort each image [B, 3, S, S] should be.
    """
    cells = as_input(cohort.images).flatten(1).double()
    errors = torch.cdist(images.flatten(1).double(), cells)
    true = errors.gather(1, torch.as_tensor(rows)[:, None])
    return (errors <= true).sum(dim=1).numpy()


def class_means(cohort: ImageCohort, rows: Sequence[int]) -> Tensor:
    """Return for each of the rows the mean image of its class, without any of them, float32[B, 3, S, S]."""
    return torch.stack([as_input(cells).mean(dim=0) for cells in _others(cohort, rows)])


def other_cells(cohort: ImageCohort, rows: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return for each of the rows a random cell of its class that is none of them, float32[B, 3, S, S]."""
    return torch.cat(
        [
            as_input(cells[torch.randint(len(cells), (1,), generator=generator)])
            for cells in _others(cohort, rows)
        ]
    )


def _others(cohort: ImageCohort, rows: Sequence[int]) -> list[Tensor]:
    """Return for each of the rows the images of its class that are not of the rows."""
    others = []
    for row in rows:
        same_class = cohort.labels == cohort.labels[row]
        same_class[list(rows)] = False
        if not same_class.any():
            raise PrivacyError(f"row {row} has no other cell of its class to compare with; give more cells.")
        others.append(cohort.images[same_class])
    return others


def assess(
    recovered: Tensor, cohort: ImageCohort, rows: Sequence[int], generator: torch.Generator
) -> pd.DataFrame:
    """Score recovered cells beside two guesses that need no gradient: the class's mean, and another cell.

    Parameters
    ----------
    recovered
        Images or candidates in [0, 1], float32[B', 3, S, S] with B' at least the number of ``rows``, in any
        order (see `match_images`).
    cohort, rows
        The attacked cells are these rows of the cohort; the guesses are made from its other rows.
    generator
        Of the choice of another cell.

    Returns
    -------
    DataFrame
        Columns ``guess`` ("recovered", "class mean" or "another cell"), ``row``, ``psnr`` in decibels,
        ``ssim``, and ``rank`` (see `rank`).
    """
    rows = [int(row) for row in rows]
    truth = as_input(cohort.images[rows])
    guesses = {
        "recovered": recovered,
        "class mean": class_means(cohort, rows),
        "another cell": other_cells(cohort, rows, generator),
    }
    tables = []
    for name, candidates in guesses.items():
        images = match_images(candidates.clamp(0, 1), truth)
        scores = {"psnr": psnr(images, truth).numpy(), "ssim": ssim(images, truth).numpy()}
        scores["rank"] = rank(images, cohort, rows)
        tables.append(pd.DataFrame({"guess": name, "row": rows, **scores}))
    return pd.concat(tables, ignore_index=True)
