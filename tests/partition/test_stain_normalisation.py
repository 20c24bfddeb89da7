"""What a user may rely on when every image gets the colours of one reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchstain import normalizers

from hemafl_book.papers.baselines import colour_probabilities, colour_statistics
from hemafl_lib import partition
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import LabelledCohort, Provenance
from hemafl_lib.errors import PartitionError
from hemafl_lib.partition.normalisation import from_lab, to_lab

METHODS = {
    "reinhard": (partition.reinhard, lambda images: partition.lab_statistics(images).mean(dim=0)),
    "macenko": (partition.macenko, lambda images: partition.dye_densities(images).mean(axis=0)),
}
LABORATORIES = (partition.Stain(blue=0.8, eosin=0.9), partition.Stain(blue=1.3, eosin=1.2))


@pytest.fixture(scope="module")
def cells():
    return smear.simulate(60, size=32, sites=("north",), seed=1)


def mean_colours(cohort):
    """The means and standard deviations of red, green and blue, float32[N, 6]."""
    return colour_statistics(cohort.images)[:, :6]


def constant(*colours):
    return torch.tensor(colours, dtype=torch.uint8).reshape(-1, 3, 1, 1).expand(-1, 3, 8, 8).contiguous()


def test_lab_is_that_of_the_paper_and_can_be_undone():
    red, green, blue = 0.8, 0.5, 0.2
    long = 0.3811 * red + 0.5783 * green + 0.0402 * blue
    medium = 0.1967 * red + 0.7244 * green + 0.0782 * blue
    short = 0.0241 * red + 0.1288 * green + 0.8444 * blue
    long, medium, short = np.log10([long, medium, short])
    expected = [
        (long + medium + short) / np.sqrt(3),
        (long + medium - 2 * short) / np.sqrt(6),
        (long - medium) / np.sqrt(2),
    ]
    light = torch.tensor([red, green, blue]).reshape(1, 3, 1, 1)
    lab = to_lab(light)
    assert lab.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert from_lab(lab).flatten().tolist() == pytest.approx([red, green, blue], abs=1e-5)


def test_reinhard_images_have_the_statistics_of_the_reference(cells):
    reference = partition.lab_statistics(cells.images).mean(dim=0)
    reference[0, 0] -= 0.1  # a darker reference, so that no pixel is brighter than white
    result = partition.reinhard_images(cells.images, reference)
    error = (partition.lab_statistics(result) - reference).abs()
    assert error.max() < 0.01
    again = partition.reinhard_images(result, reference)
    assert (again.int() - result.int()).abs().float().mean() < 0.5


def test_macenko_finds_the_dyes_and_their_amounts():
    generator = np.random.default_rng(0)
    blue, eosin = generator.uniform(0, [[1.0], [0.5]], (2, 4096))
    blue[:1000] = eosin[1000:2000] = 0
    light = np.exp(-(np.outer(blue, partition.DYES[0]) + np.outer(eosin, partition.DYES[1])))
    image = (light * 256 - 1).round().clip(0, 255).astype(np.uint8).T.reshape(1, 3, 64, 64)
    found = partition.dye_densities(torch.from_numpy(image))[0]
    assert found[0] == pytest.approx(1.0 * partition.DYES[0], abs=0.06)
    assert found[1] == pytest.approx(0.5 * partition.DYES[1], abs=0.06)


def test_macenko_is_torchstains():
    """On two dyes and no background, where the two agree on which pixels are stained."""
    generator = np.random.default_rng(0)
    images = torch.stack([two_dyes(generator, most) for most in ([0.9, 0.8], [0.7, 1.0])])
    oracle = normalizers.MacenkoNormalizer(backend="torch")
    oracle.fit(images[0], Io=256)
    reference = partition.dye_densities(images[:1])[0]
    assert reference == pytest.approx((oracle.HERef.T * oracle.maxCRef[:, None]).numpy(), abs=1e-3)
    theirs = oracle.normalize(images[1], Io=256)[0].permute(2, 0, 1)
    ours = partition.macenko_images(images[1:], reference)[0]
    assert (theirs.int() - ours.int()).abs().max() <= 1, "ours takes pixel value 0 for 1/256 of the light"


def two_dyes(generator, most):
    """An image of the two dyes, uint8[3, 64, 64], in amounts from 0.3 and 0.5 to ``most``."""
    light = np.exp(-generator.uniform([0.3, 0.5], most, (4096, 2)) @ partition.DYES[:2])
    return torch.from_numpy((light * 256 - 1).round().astype(np.uint8).T.reshape(3, 64, 64))


def test_macenko_keeps_an_image_that_has_the_reference_dyes_already():
    amounts = np.random.default_rng(0).uniform(0, 0.8, (256, 2))
    light = np.exp(-amounts @ partition.DYES[:2])
    image = (light * 256 - 1).round().astype(np.uint8).T.reshape(1, 3, 16, 16)
    image = torch.from_numpy(image)
    same = partition.macenko_images(image, partition.dye_densities(image)[0])
    assert (same.int() - image.int()).abs().max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_two_laboratories_look_alike_after_normalisation(method, cells):
    normalise, statistics = METHODS[method]
    reference = statistics(cells.images)
    before = [partition.restain(cells, stain) for stain in LABORATORIES]
    after = [normalise(cohort, reference) for cohort in before]

    def gap(pair):
        return np.abs(mean_colours(pair[0]) - mean_colours(pair[1])).mean()

    assert gap(after) < gap(before) / 3


@pytest.mark.parametrize("method", METHODS)
def test_labels_and_masks_stay_and_the_provenance_says_so(method, cells):
    normalise, statistics = METHODS[method]
    result = normalise(cells, statistics(cells.images))
    assert result.images.dtype == torch.uint8
    assert result.images.shape == cells.images.shape
    assert torch.equal(result.labels, cells.labels)
    assert torch.equal(result.masks, cells.masks)
    assert "normalised" in result.provenance.name
    assert result.provenance.checksum != cells.provenance.checksum


def test_each_method_hides_the_differences_that_it_models_and_no_others():
    cells = smear.simulate(360, size=24, sites=("north",), masks=False)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 360))

    def accuracy(images):
        cohort = replace(cells, images=images, labels=labels, classes=("a", "b"))
        train, test = cohort.take(range(240)), cohort.take(range(240, 360))
        return (colour_probabilities(train, test).argmax(axis=1) == test.labels.numpy()).mean()

    def confounded(*stains):
        copies = [partition.restain_images(cells.images, stain) for stain in stains]
        return torch.where(labels.bool()[:, None, None, None], *copies)

    def reinhard(images):
        return partition.reinhard_images(images, partition.lab_statistics(images).mean(dim=0))

    def macenko(images):
        return partition.macenko_images(images, partition.dye_densities(images).mean(axis=0))

    dyes = confounded(*LABORATORIES)
    light = confounded(partition.Stain(gain=(1.0, 0.95, 0.85)), partition.Stain(gain=(0.9, 0.95, 1.0)))
    assert accuracy(cells.images) < 0.6
    assert min(accuracy(dyes), accuracy(light)) > 0.95
    assert max(accuracy(macenko(dyes)), accuracy(reinhard(light))) < 0.75
    assert min(accuracy(macenko(light)), accuracy(reinhard(dyes))) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_images_of_one_colour_stay_of_one_colour(method, cells):
    normalise = {"reinhard": partition.reinhard_images, "macenko": partition.macenko_images}[method]
    result = normalise(constant((0, 0, 0), (255, 255, 255), (120, 60, 90)), METHODS[method][1](cells.images))
    assert torch.equal(result, result[:, :, :1, :1].expand_as(result))


def test_an_image_without_stained_pixels_becomes_white_for_macenko():
    blank = constant((255, 255, 255))
    assert partition.dye_densities(blank).tolist() == np.zeros((1, 2, 3)).tolist()
    assert torch.equal(partition.macenko_images(blank, partition.DYES[:2]), blank)


def test_what_is_no_reference_or_no_image_is_refused(cells):
    with pytest.raises(PartitionError, match="lab_statistics"):
        partition.reinhard(cells, partition.lab_statistics(cells.images))
    with pytest.raises(PartitionError, match="dye_densities"):
        partition.macenko(cells, partition.DYES)
    rows = LabelledCohort(
        labels=torch.zeros(2, dtype=torch.int64),
        classes=("a",),
        site=np.array(["x", "x"]),
        patient=np.arange(2),
        provenance=Provenance("test", "made here.", "none", simulated=True, checksum="0"),
    )
    with pytest.raises(PartitionError, match="stains are for images"):
        partition.reinhard(rows, torch.zeros(2, 3))
