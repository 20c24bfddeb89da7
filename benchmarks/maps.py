"""What a saliency map costs: the library's methods beside those of Captum and of pytorch-grad-cam.

Counted are seconds of one core, in one thread. On a machine of two cores (torch 2.14.1, Captum 0.9.0,
grad-cam 1.5.7, 16 pictures of 48 pixels, median of five in turn, other work beside) the library took of the
time of Captum: Grad-CAM 1.07, integrated gradients 0.55, occlusion 0.83, gradient SHAP 0.42, guided Grad-CAM
1.28. Of that of pytorch-grad-cam: Grad-CAM 0.28, Grad-CAM++ 0.5, LayerCAM 0.44, HiResCAM 0.45, Score-CAM 1.0.
What guided Grad-CAM takes longer are 3 ms a call for a copy of the model, since Captum hangs hooks into it.
Of larger networks, Grad-CAM took of Captum's time: ResNet-34 with 4 pictures of 224 pixels 1.08, MobileNetV2
0.93; the attention CNN with 128 pictures 1.0. The library also finds the layer, which Captum has to be told.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from captum.attr import GradientShap, GuidedGradCam, IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor

from benchmarks.timing import Report, Timing, at_most, in_turn, machine
from hemafl_lib.aggregation import Parameters
from hemafl_lib.augmentation import to_float
from hemafl_lib.data import smear
from hemafl_lib.explain import relevance
from hemafl_lib.explain.blended import DRAWS
from hemafl_lib.explain.saliency import mean_colour
from hemafl_lib.models import AttentionCNN

CAPTUM, GRAD_CAM = "Captum", "pytorch-grad-cam"

Ask = Callable[[AttentionCNN, Tensor, Tensor], Any]


def captums_occlusion(model: AttentionCNN, images: Tensor, target: Tensor) -> Tensor:
    """Return Captum's maps for windows and steps as the library chooses them for images of 48 pixels."""
    windows = {"sliding_window_shapes": (3, 6, 6), "strides": (3, 3, 3)}
    method = Occlusion(model)
    return method.attribute(images, **windows, baselines=mean_colour(images), target=target)


def package_map(name: str, model: AttentionCNN, images: Tensor, target: Tensor) -> np.ndarray:
    """Return the maps of pytorch-grad-cam, scaled and enlarged as it gives them; it may be missing."""
    import pytorch_grad_cam as package

    asked = [package.utils.model_targets.ClassifierOutputTarget(int(label)) for label in target]
    with getattr(package, name)(model, [model.embed]) as method:
        return method(images, asked)


OTHERS: Mapping[tuple[str, str], Ask] = {
    ("grad_cam", CAPTUM): lambda model, images, target: LayerGradCam(model, model.embed).attribute(
        images, target, relu_attributions=True
    ),
    ("integrated_gradients", CAPTUM): lambda model, images, target: IntegratedGradients(model).attribute(
        images, mean_colour(images), target
    ),
    ("occlusion", CAPTUM): captums_occlusion,
    ("guided_grad_cam", CAPTUM): lambda model, images, target: GuidedGradCam(model, model.embed).attribute(
        images.clone().requires_grad_(), target
    ),
    ("gradient_shap", CAPTUM): lambda model, images, target: GradientShap(model).attribute(
        images, mean_colour(images), target=target, n_samples=DRAWS
    ),
    ("grad_cam", GRAD_CAM): partial(package_map, "GradCAM"),
    ("grad_cam_plus_plus", GRAD_CAM): partial(package_map, "GradCAMPlusPlus"),
    ("layer_cam", GRAD_CAM): partial(package_map, "LayerCAM"),
    ("hires_cam", GRAD_CAM): partial(package_map, "HiResCAM"),
    ("score_cam", GRAD_CAM): partial(package_map, "ScoreCAM"),
}
"""What is held against: a method of the library, and the same of another package."""


def measure(*, images: int = 16, repetitions: int = 3) -> Report:
    """Time the maps of one batch by each method, the library's beside the same of another package.

    Parameters
    ----------
    images
        Pictures of 48 pixels a side; the network is the attention CNN of 34,000 parameters.
    repetitions
        How often each variant runs, in turn with the others; the median of its seconds counts.
    """
    before = machine()
    cells = smear.simulate(images, size=48, masks=False)
    model = AttentionCNN(len(cells.classes)).eval()
    pictures, target = to_float(cells.images), cells.labels
    own: dict[tuple[str, str], Ask] = {
        (method, ""): partial(relevance, method=method)
        for method in dict.fromkeys(name for name, _ in OTHERS)
    }
    work: dict[str, Callable[[], Parameters]] = {
        " ".join(name).strip(): partial(as_arrays, ask, model, pictures, target)
        for name, ask in {**own, **OTHERS}.items()
    }
    torch.set_num_threads(1)
    timings, skipped = in_turn(work, repetitions, time.process_time)
    rows = [
        compare(method, package, timings) for method, package in OTHERS if f"{method} {package}" in timings
    ]
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"images": images, "size": 48, "repetitions": repetitions},
        "runs": rows,
        "skipped": skipped,
        "targets": {
            f"{row['method']}: the library / {row['package']}": at_most(row["ratio"], 1.1) for row in rows
        },
    }


def as_arrays(ask: Ask, model: AttentionCNN, images: Tensor, target: Tensor) -> Parameters:
    """Return the maps as the arrays of a variant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        found = ask(model, images, target)
    return {"maps": found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)}


def compare(method: str, package: str, timings: Mapping[str, Timing]) -> Report:
    """Return the milliseconds a picture of a method, here and in another package, and their ratio."""
    here, there = timings[method], timings[f"{method} {package}"]
    count = len(here.parameters["maps"])
    return {
        "method": method,
        "package": package,
        "ms an image": round(1000 * here.median / count, 2),
        "theirs": round(1000 * there.median / count, 2),
        "ratio": round(here.median / there.median, 4),
    }
