"""What a user may rely on: frozen layers evaluated once give what they give when evaluated every time."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hemafl_lib.augmentation import Augmentation, to_float, variants
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.errors import ModelError
from hemafl_lib.models import AttentionCNN, activations, backbone, trained_part
from hemafl_lib.seeds import torch_generator

CHANGES = Augmentation(flips=True, translate=0.1, rotate=5.0, stain=0.1)


@pytest.fixture(scope="module")
def cohort() -> ImageCohort:
    rows, side = 12, 48
    noise = torch.rand(rows, 3, side, side, generator=torch_generator(0))
    return ImageCohort(
        site=np.array(["north", "south"] * (rows // 2)),
        patient=np.array([f"p{row}" for row in range(rows)]),
        provenance=Provenance("noise", "Random noise.", "none", True, "0"),
        labels=torch.arange(rows) % 4,
        classes=("a", "b", "c", "d"),
        images=(255 * noise).to(torch.uint8),
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return backbone("efficientnet_lite0", 4, size=48)


def quiet(model, cohort, **options):
    return activations(model, cohort, progress=False, **options)


def after_sgd(
    part: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """Train ``part`` on one variant a step and return its parameters as one vector."""
    optimiser = torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    part.train()
    for step, batch in enumerate(rows):
        optimiser.zero_grad()
        nn.functional.cross_entropy(part(inputs[batch, step % inputs.shape[1]]), labels[batch]).backward()
        optimiser.step()
    return nn.utils.parameters_to_vector(trained_part(part).parameters()).detach()


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
def test_training_the_suffix_on_activations_equals_training_the_model_on_pixels(cohort, norm):
    whole = backbone("efficientnet_lite0", 4, size=48, norm=norm, trainable="blocks.6")
    suffix = copy.deepcopy(whole.suffix)
    pixels = variants(cohort, CHANGES, 2, seed=1)
    cached = quiet(whole, cohort, augmentation=CHANGES, count=2, seed=1)
    rows = torch.stack([torch.randperm(12, generator=torch_generator(0, step))[:8] for step in range(4)])
    start = nn.utils.parameters_to_vector(suffix.parameters()).detach().clone()
    expected = after_sgd(whole, to_float(pixels.variants), cohort.labels, rows)
    result = after_sgd(suffix, cached.variants, cohort.labels, rows)
    assert (expected - start).norm() > 0.01 * start.norm(), "training moved the parameters"
    assert (result - expected).norm() < 1e-6 * expected.norm()


def test_rows_shape_and_what_goes_with_them(model, cohort):
    made = quiet(model, cohort, augmentation=CHANGES, count=3)
    assert made.variants.shape[:3] == (12, 3, 320)
    assert made.variants.dtype == torch.float32
    assert torch.equal(made.labels, cohort.labels)
    assert made.classes == cohort.classes
    assert (made.site == cohort.site).all()
    assert made.provenance == cohort.provenance


def test_the_suffix_reads_them(model, cohort):
    with torch.no_grad():
        logits = model.eval().suffix(quiet(model, cohort).variants[:, 0])
        torch.testing.assert_close(logits, model(to_float(cohort.images)), atol=1e-4, rtol=1e-4)


def test_the_number_of_workers_changes_no_bit(model, cohort):
    one, three = (
        quiet(model, cohort, augmentation=CHANGES, count=2, batch_size=5, workers=workers).variants
        for workers in (1, 3)
    )
    assert torch.equal(one, three)


def test_variants_made_before_or_on_the_way_are_the_same(model, cohort):
    before = quiet(model, variants(cohort, CHANGES, 3, seed=4)).variants
    on_the_way = quiet(model, cohort, augmentation=CHANGES, count=3, seed=4).variants
    assert torch.equal(before, on_the_way)


def test_model_threads_and_global_generator_are_left_alone(model, cohort):
    state = copy.deepcopy(model.state_dict())
    threads, drawn = torch.get_num_threads(), torch.get_rng_state()
    model.train()
    quiet(model, cohort, augmentation=CHANGES, count=2)
    assert model.training
    assert model.suffix.training
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_only_the_head_reads_vectors(cohort):
    head_only = backbone("efficientnet_lite0", 4, size=48, trainable="head")
    assert quiet(head_only, cohort).variants.shape == (12, 1, 1280)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_same(model, cohort):
    cpu, gpu = (quiet(model, cohort, device=device).variants for device in ("cpu", "cuda"))
    assert (gpu - cpu).norm() < 1e-2 * cpu.norm(), "convolutions on a GPU may round to TF32"


def test_a_model_without_frozen_layers_is_refused(cohort):
    with pytest.raises(ModelError, match="AttentionCNN has no frozen prefix"):
        quiet(AttentionCNN(4), cohort)


def test_activations_of_activations_are_refused(model, cohort):
    with pytest.raises(ModelError, match="give images, not activations"):
        quiet(model, quiet(model, cohort))


@pytest.mark.parametrize("option", ["batch_size", "workers"])
def test_nothing_at_a_time_is_refused(model, cohort, option):
    with pytest.raises(ModelError, match=option):
        quiet(model, cohort, **{option: 0})


def test_a_model_without_frozen_layers_travels_whole():
    model = AttentionCNN(4)
    assert trained_part(model) is model
