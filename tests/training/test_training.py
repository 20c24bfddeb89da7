"""What a user may rely on in one site's training: the recipe means what its equations say."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders.federated import PROVENANCE, linear, pictures, same_parameters, small_cnn, table
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from hemafl_lib.augmentation import Augmentation, augment
from hemafl_lib.data.cohort import VariantCohort
from hemafl_lib.errors import HemaflError, Stopped
from hemafl_lib.seeds import initialised, torch_generator
from hemafl_lib.training import (
    Recipe,
    epoch_batches,
    evaluation_batches,
    fit,
    focal_loss,
    make_optimiser,
    mean_recall,
    predict,
    proximal_term,
    score,
    training_inputs,
)

PLAIN_SGD = Recipe(optimiser="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.1, batch_size=8)


def changed(recipe: Recipe, **values) -> Recipe:
    return Recipe(**(vars(recipe) | values))


def regression(seed: int = 0) -> nn.Module:
    """Logistic regression without batch norm: a batch's gradient is the mean of its rows' gradients."""
    with initialised(seed):
        return nn.Linear(6, 2)


def varied(rows: int, seed: int, count: int = 3, features: int = 6) -> VariantCohort:
    """Variants of noise; variant k of every row is shifted by 100 k, so that it can be recognised."""
    generator = torch_generator(seed, "variants")
    base = torch.rand(rows, 1, features, generator=generator)
    return VariantCohort(
        variants=base + 100.0 * torch.arange(count)[None, :, None],
        labels=torch.randint(2, (rows,), generator=generator),
        classes=("a", "b"),
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


def trained(model: nn.Module, cohort, recipe: Recipe, seed: int = 0, **options) -> nn.Module:
    model = copy.deepcopy(model)
    fit(model, cohort, recipe, torch_generator(seed), **options)
    return model


def vector(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


CASES = {
    "table": (table, linear),
    "images": (pictures, small_cnn),
    "variants": (varied, linear),
}
every_kind = pytest.mark.parametrize(("make", "model"), CASES.values(), ids=CASES.keys())


# --- losses -----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), rows=st.integers(1, 9), classes=st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_focal_loss_with_gamma_zero_is_the_cross_entropy(seed, rows, classes):
    scores = 3 * torch.randn(rows, classes, generator=torch_generator(seed))
    labels = torch.randint(classes, (rows,), generator=torch_generator(seed))
    torch.testing.assert_close(focal_loss(scores, labels, 0.0), F.cross_entropy(scores, labels))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_of_two_classes_is_torchvisions(gamma):
    """A softmax over (0, z) is a sigmoid of z."""
    z = 3 * torch.randn(50, generator=torch_generator(1))
    labels = torch.randint(2, (50,), generator=torch_generator(2))
    expected = sigmoid_focal_loss(z, labels.float(), alpha=-1, gamma=gamma, reduction="mean")
    scores = torch.stack([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(focal_loss(scores, labels, gamma), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_has_a_finite_gradient_where_the_model_is_certain(gamma):
    scores = torch.tensor([[40.0, -40.0], [-40.0, 40.0]], requires_grad=True)
    focal_loss(scores, torch.tensor([0, 0]), gamma).backward()
    assert torch.isfinite(scores.grad).all()


def test_the_recipe_chooses_the_loss():
    model, cohort = regression(), table(20, 0)
    scores = predict(model, cohort)
    for recipe, expected in (
        (Recipe(), F.cross_entropy(scores, cohort.targets)),
        (Recipe(loss="focal", gamma=3.0), focal_loss(scores, cohort.targets, 3.0)),
    ):
        assert score(model, cohort, recipe)["loss"] == pytest.approx(float(expected))


# --- FedProx ----------------------------------------------------------------------------------------


def test_proximal_term_is_half_the_squared_distance_and_its_gradient_the_difference():
    model, other = regression(0), regression(1)
    reference = {name: value.detach().clone() for name, value in other.named_parameters()}
    term = proximal_term(model, reference)
    difference = vector(model) - vector(other)
    assert float(term.detach()) == pytest.approx(0.5 * float(difference.square().sum()), rel=1e-6)
    term.backward()
    gradient = torch.cat([value.grad.ravel() for value in model.parameters()])
    torch.testing.assert_close(gradient, difference)


def test_proximal_steps_follow_autograd():
    """Two steps by hand on loss + mu / 2 ||w - w_0||^2 end where `fit` ends."""
    cohort, mu = table(16, 3), 0.7
    model = regression()
    start = [value.detach().clone() for value in model.parameters()]
    by_hand = copy.deepcopy(model)
    for rows in torch.randperm(16, generator=torch_generator(0)).split(8):
        loss = F.cross_entropy(by_hand(cohort.inputs[rows]), cohort.targets[rows])
        pull = sum((w - w0).square().sum() for w, w0 in zip(by_hand.parameters(), start, strict=True))
        gradients = torch.autograd.grad(loss + mu / 2 * pull, list(by_hand.parameters()))
        with torch.no_grad():
            for value, gradient in zip(by_hand.parameters(), gradients, strict=True):
                value -= 0.1 * gradient
    result = trained(model, cohort, changed(PLAIN_SGD, proximal=mu))
    torch.testing.assert_close(vector(result), vector(by_hand), atol=1e-6, rtol=1e-6)


def test_a_stronger_pull_stays_closer_to_the_global_model():
    model, cohort = regression(), table(40, 0)
    moved = [
        float(
            (
                vector(trained(model, cohort, changed(PLAIN_SGD, proximal=mu, local_epochs=3)))
                - vector(model)
            ).norm()
        )
        for mu in (0.0, 1.0, 5.0)
    ]
    assert moved[0] > moved[1] > moved[2] > 0


# --- steps ------------------------------------------------------------------------------------------


@given(parts=st.integers(2, 4), rows=st.integers(5, 40), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_accumulating_batches_is_one_larger_batch(parts, rows, seed):
    cohort = table(rows, seed)
    small = trained(regression(), cohort, changed(PLAIN_SGD, batch_size=4, accumulate=parts), seed)
    large = trained(regression(), cohort, changed(PLAIN_SGD, batch_size=4 * parts), seed)
    torch.testing.assert_close(vector(small), vector(large), atol=1e-6, rtol=1e-6)


def test_clipping_bounds_the_step_and_leaves_small_gradients_alone():
    model, cohort = regression(), table(8, 0)
    free = vector(trained(model, cohort, PLAIN_SGD)) - vector(model)
    bound = float(free.norm()) / 0.1 / 4
    clipped = vector(trained(model, cohort, changed(PLAIN_SGD, clip=bound))) - vector(model)
    assert float(clipped.norm()) == pytest.approx(0.1 * bound, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())
    loose = vector(trained(model, cohort, changed(PLAIN_SGD, clip=100 * bound))) - vector(model)
    torch.testing.assert_close(loose, free)


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 1.0), (0.25, 0.5 * (1 + math.sqrt(0.5))), (0.5, 0.5), (0.9, 0.0245)]
)
def test_the_cosine_schedule(progress, share):
    parameters = list(regression().parameters())
    cosine = Recipe(schedule="cosine", learning_rate=0.3)
    assert make_optimiser(parameters, cosine, progress).param_groups[0]["lr"] == pytest.approx(
        0.3 * share, rel=1e-2
    )
    constant = Recipe(learning_rate=0.3)
    assert make_optimiser(parameters, constant, progress).param_groups[0]["lr"] == 0.3


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_recipe_chooses_the_optimiser(name, kind):
    optimiser = make_optimiser(
        list(regression().parameters()), Recipe(optimiser=name, weight_decay=0.03), 0.0
    )
    assert type(optimiser) is kind
    assert optimiser.param_groups[0]["weight_decay"] == 0.03


@pytest.mark.parametrize(("epochs", "accumulate", "steps"), [(1, 1, 3), (2, 1, 6), (1, 2, 2), (3, 3, 3)])
def test_the_report_counts_steps_and_examples(epochs, accumulate, steps):
    recipe = Recipe(batch_size=8, local_epochs=epochs, accumulate=accumulate)
    report = fit(regression(), table(20, 0), recipe, torch_generator(0))
    assert (report.steps, report.examples) == (steps, 20 * epochs)


def test_the_reported_loss_is_the_mean_over_the_examples():
    model, cohort = regression(), table(21, 0)
    still = changed(PLAIN_SGD, learning_rate=1e-12)
    report = fit(copy.deepcopy(model), cohort, still, torch_generator(0))
    expected = F.cross_entropy(predict(model, cohort), cohort.targets)
    assert report.loss == pytest.approx(float(expected), rel=1e-5)


def test_frozen_parameters_stay():
    model = small_cnn()
    model[0].requires_grad_(False)
    after = trained(model, pictures(16, 0), changed(PLAIN_SGD, proximal=0.1, clip=1.0))
    assert torch.equal(after[0].weight, model[0].weight)
    assert not torch.equal(after[5].weight, model[5].weight)


# --- batches and inputs -----------------------------------------------------------------------------


@given(rows=st.integers(1, 70), size=st.integers(1, 20), seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_row_once_and_no_batch_of_one_at_its_end(rows, size, seed):
    batches = epoch_batches(table(rows, 0), Recipe(batch_size=size), torch_generator(seed))
    assert sorted(torch.cat(batches).tolist()) == list(range(rows))
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches[-1]) <= size + 1
    assert len(batches) == 1 or len(batches[-1]) > 1 or size == 1


def test_a_last_row_alone_joins_the_batch_before_so_that_batch_norm_can_train():
    batches = epoch_batches(table(17, 0), Recipe(batch_size=8), torch_generator(0))
    assert [len(batch) for batch in batches] == [8, 9]
    assert fit(linear(), table(17, 0), Recipe(batch_size=8), torch_generator(0)).steps == 2


def test_the_balanced_sampler_draws_every_class_alike():
    cohort = table(400, 0)
    index = torch.cat([torch.where(cohort.targets == 0)[0], torch.where(cohort.targets == 1)[0][:10]])
    skewed = cohort.take(index)
    drawn = torch.cat(
        [
            skewed.targets[
                torch.cat(epoch_batches(skewed, Recipe(balanced_sampler=True), torch_generator(s)))
            ]
            for s in range(20)
        ]
    )
    share = float((drawn == 1).double().mean())
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(len(drawn))
    plain = torch.cat(epoch_batches(skewed, Recipe(), torch_generator(0)))
    assert int((skewed.targets[plain] == 1).sum()) == 10


def test_training_draws_among_all_variants_and_evaluation_reads_the_first():
    cohort = varied(300, 0, count=3)
    rows = torch.arange(300)
    read = training_inputs(cohort, rows, Augmentation(), torch_generator(0), "cpu")
    chosen = (read[:, 0] // 100).long()
    assert torch.equal(read, cohort.variants[rows, chosen])
    assert torch.bincount(chosen, minlength=3).min() > 60
    assert torch.equal(torch.cat(list(evaluation_batches(cohort, 64, "cpu"))), cohort.variants[:, 0])


def test_images_are_read_in_zero_to_one_and_augmented_as_the_recipe_says():
    cohort, rows = pictures(6, 0), torch.tensor([4, 0, 2])
    plain = training_inputs(cohort, rows, Augmentation(), torch_generator(0), "cpu")
    torch.testing.assert_close(plain, cohort.images[rows].float() / 255)
    strong = Augmentation(flips=True, rotate=20.0)
    moved = training_inputs(cohort, rows, strong, torch_generator(5), "cpu")
    torch.testing.assert_close(moved, augment(plain, strong, torch_generator(5)))
    assert not torch.equal(moved, plain)
    torch.testing.assert_close(
        torch.cat(list(evaluation_batches(cohort, 4, "cpu"))), cohort.images.float() / 255
    )


# --- determinism ------------------------------------------------------------------------------------


@every_kind
def test_equal_generators_give_equal_bits_and_others_do_not(make, model):
    recipe = Recipe(batch_size=5, local_epochs=2, augmentation=Augmentation(flips=True, stain=0.1))
    cohort = make(17, 0)
    first = trained(model(), cohort, recipe, seed=1)
    torch.manual_seed(123)
    assert same_parameters(first, trained(model(), cohort, recipe, seed=1))
    assert not same_parameters(first, trained(model(), cohort, recipe, seed=2))


@every_kind
def test_training_learns_and_leaves_the_global_generator_alone(make, model):
    cohort, state = make(64, 0), torch.get_rng_state()
    report = fit(net := model(), cohort, Recipe(learning_rate=0.02, local_epochs=15), torch_generator(0))
    assert score(net, cohort, Recipe())["loss"] < score(model(), cohort, Recipe())["loss"]
    assert math.isfinite(report.loss)
    assert torch.equal(torch.get_rng_state(), state)


# --- predictions and scores -------------------------------------------------------------------------


@every_kind
def test_predictions_do_not_depend_on_the_batch_size_and_do_not_train(make, model):
    cohort, net = make(23, 0), model()
    before = copy.deepcopy(net)
    one, all_at_once = predict(net, cohort, batch_size=1), predict(net, cohort, batch_size=100)
    assert one.shape == (23, 2)
    torch.testing.assert_close(one, all_at_once, atol=1e-5, rtol=1e-4)
    assert same_parameters(net, before)


@every_kind
def test_scores_are_scikit_learns(make, model):
    cohort, net = make(40, 1), model()
    scores = predict(net, cohort)
    truth, predicted = cohort.targets.numpy(), scores.argmax(1).numpy()
    found = score(net, cohort, Recipe())
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert found["loss"] == pytest.approx(log_loss(truth, scores.double().softmax(1).numpy()), rel=1e-5)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=30), seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_mean_recall_is_scikit_learns_balanced_accuracy(labels, seed):
    truth = torch.tensor(labels)
    predicted = torch.randint(5, truth.shape, generator=torch_generator(seed))
    present = sorted(set(labels))
    expected = np.mean([float((predicted[truth == k] == k).double().mean()) for k in present])
    assert float(mean_recall(truth, predicted)) == pytest.approx(expected)
    if len(present) > 1 and set(predicted.tolist()) <= set(present):
        assert float(mean_recall(truth, predicted)) == pytest.approx(
            balanced_accuracy_score(truth.numpy(), predicted.numpy())
        )


# --- refusals ---------------------------------------------------------------------------------------


@every_kind
def test_an_empty_cohort_is_refused(make, model):
    with pytest.raises(HemaflError, match="no training rows"):
        fit(model(), make(5, 0).take([]), Recipe(), torch_generator(0))


@pytest.mark.parametrize("layer", [nn.Dropout(0.1), nn.Dropout2d(0.5), nn.AlphaDropout(0.2)])
def test_dropout_is_refused_by_name(layer):
    model = nn.Sequential(nn.Linear(6, 6), layer, nn.Linear(6, 2))
    with pytest.raises(HemaflError, match="layer '1'"):
        fit(model, table(8, 0), Recipe(), torch_generator(0))


def test_dropout_that_drops_nothing_is_welcome():
    model = nn.Sequential(nn.Linear(6, 2), nn.Dropout(0.0))
    assert fit(model, table(8, 0), Recipe(), torch_generator(0)).steps == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "hinge"),
        ("optimiser", "lbfgs"),
        ("schedule", "step"),
        ("gamma", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -1.0),
        ("batch_size", 0),
        ("accumulate", 0),
        ("local_epochs", -1),
        ("clip", 0.0),
        ("clip", math.nan),
        ("proximal", -0.5),
        ("proximal", math.nan),
    ],
)
def test_a_bad_recipe_is_refused_with_the_name_of_its_setting(name, value):
    with pytest.raises(HemaflError, match=name):
        Recipe(**{name: value})


def test_stop_ends_training_between_batches():
    asked = iter([False, False, True])
    model = regression()
    with pytest.raises(Stopped):
        fit(
            model,
            table(40, 0),
            changed(PLAIN_SGD, batch_size=8),
            torch_generator(0),
            stop=lambda: next(asked),
        )
    assert next(asked, None) is None
    assert not same_parameters(model, regression())


def test_the_learning_rate_falls_over_the_rounds_of_a_run():
    cohort, model = table(8, 0), regression()
    recipe = changed(PLAIN_SGD, schedule="cosine")
    steps = [
        float((vector(trained(model, cohort, recipe, progress=t / 4)) - vector(model)).norm())
        for t in range(4)
    ]
    assert all(later < earlier for earlier, later in pairwise(steps))
    assert steps[2] == pytest.approx(steps[0] / 2, rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_trains_and_predicts_as_the_cpu_does():
    cohort = pictures(40, 0)
    recipe = changed(
        PLAIN_SGD, learning_rate=1e-2, augmentation=Augmentation(flips=True, rotate=10.0, stain=0.1)
    )
    models = [small_cnn(), small_cnn()]
    for model, device in zip(models, ("cpu", "cuda"), strict=True):
        fit(model, cohort, recipe, torch_generator(0, "fit"), device=device)
    on_cpu, on_gpu = (predict(model, cohort, device="cpu") for model in models)
    assert torch.allclose(on_gpu, on_cpu, atol=1e-2)
    assert torch.allclose(predict(models[0], cohort, device="cuda"), on_cpu, atol=1e-2)
    assert next(models[1].parameters()).device.type == "cpu"
