"""What a user may rely on: maps equal to Captum's, measures with known answers, models left as they were."""

import copy
import math
import os
import re
import warnings

import numpy as np
import pytest
import torch
from captum.attr import GuidedGradCam, IntegratedGradients, LayerGradCam, Occlusion
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from hemafl_lib import data, explain
from hemafl_lib.augmentation import to_float
from hemafl_lib.data import smear
from hemafl_lib.errors import ExplanationError, HemaflError
from hemafl_lib.explain.saliency import mean_colour
from hemafl_lib.explain.stability import shift
from hemafl_lib.models import AttentionCNN, backbone
from hemafl_lib.seeds import initialised, torch_generator
from hemafl_lib.training import Recipe, fit

SIZE = 32


@pytest.fixture(scope="module")
def cohort():
    return smear.simulate(4, size=SIZE, seed=1)


@pytest.fixture(scope="module")
def trained():
    """A small network that has learned something, so that its maps are not zero."""
    model = AttentionCNN(4, width=8, norm="group")
    fit(model, smear.simulate(96, size=SIZE), Recipe(local_epochs=2, batch_size=16), torch_generator(0))
    return model


@pytest.fixture
def spare(trained):
    """A copy that a test may look at before and after."""
    return copy.deepcopy(trained).train()


class Corner(nn.Module):
    """A model whose probability of class 1 is the mean brightness of the top left quarter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        half = images.shape[-1] // 2
        bright = (self.scale * images[:, :, :half, :half].mean(dim=(1, 2, 3))).clamp(1e-6, 1 - 1e-6)
        return torch.stack([1 - bright, bright], dim=1).log()


def corner_map(count, size):
    maps = torch.zeros(count, size, size)
    maps[:, : size // 2, : size // 2] = 1
    return maps


def white_corner(count=2, size=16):
    return corner_map(count, size)[:, None].expand(-1, 3, -1, -1)


def maps_of(shape, low=-1.0):
    numbers = st.floats(low, 1, width=32)
    return st.lists(numbers, min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda values: torch.tensor(values).reshape(shape)
    )


# Saliency


def captum(model, images, target, method):
    """The same maps by Captum alone."""
    images = to_float(images)
    if method == "grad_cam":
        return LayerGradCam(model, model.embed).attribute(images, target, relu_attributions=True)[:, 0]
    if method == "integrated_gradients":
        return IntegratedGradients(model).attribute(images, mean_colour(images), target).sum(dim=1)
    if method == "occlusion":
        window = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
        maps = Occlusion(model).attribute(images, **window, baselines=mean_colour(images), target=target)
        return maps.mean(dim=1)[:, ::2, ::2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GuidedGradCam(model, model.embed).attribute(images, target).sum(dim=1)


@pytest.mark.parametrize("method", explain.METHODS)
def test_maps_equal_those_of_captum(trained, cohort, method):
    mine = explain.saliency(trained, cohort.images, cohort.labels, method)
    theirs = captum(trained.eval(), cohort.images, cohort.labels, method).detach()
    assert mine.dtype == torch.float32
    assert mine.abs().max() > 0
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "side"),
    [("grad_cam", 4), ("integrated_gradients", 32), ("occlusion", 16), ("guided_grad_cam", 32)],
)
def test_the_native_grid_is_kept(trained, cohort, method, side):
    assert explain.saliency(trained, cohort.images, 0, method).shape == (4, side, side)


def test_a_place_of_the_occlusion_map_is_a_block_of_equal_pixels(trained, cohort):
    images = to_float(cohort.images)
    pixels = Occlusion(trained.eval()).attribute(
        images, (3, 4, 4), strides=(3, 2, 2), baselines=mean_colour(images), target=0
    )[:, 0]
    maps = explain.saliency(trained, images, 0, "occlusion")
    torch.testing.assert_close(explain.upsample(maps, SIZE), pixels, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", explain.METHODS)
def test_the_model_stays_as_it_is_and_maps_repeat(spare, cohort, method):
    before = {name: value.clone() for name, value in spare.state_dict().items()}
    hooks = [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in spare.modules()]
    first = explain.saliency(spare, cohort.images, 1, method)
    assert torch.equal(first, explain.saliency(spare, cohort.images, 1, method))
    assert spare.training
    assert all(torch.equal(value, before[name]) for name, value in spare.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in spare.parameters())
    assert sum(hooks) == 0
    assert hooks == [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in spare.modules()]


@pytest.mark.parametrize("method", explain.METHODS)
def test_images_are_explained_one_by_one(trained, cohort, method):
    together = explain.saliency(trained, cohort.images, cohort.labels, method)
    alone = explain.saliency(trained, to_float(cohort.images[2:3]), int(cohort.labels[2]), method)
    torch.testing.assert_close(alone, together[2:3], atol=1e-5, rtol=1e-4)


def test_grad_cam_is_the_class_activation_map(trained, cohort):
    exact = explain.cam(trained, cohort.images, cohort.labels)
    places = exact[0].numel()
    without_relu = LayerGradCam(trained.eval(), trained.embed).attribute(
        to_float(cohort.images), cohort.labels
    )
    torch.testing.assert_close(without_relu[:, 0].detach() * places, exact, atol=1e-5, rtol=1e-4)
    mine = explain.saliency(trained, cohort.images, cohort.labels, "grad_cam")
    torch.testing.assert_close(mine * places, exact.clamp_min(0), atol=1e-5, rtol=1e-4)


def test_the_class_activation_map_adds_up_to_the_logit(trained, cohort):
    maps = explain.cam(trained, cohort.images, 2)
    with torch.no_grad():
        logits = trained.eval()(to_float(cohort.images))[:, 2]
    torch.testing.assert_close(maps.mean(dim=(1, 2)) + trained.head.bias[2], logits)


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(trained, cohort):
    images = to_float(cohort.images)
    maps = explain.saliency(trained, images, 0, "integrated_gradients")
    with torch.no_grad():
        difference = (trained.eval()(images) - trained(mean_colour(images)))[:, 0]
    torch.testing.assert_close(maps.sum(dim=(1, 2)), difference, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("name", "earlier"), [("resnet34", "prefix.layer2"), ("efficientnet_lite0", "prefix.blocks.2")]
)
@pytest.mark.parametrize("trainable", ["top", "head"])
def test_backbones_are_explained_at_their_last_feature_maps(name, earlier, trainable):
    model = backbone(name, 3, pretrained=False, trainable=trainable)
    images = torch.rand(1, 3, 64, 64, generator=torch_generator(0))
    assert explain.saliency(model, images, 1, "grad_cam").shape == (1, 2, 2)
    assert explain.saliency(model, images, 1, "grad_cam", layer=earlier).shape == (1, 8, 8)


def test_layers_that_overwrite_their_input_are_no_obstacle():
    model = backbone("resnet34", 3, pretrained=False)
    assert any(getattr(layer, "inplace", False) for layer in model.modules())
    images = torch.rand(1, 3, 32, 32, generator=torch_generator(0))
    assert explain.saliency(model, images, 1, "guided_grad_cam").shape == (1, 32, 32)
    assert any(getattr(layer, "inplace", False) for layer in model.modules())


def test_a_vision_transformer_is_explained_by_methods_without_feature_maps():
    model = backbone("dinov2_s", 2, pretrained=False, size=14)
    images = torch.rand(1, 3, 14, 14, generator=torch_generator(0))
    assert explain.saliency(model, images, 0, "integrated_gradients").shape == (1, 14, 14)
    with pytest.raises(ExplanationError, match="not feature maps"):
        explain.saliency(model, images, 0, "grad_cam")


def test_upsampling_keeps_blocks_or_smooths():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    blocks = explain.upsample(maps, 4)
    assert torch.equal(blocks, maps.repeat_interleave(2, 1).repeat_interleave(2, 2))
    smooth = explain.upsample(maps, 4, smooth=True)
    assert len(smooth.unique()) > len(blocks.unique())
    torch.testing.assert_close(smooth.mean(), maps.mean())


# Devices

NO_CUDA = not torch.cuda.is_available()


@pytest.mark.parametrize(
    "explain_one",
    [
        lambda m, c: explain.saliency(m, c.images, 0, "occlusion"),
        lambda m, c: explain.cam(m, c.images, 0),
        lambda m, c: explain.deletion(m, c.images, 0, torch.ones(4, 4, 4)),
        lambda m, c: explain.cascade(m, c.images, 0, "grad_cam", torch_generator(0)),
        lambda m, c: explain.stain_stability(m, c.images, 0, "grad_cam", torch_generator(0)),
        lambda m, c: explain.report_card(m, c, 0, "grad_cam"),
    ],
)
@pytest.mark.skipif(not NO_CUDA, reason="a GPU is there")
def test_the_environment_decides_where_maps_are_computed(trained, cohort, monkeypatch, explain_one):
    monkeypatch.setenv("HEMAFL_DEVICE", "cuda")
    with pytest.raises(HemaflError, match="HEMAFL_DEVICE='cuda' is not available"):
        explain_one(trained, cohort)


@pytest.mark.gpu
@pytest.mark.skipif(NO_CUDA, reason="needs CUDA")
@pytest.mark.parametrize("method", explain.METHODS)
def test_maps_and_curves_of_a_gpu_are_those_of_the_cpu(trained, cohort, method):
    here, there = (
        explain.saliency(trained, cohort.images, cohort.labels, method, device=device)
        for device in ("cpu", "cuda")
    )
    assert there.device.type == "cpu"
    torch.testing.assert_close(there, here, atol=2e-3 * float(here.abs().max()), rtol=1e-2)
    near, far = (
        explain.deletion(trained, cohort.images, cohort.labels, here, device=device)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(far.areas, near.areas, atol=2e-3, rtol=0)
    assert next(trained.parameters()).device.type == "cpu"


# What maps have in common


@settings(deadline=None, max_examples=30)
@given(maps_of((2, 3, 4)), maps_of((2, 3, 4)))
def test_rank_correlation_is_that_of_scipy(first, second):
    mine = explain.rank_correlation(first, second)
    for i in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = spearmanr(first[i].flatten(), second[i].flatten()).statistic
        assert float(mine[i]) == pytest.approx(theirs, abs=1e-6, nan_ok=True)


def test_correlation_is_blind_to_scale_and_offset():
    maps = torch.rand(3, 4, 4, generator=torch_generator(0))
    torch.testing.assert_close(explain.correlation(maps, 2 * maps + 1), torch.ones(3))
    torch.testing.assert_close(explain.correlation(maps, -maps), -torch.ones(3))
    assert explain.correlation(maps, torch.full((3, 4, 4), 0.1)).isnan().all()


def test_sparsity_of_known_maps():
    single = torch.zeros(1, 4, 4)
    single[0, 1, 2] = -3
    even = torch.full((1, 4, 4), 0.5)
    values = explain.sparsity(torch.cat([single, even]))
    torch.testing.assert_close(values, torch.tensor([1 - 1 / 16, 0.0]), atol=1e-6, rtol=0)


# Deletion and insertion


def test_curves_of_a_model_whose_truth_is_known():
    images, size = white_corner(), 16
    right = corner_map(2, size)
    quarter = 0.25  # of the pixels, and also the mean colour
    deletion = explain.deletion(Corner(), images, 1, right)
    expected = quarter * (1 + quarter) / 2 + (1 - quarter) * quarter
    torch.testing.assert_close(deletion.areas, torch.full((2,), expected), atol=1e-3, rtol=0)
    insertion = explain.insertion(Corner(), images, 1, right, reference="mean")
    expected = quarter * (1 + quarter) / 2 + (1 - quarter)
    torch.testing.assert_close(insertion.areas, torch.full((2,), expected), atol=1e-3, rtol=0)


def test_the_true_map_beats_the_baselines_and_the_worst_map():
    images = white_corner()
    right = corner_map(2, 16)
    compared = [right, explain.random_maps(images, torch_generator(0)), explain.edge_maps(images), -right]
    deleted = [explain.deletion(Corner(), images, 1, maps).areas for maps in compared]
    inserted = [explain.insertion(Corner(), images, 1, maps, reference="mean").areas for maps in compared]
    assert all((deleted[0] < other - 0.05).all() for other in deleted[1:])
    assert all((inserted[0] > other + 0.05).all() for other in inserted[1:])


def test_deletion_is_the_pixel_flipping_of_quantus():
    import quantus

    pictures = 0.2 + 0.6 * torch.rand(3, 3, 12, 12, generator=torch_generator(0))
    # Quantus' own "mean" moves with the pixels that are gone; of these pictures it is 0.5 throughout.
    pictures += 0.5 - pictures.mean(dim=(2, 3), keepdim=True)
    maps = torch.rand(3, 12, 12, generator=torch_generator(1))
    with initialised(0):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4)).eval()
    target = torch.tensor([0, 1, 3])
    mine = explain.deletion(model, pictures, target, maps, steps=24)
    flipping = quantus.PixelFlipping(
        features_in_step=3 * 144 // 24, perturb_baseline=0.5, normalise=False, disable_warnings=True
    )
    theirs = flipping(model, pictures.numpy(), target.numpy(), maps[:, None].numpy(), softmax=True)
    assert mine.probabilities[:, 1:].numpy() == pytest.approx(np.array(theirs), abs=1e-5)


@settings(deadline=None, max_examples=20)
@given(maps_of((2, 4, 4)), st.integers(1, 20))
def test_curves_begin_and_end_at_image_and_reference(maps, steps):
    images = torch.rand(2, 3, 8, 8, generator=torch_generator(0))
    model = Corner()
    down = explain.deletion(model, images, 1, maps, reference="blur", steps=steps)
    up = explain.insertion(model, images, 1, maps, reference="blur", steps=steps)
    assert down.shares.tolist() == pytest.approx([k / steps for k in range(steps + 1)])
    torch.testing.assert_close(down.probabilities[:, 0], up.probabilities[:, -1])
    torch.testing.assert_close(down.probabilities[:, -1], up.probabilities[:, 0])
    torch.testing.assert_close(down.probabilities[:, 0], model(images)[:, 1].exp().detach())
    assert ((down.areas >= 0) & (down.areas <= 1)).all()


def test_a_coarse_map_counts_as_the_same_map_in_blocks():
    images = torch.rand(2, 3, 8, 8, generator=torch_generator(0))
    maps = torch.rand(2, 4, 4, generator=torch_generator(1))
    coarse = explain.deletion(Corner(), images, 1, maps)
    fine = explain.deletion(Corner(), images, 1, explain.upsample(maps, 8))
    assert torch.equal(coarse.probabilities, fine.probabilities)


def test_edges_are_where_the_image_changes():
    edges = explain.edge_maps(white_corner(1, 16))[0]
    rows, columns = torch.nonzero(edges, as_tuple=True)
    assert set(torch.maximum(rows, columns).tolist()) == {7, 8}
    assert explain.edge_maps(torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)).max() < 1e-6


# Randomised weights


def test_cascade_forgets_from_the_head_down(spare, cohort):
    before = {name: value.clone() for name, value in spare.state_dict().items()}
    table = explain.cascade(spare, cohort.images, cohort.labels, "integrated_gradients", torch_generator(0))
    assert table["group"].unique().tolist() == ["", "head", "embed.0", "blocks.2", "blocks.1", "blocks.0"]
    assert table.groupby("stage").size().tolist() == [4] * 6
    mean = table.groupby("stage")[["rank_correlation", "correlation"]].mean()
    assert mean.loc[0].tolist() == pytest.approx([1, 1])
    assert (mean.loc[5].abs() < 0.5).all()
    assert spare.training
    assert all(torch.equal(value, before[name]) for name, value in spare.state_dict().items())
    again = explain.cascade(spare, cohort.images, cohort.labels, "integrated_gradients", torch_generator(0))
    assert table.equals(again)


def test_shuffled_weights_keep_their_values(trained):
    mixed = explain.shuffle_weights(trained, ["head", "blocks.1"], torch_generator(3))
    changed = set()
    for (name, old), new in zip(trained.named_parameters(), mixed.parameters(), strict=True):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
        if not torch.equal(old, new):
            changed.add(name)
    assert {"head.weight", "blocks.1.conv.weight"} <= changed
    assert all(name.startswith(("head.", "blocks.1.")) for name in changed)


def test_every_parameter_belongs_to_one_group():
    for model in (AttentionCNN(2), backbone("resnet34", 2, pretrained=False)):
        groups = explain.layer_groups(model)
        owners = [
            [group for group in groups if name.startswith(f"{group}.")]
            for name, _ in model.named_parameters()
        ]
        assert all(len(owner) == 1 for owner in owners)


# Inside a mask


@settings(deadline=None, max_examples=30)
@given(maps_of((3, 4, 4), low=0.125), st.integers(0, 2**16))
def test_shares_of_disjoint_masks_add_up_to_one(maps, seed):
    masks = torch.randint(0, 3, (3, 8, 8), generator=torch_generator(seed))
    parts = [explain.share_inside(maps, masks == part) for part in range(3)]
    torch.testing.assert_close(sum(parts), torch.ones(3))


def test_shares_of_known_maps():
    inside = corner_map(2, 8) > 0
    maps = torch.cat([corner_map(1, 2), -corner_map(1, 2)])
    shares = explain.share_inside(maps, inside)
    assert shares[0] == 1
    assert shares[1].isnan()
    torch.testing.assert_close(explain.share_inside(torch.ones(2, 2, 2), inside), explain.area_share(inside))
    assert explain.area_share(inside).tolist() == [0.25, 0.25]


def test_centred_gaussian_is_symmetric_and_as_wide_as_asked():
    maps = explain.centred_gaussian(2, 64, sigma=0.1)
    assert torch.equal(maps[0], maps[1])
    torch.testing.assert_close(maps[0], maps[0].flip(0, 1))
    places = (torch.arange(64) + 0.5) / 64 - 0.5
    weights = maps[0].sum(dim=0)
    assert float((weights * places**2).sum() / weights.sum()) ** 0.5 == pytest.approx(0.1, rel=1e-3)


# Stability


def test_shifting_moves_whole_pixels_and_back():
    images = torch.rand(1, 3, 8, 8, generator=torch_generator(0))
    moved = shift(images, 2, -1)
    assert torch.equal(moved[:, :, 1, 5], images[:, :, 2, 3])
    assert torch.equal(shift(moved, -2, 1)[:, :, 2:-2, 2:-2], images[:, :, 2:-2, 2:-2])


class Everywhere(nn.Module):
    """A model that treats all places alike: its maps move with the image."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, images):
        score = ((images**2) * self.colours[:, None, None]).mean(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def test_maps_of_a_model_that_treats_places_alike_move_with_the_image(cohort):
    stable = explain.shift_stability(Everywhere(), cohort.images, 0, "integrated_gradients", pixels=1)
    fixed = explain.shift_stability(Corner(), cohort.images, 0, "integrated_gradients", pixels=4)
    assert (stable > 0.95).all()
    assert (fixed < stable).all()


def test_no_change_of_stain_leaves_the_map(trained, cohort):
    options = {"target": 0, "method": "occlusion", "draws": 1}
    same = explain.stain_stability(trained, cohort.images, generator=torch_generator(0), stain=0.0, **options)
    torch.testing.assert_close(same, torch.ones(4))
    other = explain.stain_stability(
        trained, cohort.images, generator=torch_generator(0), stain=0.5, **options
    )
    assert (other < same).all()


# The report card


def test_report_card_holds_the_measures(trained, cohort):
    card = explain.report_card(trained, cohort, cohort.labels, "occlusion")
    maps = explain.saliency(trained, cohort.images, cohort.labels, "occlusion")
    assert len(card) == 4
    deleted = explain.deletion(trained, cohort.images, cohort.labels, maps)
    assert card["deletion"].tolist() == deleted.areas.tolist()
    assert card["nucleus"].tolist() == explain.share_inside(maps, cohort.masks == 2).tolist()
    assert card["cell_area"].tolist() == explain.area_share(cohort.masks > 0).tolist()
    assert (card["nucleus"] <= card["cell"]).all()
    assert (card["nucleus_gaussian"] > card["nucleus_area"]).all()
    assert card["sparsity"].tolist() == explain.sparsity(maps).tolist()
    assert {"deletion_random", "insertion_edges", "randomised", "shift", "stain"} <= set(card)


def test_report_card_without_masks_leaves_their_columns_out(trained):
    card = explain.report_card(trained, smear.simulate(2, size=SIZE, masks=False), 0, "grad_cam")
    assert not {"nucleus", "cell"} & set(card)
    assert "deletion" in card


@pytest.mark.real
@pytest.mark.skipif("HEMAFL_DATA" not in os.environ, reason="HEMAFL_DATA does not name a data folder")
def test_real_cells_lie_in_the_centre(monkeypatch, tmp_path):
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path))
    if "cellavision" not in data.available():
        pytest.skip("HEMAFL_DATA does not hold 'cellavision'")
    cells = data.load("cellavision", size=SIZE)
    model = AttentionCNN(len(cells.classes), width=8, norm="group")
    fit(model, cells, Recipe(local_epochs=3), torch_generator(0))
    card = explain.report_card(model, cells.take(range(8)), cells.labels[:8], "occlusion")
    assert ((card["nucleus"] > 0) & (card["nucleus"] < card["cell"]) & (card["cell"] < 1)).all()
    nucleus = cells.masks == 2
    gaussian = explain.share_inside(explain.centred_gaussian(len(cells), SIZE), nucleus)
    assert gaussian.mean() > 2 * explain.area_share(nucleus).mean()


# Bad input

PICTURES = torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: explain.saliency(m, PICTURES, 0, "lime"), "method 'lime' is unknown"),
        (lambda m: explain.saliency(m, PICTURES[0], 0, "grad_cam"), "give square RGB images"),
        (lambda m: explain.saliency(m, PICTURES[:0], 0, "grad_cam"), "give square RGB images"),
        (lambda m: explain.saliency(m, PICTURES.long(), 0, "grad_cam"), "images are torch.int64"),
        (lambda m: explain.saliency(m, PICTURES / 0, 0, "grad_cam"), "finite floats"),
        (lambda m: explain.saliency(m, PICTURES, 4, "grad_cam"), "class numbers from 0 to 3"),
        (lambda m: explain.saliency(m, PICTURES, -1, "grad_cam"), "class numbers from 0 to 3"),
        (lambda m: explain.saliency(m, PICTURES, torch.zeros(3).long(), "grad_cam"), "each of the 2 images"),
        (lambda m: explain.saliency(m, PICTURES, 0, "grad_cam", layer="body"), "no layer 'body'"),
        (lambda m: explain.saliency(m, PICTURES, 0, "grad_cam", layer="head"), "layer 'head' .* gives"),
        (lambda m: explain.saliency(Corner(), PICTURES, 0, "guided_grad_cam"), "Corner has none"),
        (lambda m: explain.deletion(m, PICTURES, 0, torch.zeros(1, 4, 4)), "1 maps for 2 images"),
        (lambda m: explain.deletion(m, PICTURES, 0, torch.zeros(2, 1, 4, 4)), "give one finite map"),
        (lambda m: explain.deletion(m, PICTURES, 0, torch.zeros(2, 4, 4), reference="x"), "reference 'x'"),
        (lambda m: explain.insertion(m, PICTURES, 0, torch.zeros(2, 4, 4), steps=0), "steps is 0"),
        (lambda m: explain.share_inside(torch.zeros(2, 4, 4), torch.zeros(2, 8, 8)), "give bool"),
        (lambda m: explain.correlation(torch.zeros(2, 4, 4), torch.zeros(2, 8, 8)), "maps of one grid"),
        (lambda m: explain.centred_gaussian(1, 8, sigma=0), "sigma is 0"),
        (lambda m: explain.shuffle_weights(m, ["neck"], torch_generator(0)), "no part 'neck'"),
        (lambda m: explain.shift_stability(m, PICTURES, 0, "grad_cam", pixels=8), "pixels is 8"),
        (lambda m: explain.stain_stability(m, PICTURES, 0, "grad_cam", torch_generator(0), draws=0), "draws"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(trained, call, sentence):
    with pytest.raises(ExplanationError, match=sentence) as caught:
        call(trained)
    assert len(re.findall(r"[.?!](?:\s|$)", str(caught.value))) == 1
