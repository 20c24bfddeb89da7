"""What a user may rely on: augmentation keeps range and shape, and depends only on its generator."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib import augmentation as aug
from hemafl_lib.augmentation import Augmentation, augment, to_bytes, to_float, variants
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.errors import DataError, ModelError
from hemafl_lib.seeds import torch_generator

EVERYTHING = Augmentation(flips=True, translate=0.1, rotate=5.0, stain=0.2)


def pictures(count: int, side: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch_generator(0, "pictures"))


def cohort(rows: int = 7, side: int = 12) -> ImageCohort:
    return ImageCohort(
        site=np.array(["north"] * rows),
        patient=np.array([f"p{row}" for row in range(rows)]),
        provenance=Provenance("dots", "Random dots.", "none", True, "0"),
        labels=torch.arange(rows) % 2,
        classes=("a", "b"),
        images=to_bytes(pictures(rows, side)),
    )


def fixed_draws(count: int, *, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> aug.Draws:
    return aug.Draws(
        mirror=torch.zeros(count, dtype=torch.bool),
        flip=torch.zeros(count, dtype=torch.bool),
        angle=torch.full((count,), angle),
        shift=torch.tensor([shift] * count),
        density=torch.ones(count, 3),
    )


def test_everything_off_changes_no_bit():
    images = pictures(5)
    assert torch.equal(augment(images, aug.UNCHANGED, torch_generator(1)), images)


@settings(max_examples=25, deadline=None)
@given(
    flips=st.booleans(),
    translate=st.floats(0, 0.5),
    rotate=st.floats(0, 180),
    stain=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_shape_and_range_are_kept(flips, translate, rotate, stain, seed):
    images = pictures(3)
    images[0], images[1] = 0.0, 1.0
    changed = augment(images, Augmentation(flips, translate, rotate, stain), torch_generator(seed))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_equal_generators_give_equal_images_and_others_do_not():
    images = pictures(5)
    first, again, other = (augment(images, EVERYTHING, torch_generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    augment(pictures(2), EVERYTHING, torch_generator(1))
    variants(cohort(), EVERYTHING, 2, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_switching_one_change_on_leaves_the_others_as_drawn():
    plain = aug.draw(50, Augmentation(flips=True), torch_generator(3))
    stained = aug.draw(50, Augmentation(flips=True, stain=0.3), torch_generator(3))
    assert torch.equal(plain.mirror, stained.mirror)
    assert torch.equal(plain.flip, stained.flip)


def test_flips_move_pixels_and_change_none():
    images = pictures(64)
    flipped = augment(images, Augmentation(flips=True), torch_generator(0))
    kinds = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    matches = torch.stack([(flipped == kind).flatten(1).all(dim=1) for kind in kinds])
    assert matches.any(dim=0).all()
    assert matches.any(dim=1).all(), "each of the four orientations occurs"


def test_a_shift_of_two_pixels_moves_the_picture_right_and_down():
    images = pictures(1, side=10)
    moved = aug.move(images, fixed_draws(1, shift=(0.2, 0.1)))
    torch.testing.assert_close(moved[..., 1:, 2:], images[..., :-1, :-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("turns", "angle"), [(1, math.pi / 2), (2, math.pi)])
def test_a_rotation_by_right_angles_is_exact(turns, angle):
    images = pictures(2)
    turned = aug.move(images, fixed_draws(2, angle=angle))
    candidates = [torch.rot90(images, turns, dims=(2, 3)), torch.rot90(images, -turns, dims=(2, 3))]
    assert any(torch.allclose(turned, candidate, atol=1e-4) for candidate in candidates)


def test_draws_stay_within_the_settings_and_fill_them():
    draws = aug.draw(2000, EVERYTHING, torch_generator(0))
    for values, bound in (
        (draws.angle, math.radians(5)),
        (draws.shift, 0.1),
        (draws.density - 1, 0.2),
    ):
        assert 0.95 * bound < values.abs().max() <= bound * (1 + 1e-5)
        assert values.mean().abs() < 0.1 * bound
    assert 0.45 < draws.mirror.float().mean() < 0.55


def test_stain_multiplies_the_optical_density_of_a_channel():
    images = pictures(4).clamp(min=0.05)
    changed = augment(images, Augmentation(stain=0.3), torch_generator(0))
    ratio = changed.log10() / images.log10()
    assert ratio.flatten(2).std(dim=2).max() < 1e-3, "one factor for a whole channel"
    assert ratio.mean(dim=(2, 3)).std() > 0.05, "another factor for another channel"


def test_unstained_glass_stays_white():
    white = torch.ones(2, 3, 4, 4)
    assert torch.equal(augment(white, Augmentation(stain=0.5), torch_generator(0)), white)


def test_bytes_and_floats_are_inverse():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_float(values)), values)


def test_variant_zero_is_the_image_itself():
    images = cohort()
    made = variants(images, EVERYTHING, 3, seed=5)
    assert made.variants.dtype == torch.uint8
    assert made.variants.shape == (7, 3, 3, 12, 12)
    assert torch.equal(made.variants[:, 0], images.images)
    assert torch.equal(made.labels, images.labels)
    assert made.provenance == images.provenance


def test_variants_differ_and_more_of_them_keep_the_first():
    few, many = (variants(cohort(), EVERYTHING, count, seed=5).variants for count in (2, 4))
    assert torch.equal(few, many[:, :2])
    assert len({many[:, index].numpy().tobytes() for index in range(4)}) == 4


def test_variants_do_not_depend_on_the_pieces_they_are_made_in(monkeypatch):
    whole = variants(cohort(), EVERYTHING, 3, seed=5).variants
    monkeypatch.setattr(aug, "CHUNK", 2)
    assert torch.equal(variants(cohort(), EVERYTHING, 3, seed=5).variants, whole)


@pytest.mark.parametrize(
    "setting", [{"translate": -0.1}, {"translate": 0.6}, {"rotate": 200}, {"stain": 1.0}, {"stain": math.nan}]
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ModelError, match=next(iter(setting))):
        Augmentation(**setting)


def test_no_variant_at_all_is_refused():
    with pytest.raises(ModelError, match="count"):
        variants(cohort(), EVERYTHING, 0, seed=0)


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(2, 1, 8, 8),
        torch.rand(2, 3, 8, 9),
        torch.rand(3, 8, 8),
        torch.ones(1, 3, 8, 8).to(torch.uint8),
    ],
)
def test_images_of_another_kind_are_refused(images):
    with pytest.raises(DataError):
        augment(images, EVERYTHING, torch_generator(0))
