"""What a user may rely on: attacks find what is there, score it as the papers do, and claim nothing else."""

import copy
import math

import numpy as np
import pytest
import torch
from builders.federated import PROVENANCE, pictures, same_parameters, table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import beta, norm
from sklearn.metrics import log_loss, roc_auc_score, roc_curve
from torch import nn

from hemafl_lib.data import smear
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import HemaflError, PrivacyError
from hemafl_lib.models import AttentionCNN, LogisticRegression
from hemafl_lib.privacy import RecordPrivacy, inversion, membership, private_fit
from hemafl_lib.privacy.inversion import Search
from hemafl_lib.seeds import numpy_generator, torch_generator
from hemafl_lib.training import Recipe, as_input, fit

SIZE = 32
QUICK = Search(steps=120)


@pytest.fixture(scope="module")
def cohort():
    return smear.simulate(60, size=SIZE, seed=0, masks=False)


def batch(cohort, rows):
    return as_input(cohort.images[rows]), cohort.labels[rows]


def first_layer(gradient):
    return gradient["first.weight"], gradient["first.bias"]


# The linear layer


@given(seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_one_image_is_the_ratio_of_a_linear_layers_gradients(cohort, seed):
    images, labels = batch(cohort, [seed])
    gradient = inversion.gradient(inversion.fully_connected(4, size=SIZE, seed=seed), images, labels)
    candidates = inversion.linear_inputs(*first_layer(gradient))
    assert torch.allclose(candidates, images.flatten(1).expand_as(candidates), atol=1e-4)
    assert torch.allclose(candidates[0], images.flatten(), atol=1e-6), "the first neuron is the surest"


def test_a_linear_layer_gives_away_a_batch_where_a_neuron_fires_for_one_image_alone(cohort):
    rows = [0, 1, 2, 3]
    images, labels = batch(cohort, rows)
    gradient = inversion.gradient(inversion.fully_connected(4, size=SIZE, hidden=512), images, labels)
    candidates = inversion.linear_inputs(*first_layer(gradient)).view(-1, 3, SIZE, SIZE)
    scores = inversion.assess(candidates, cohort, rows, torch_generator(0))
    recovered = scores[scores["guess"] == "recovered"]
    assert recovered["psnr"].min() > 60
    assert recovered["rank"].tolist() == [1, 1, 1, 1]


def test_gradients_that_are_not_of_a_linear_layer_are_refused():
    with pytest.raises(PrivacyError, match="one linear layer"):
        inversion.linear_inputs(torch.ones(3, 4), torch.ones(4))


# What is received


def test_gradient_is_what_backward_computes_and_leaves_the_model_alone(cohort):
    images, labels = batch(cohort, [0, 1])
    model = AttentionCNN(4, width=8).train()
    before = copy.deepcopy(model)
    gradient = inversion.gradient(model, cohort.images[:2], labels)
    assert same_parameters(model, before)
    assert all(value.grad is None for value in model.parameters())
    nn.functional.cross_entropy(before(images), labels).backward()
    for name, value in before.named_parameters():
        assert torch.equal(gradient[name], value.grad)


def test_one_sites_training_step_sends_the_gradient(cohort):
    site = cohort.take([4, 9])
    model = inversion.strided_cnn(4, size=SIZE, width=8)
    sent = copy.deepcopy(model)
    recipe = Recipe(optimiser="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, batch_size=2)
    fit(sent, site, recipe, torch_generator(0))
    guessed = inversion.gradient_of_update(model, sent.state_dict(), 0.1)
    true = inversion.gradient(model, site.images, site.labels)
    assert guessed.keys() == true.keys()
    assert float(inversion.cosine_distance(guessed, true)) < 1e-6
    assert float(inversion.gradient_norm(guessed) / inversion.gradient_norm(true)) == pytest.approx(1, 1e-4)


def test_an_update_of_another_model_or_without_a_step_is_refused():
    model = inversion.strided_cnn(4, size=8, width=4)
    with pytest.raises(PrivacyError, match=r"lacks 'conv1\.bias'"):
        inversion.gradient_of_update(model, {}, 0.1)
    with pytest.raises(PrivacyError, match="learning_rate"):
        inversion.gradient_of_update(model, model.state_dict(), 0.0)


def test_without_noise_and_with_a_wide_clip_protection_changes_nothing(cohort):
    images, labels = batch(cohort, [0, 1, 2])
    model = AttentionCNN(4, width=8, norm="group")
    plain = inversion.gradient(model, images, labels)
    protected = inversion.protected_gradient(model, images, labels, 1e6, 0.0, torch_generator(0))
    for name, value in plain.items():
        assert torch.allclose(protected[name], value, atol=1e-6)


@given(clip=st.floats(0.001, 10), row=st.integers(0, 59))
@settings(max_examples=10, deadline=None)
def test_one_image_moves_the_clipped_sum_by_no_more_than_the_clip(cohort, clip, row):
    model = inversion.strided_cnn(4, size=SIZE, width=4)

    def total(rows):
        sent = inversion.protected_gradient(
            model, *batch(cohort, rows), clip=clip, noise=0.0, generator=torch_generator(0)
        )
        return {name: len(rows) * value for name, value in sent.items()}

    without, with_it = total([1, 2]), total([1, 2, row])
    moved = {name: with_it[name] - without[name] for name in without}
    assert float(inversion.gradient_norm(moved)) <= clip * (1 + 1e-3)


def test_noise_has_the_deviation_of_the_multiplier_times_the_clip(cohort):
    images, labels = batch(cohort, [0, 1])
    model = inversion.strided_cnn(4, size=SIZE)
    clean = inversion.protected_gradient(model, images, labels, 0.5, 0.0, torch_generator(0))
    noisy = inversion.protected_gradient(model, images, labels, 0.5, 2.0, torch_generator(1))
    again = inversion.protected_gradient(model, images, labels, 0.5, 2.0, torch_generator(1))
    noise = torch.cat([(noisy[name] - clean[name]).flatten() for name in clean])
    assert len(noise) > 50_000
    assert float(noise.std()) == pytest.approx(2.0 * 0.5 / 2, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert all(torch.equal(noisy[name], again[name]) for name in noisy)


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 1.0), (math.inf, 1.0), (1.0, -1.0), (1.0, math.nan)])
def test_protection_without_bounds_is_refused(cohort, clip, noise):
    with pytest.raises(PrivacyError, match="must be"):
        inversion.protected_gradient(
            inversion.strided_cnn(4, size=SIZE), *batch(cohort, [0]), clip, noise, torch_generator(0)
        )


def test_protection_of_images_that_a_layer_mixes_is_refused(cohort):
    images, labels = batch(cohort, [0, 1])
    for norm_, refused in (("batch", True), ("frozen", False), ("group", False)):
        model = AttentionCNN(4, width=8, norm=norm_).train()
        if refused:
            with pytest.raises(PrivacyError, match="norm='group'"):
                inversion.protected_gradient(model, images, labels, 1.0, 1.0, torch_generator(0))
        else:
            inversion.protected_gradient(model, images, labels, 1.0, 1.0, torch_generator(0))


def test_a_step_of_private_training_sends_the_protected_gradient(cohort):
    site = cohort.take([0, 1, 2])
    model = AttentionCNN(4, width=8, norm="group")
    sent = copy.deepcopy(model)
    recipe = Recipe(optimiser="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, batch_size=3)
    privacy = RecordPrivacy(noise=0.0, clip=0.3, delta=0.01)
    private_fit(sent, site, recipe, privacy, torch_generator(0))
    update = inversion.gradient_of_update(model, sent.state_dict(), 0.1)
    expected = inversion.protected_gradient(model, site.images, site.labels, 0.3, 0.0, torch_generator(0))
    for name, value in expected.items():
        assert torch.allclose(update[name], value, atol=1e-5)


# The search


@given(row=st.integers(0, 59), seed=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_the_last_bias_tells_the_label_of_one_image(cohort, row, seed):
    images, labels = batch(cohort, [row])
    gradient = inversion.gradient(AttentionCNN(4, width=8, seed=seed).eval(), images, labels)
    assert (gradient["head.bias"] < 0).sum() == 1
    assert inversion.infer_label(gradient, "head.bias") == int(labels[0])
    with pytest.raises(PrivacyError, match="not in the gradient"):
        inversion.infer_label(gradient, "last.bias")


def test_a_cell_comes_back_from_a_sites_update_and_not_from_a_protected_gradient(cohort):
    row = 5
    site = cohort.take([row])
    model = inversion.strided_cnn(4, size=SIZE)
    sent = copy.deepcopy(model)
    recipe = Recipe(optimiser="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0)
    fit(sent, site, recipe, torch_generator(0))
    update = inversion.gradient_of_update(model, sent.state_dict(), 0.1)
    label = torch.tensor([inversion.infer_label(update, "head.bias")])
    open_ = inversion.invert(model, update, label, SIZE, torch_generator(0), QUICK)
    scores = inversion.assess(open_.images, cohort, [row], torch_generator(0)).set_index("guess")
    guesses = scores.loc[["class mean", "another cell"]]
    assert scores.loc["recovered", "psnr"] > guesses["psnr"].max() + 5
    assert scores.loc["recovered", "ssim"] > 0.8 > 0.5 > guesses["ssim"].max()
    assert scores.loc["recovered", "rank"] == 1

    protected = inversion.protected_gradient(
        model, site.images, site.labels, clip=1.0, noise=1.0, generator=torch_generator(0)
    )
    for weight in (5e-3, 1.0):
        search = Search(steps=120, total_variation=weight)
        closed = inversion.invert(model, protected, site.labels, SIZE, torch_generator(0), search)
        scores = inversion.assess(closed.images, cohort, [row], torch_generator(0)).set_index("guess")
        assert scores.loc["recovered", "psnr"] < scores.loc["class mean", "psnr"]
        assert scores.loc["recovered", "ssim"] < 0.25
        assert scores.loc["recovered", "rank"] > 1


def test_clipping_alone_hides_nothing_of_a_single_image(cohort):
    model = inversion.strided_cnn(4, size=SIZE, width=8)
    images, labels = batch(cohort, [3])
    plain = inversion.gradient(model, images, labels)
    clipped = inversion.protected_gradient(model, images, labels, 1e-3, 0.0, torch_generator(0))
    assert float(inversion.gradient_norm(clipped)) == pytest.approx(1e-3, rel=1e-4)
    assert float(inversion.cosine_distance(clipped, plain)) < 1e-6


def test_the_search_can_be_repeated_stays_in_range_and_leaves_the_model_alone(cohort):
    images, labels = batch(cohort, [0, 1])
    model = AttentionCNN(4, width=8).train()
    before = copy.deepcopy(model)
    gradient = inversion.gradient(model, images, labels)
    first, second = (
        inversion.invert(model, gradient, labels, SIZE, torch_generator(7), Search(steps=20))
        for _ in range(2)
    )
    assert same_parameters(model, before)
    assert torch.equal(first.images, second.images)
    assert first.images.shape == images.shape
    assert 0 <= first.images.min() <= first.images.max() <= 1
    assert len(first.distances) == 20
    assert first.distances[-1] < first.distances[0]


def test_the_true_image_has_no_distance(cohort):
    images, labels = batch(cohort, [0, 1])
    gradient = inversion.gradient(inversion.strided_cnn(4, size=SIZE, width=4), images, labels)
    opposite = {name: -value for name, value in gradient.items()}
    assert float(inversion.cosine_distance(gradient, gradient)) == pytest.approx(0, abs=1e-6)
    assert float(inversion.cosine_distance(gradient, opposite)) == pytest.approx(2)


def test_a_gradient_that_cannot_be_inverted_is_refused(cohort):
    model = inversion.strided_cnn(4, size=SIZE, width=4)
    gradient = inversion.gradient(model, *batch(cohort, [0]))
    zero = {name: torch.zeros_like(value) for name, value in gradient.items()}
    infinite = gradient | {"head.bias": torch.full((4,), math.nan)}
    other = inversion.gradient(inversion.strided_cnn(4, size=SIZE, width=8), *batch(cohort, [0]))
    for received, reason in ((zero, "norm 0.0"), (infinite, "norm nan"), (other, "no 'conv1.weight'")):
        with pytest.raises(PrivacyError, match=reason):
            inversion.invert(model, received, cohort.labels[:1], SIZE, torch_generator(0), QUICK)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"total_variation": -1.0}])
def test_a_search_out_of_range_is_refused(wrong):
    with pytest.raises(PrivacyError, match="must be positive"):
        Search(**wrong)


def test_a_size_that_strides_do_not_divide_is_refused():
    with pytest.raises(PrivacyError, match="multiple of 4"):
        inversion.strided_cnn(4, size=30)


NO_CUDA = not torch.cuda.is_available()


@pytest.mark.parametrize(
    "attack",
    [
        lambda m, c: inversion.gradient(m, c.images[:1], c.labels[:1]),
        lambda m, c: inversion.protected_gradient(
            m, c.images[:1], c.labels[:1], 1.0, 1.0, torch_generator(0)
        ),
        lambda m, c: inversion.invert(m, {}, c.labels[:1], SIZE, torch_generator(0)),
    ],
)
@pytest.mark.skipif(not NO_CUDA, reason="a GPU is there")
def test_the_environment_decides_where_attacks_are_computed(cohort, monkeypatch, attack):
    monkeypatch.setenv("HEMAFL_DEVICE", "cuda")
    with pytest.raises(HemaflError, match="HEMAFL_DEVICE='cuda' is not available"):
        attack(inversion.strided_cnn(4, size=SIZE, width=4), cohort)


@pytest.mark.gpu
@pytest.mark.skipif(NO_CUDA, reason="needs CUDA")
def test_gradients_and_private_training_of_a_gpu_are_those_of_the_cpu(cohort):
    images, labels = batch(cohort, [0, 1])
    model = AttentionCNN(4, width=8, norm="group")
    plain = [inversion.gradient(model, images, labels, device=device) for device in ("cpu", "cuda")]
    assert float(inversion.cosine_distance(*plain)) < 1e-4
    options = {"clip": 0.3, "noise": 1.0}
    noisy = [
        inversion.protected_gradient(
            model, images, labels, **options, generator=torch_generator(0), device=device
        )
        for device in ("cpu", "cuda")
    ]
    assert float(inversion.cosine_distance(*noisy)) < 1e-4
    trained = []
    for device in ("cpu", "cuda"):
        one = copy.deepcopy(model)
        private_fit(
            one, cohort, Recipe(), RecordPrivacy(noise=1.0, delta=1e-3), torch_generator(0), device=device
        )
        trained.append(torch.cat([value.flatten() for value in one.parameters()]))
    assert trained[1].device.type == "cpu"
    start = torch.cat([value.detach().flatten() for value in model.parameters()])
    moved = trained[0] - start
    # The noise is the same on both, or the two would be as far apart as either is from the start.
    assert float((trained[1] - trained[0]).norm() / moved.norm()) < 0.05


# Scores of images


def reference_ssim(left, right):
    """Wang et al. 2004 for one colour, with SciPy's Gaussian filter; where the window lies inside."""

    def mean(values):
        return gaussian_filter(values, 1.5, truncate=5 / 1.5, mode="constant")[5:-5, 5:-5]

    x, y = mean(left), mean(right)
    xx, yy, xy = mean(left**2) - x**2, mean(right**2) - y**2, mean(left * right) - x * y
    similar = (2 * x * y + 1e-4) * (2 * xy + 9e-4) / ((x**2 + y**2 + 1e-4) * (xx + yy + 9e-4))
    return similar.mean()


def test_ssim_is_that_of_wang_and_others(cohort):
    images = as_input(cohort.images[:6]).double()
    noise = 0.2 * torch.randn(images.shape, generator=torch_generator(0), dtype=torch.float64)
    other = (images + noise * torch.linspace(0, 1, 6)[:, None, None, None]).clamp(0, 1)
    expected = [
        np.mean([reference_ssim(a, b) for a, b in zip(left, right, strict=True)])
        for left, right in zip(images.numpy(), other.numpy(), strict=True)
    ]
    assert inversion.ssim(images, other).numpy() == pytest.approx(expected, abs=1e-10)
    assert float(inversion.ssim(images, other)[0]) == pytest.approx(1)
    with pytest.raises(PrivacyError, match="at least 11"):
        inversion.ssim(images[..., :10, :10], other[..., :10, :10])


def test_psnr_has_known_answers():
    black = torch.zeros(3, 3, 4, 4)
    grey = torch.stack([torch.full((3, 4, 4), level) for level in (0.0, 0.1, 1.0)])
    assert inversion.psnr(black, grey).tolist() == pytest.approx([math.inf, 20.0, 0.0], abs=1e-5)


@given(order=st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_candidates_are_matched_whatever_their_order(cohort, order):
    truth = as_input(cohort.images[:4])
    noisy = as_input(cohort.images[:5]) + 0.02
    assert torch.equal(inversion.match_images(noisy[list(order)], truth), noisy[:4])
    with pytest.raises(PrivacyError, match="3 candidates cannot match 4"):
        inversion.match_images(noisy[:3], truth)


def test_assess_scores_the_truth_as_perfect_and_each_guess_beside_it(cohort):
    rows = [7, 2, 30]
    truth = as_input(cohort.images[rows])
    scores = inversion.assess(truth.flip(0), cohort, rows, torch_generator(0))
    assert scores.columns.tolist() == ["guess", "row", "psnr", "ssim", "rank"]
    assert scores["row"].tolist() == rows * 3
    recovered = scores[scores["guess"] == "recovered"]
    assert (recovered["rank"] == 1).all()
    assert recovered["ssim"].to_numpy() == pytest.approx(1)
    assert (scores.loc[scores["guess"] == "another cell", "rank"] > 1).all()


def test_guesses_are_made_without_the_attacked_cells(cohort):
    label = int(cohort.labels[7])
    attacked = (cohort.labels == label).nonzero()[:3, 0].tolist()
    others = as_input(
        cohort.images[[k for k in range(60) if cohort.labels[k] == label and k not in attacked]]
    )
    means = inversion.class_means(cohort, attacked)
    assert torch.allclose(means, others.mean(dim=0).expand_as(means), atol=1e-6)
    drawn = inversion.other_cells(cohort, attacked * 7, torch_generator(0))
    found = (drawn[:, None] == others).flatten(2).all(dim=2)
    assert (found.sum(dim=1) == 1).all()
    assert len(found.int().argmax(dim=1).unique()) > 3
    with pytest.raises(PrivacyError, match="no other cell of its class"):
        inversion.class_means(cohort.take([7]), [0])


def test_rank_counts_the_cells_that_are_nearer(cohort):
    wrong = as_input(cohort.images[[11]])
    errors = (as_input(cohort.images) - wrong).square().flatten(1).sum(1)
    expected = int((errors <= errors[3]).sum())
    assert inversion.rank(wrong, cohort, [3]).tolist() == [expected]


# What the attacker sees of a model


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 3, st.integers(0, 2)), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_confidence_is_the_log_odds_of_the_true_class(rows):
    scores = np.array([row[:3] for row in rows])
    labels = np.array([row[3] for row in rows])
    sure = membership.confidence(scores, labels)
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    own = chances[np.arange(len(rows)), labels]
    rest = np.where(np.arange(3) == labels[:, None], 0, chances).sum(1)
    assert sure == pytest.approx(np.log(own / rest), abs=1e-6)
    assert membership.losses(sure).mean() == pytest.approx(
        log_loss(labels, chances, labels=[0, 1, 2]), abs=1e-6
    )


def test_confidence_is_finite_where_the_probability_rounds_to_one():
    assert membership.confidence([[800.0, 0.0]], [0]) == pytest.approx([800.0])
    assert membership.losses([800.0, -800.0]) == pytest.approx([0.0, 800.0])
    with pytest.raises(PrivacyError, match="do not fit labels"):
        membership.confidence([[1.0, 2.0]], [0, 1])


# Attacks on membership


def test_likelihood_ratio_is_that_of_two_normals():
    generator = numpy_generator(0, "shadows")
    member = np.array([[True, False, True], [False, True, False], [True, True, False], [False, False, True]])
    shadows = generator.normal(size=(4, 3)) + 2 * member
    observed = np.array([0.5, 2.5, 1.0])

    def group(chosen):
        means = np.array([shadows[chosen[:, n], n].mean() for n in range(3)])
        deviations = [shadows[chosen[:, n], n].var(ddof=1) for n in range(3)]
        return means, np.sqrt(np.mean(deviations))

    inside, outside = group(member), group(~member)
    expected = norm(*inside).logpdf(observed) - norm(*outside).logpdf(observed)
    assert membership.likelihood_ratio(observed, shadows, member) == pytest.approx(expected)
    expected = (observed - outside[0]) / outside[1]
    assert membership.offline_ratio(observed, shadows, member) == pytest.approx(expected)


@given(shift=st.lists(st.floats(-50, 50), min_size=40, max_size=40))
@settings(max_examples=20, deadline=None)
def test_likelihood_ratio_does_not_mind_that_some_rows_are_harder(shift):
    generator = numpy_generator(1, "shadows")
    member = generator.random((8, 40)) < 0.5
    member[:2], member[2:4] = True, False
    shadows, observed = generator.normal(size=(8, 40)), generator.normal(size=40)
    for attack in (membership.likelihood_ratio, membership.offline_ratio):
        there = attack(observed + np.array(shift), shadows + np.array(shift), member)
        assert there == pytest.approx(attack(observed, shadows, member), abs=1e-6)


def test_a_leak_by_hand_is_found_by_the_ratio_and_not_by_the_loss():
    """Rows differ in difficulty by far more than a row's membership shows."""
    generator = numpy_generator(2, "leak")
    hard = generator.normal(0, 100, 200)
    shadow_member = np.stack([generator.permutation(200) < 100 for _ in range(16)])
    member = generator.permutation(200) < 100
    shadows = hard + 5 * shadow_member + generator.normal(0, 0.5, (16, 200))
    observed = hard + 5 * member + generator.normal(0, 0.5, 200)
    for attack in (membership.likelihood_ratio, membership.offline_ratio):
        scores = attack(observed, shadows, shadow_member)
        assert membership.auroc(scores, member).estimate > 0.999
        assert membership.tpr_at_fpr(scores, member, 0.001).estimate > 0.95
    loss = membership.loss_threshold(membership.losses(observed))
    assert membership.auroc(loss, member).low < 0.6


@pytest.mark.parametrize("attack", [membership.likelihood_ratio, membership.offline_ratio])
def test_shadows_that_say_nothing_are_refused(attack):
    half = np.array([[True] * 3, [True] * 3, [False] * 3, [False] * 3])
    values = numpy_generator(0).normal(size=(4, 3))
    with pytest.raises(PrivacyError, match="do not fit"):
        attack(np.zeros(2), values, half)
    with pytest.raises(PrivacyError, match="too few shadow models trained without"):
        attack(np.zeros(3), values, np.ones((4, 3), bool))
    with pytest.raises(PrivacyError, match="all agree"):
        attack(np.zeros(3), np.zeros((4, 3)), half)
    with pytest.raises(PrivacyError, match="not finite"):
        attack(np.full(3, np.nan), values, half)


# Scores of attacks on membership


@st.composite
def attacked(draw):
    count = draw(st.integers(2, 60))
    scores = draw(st.lists(st.integers(-5, 5), min_size=count, max_size=count))
    member = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    member[:2] = True, False
    return np.array(scores, float), np.array(member)


@given(attacked(), st.sampled_from([0.001, 0.01, 0.1, 0.3, 0.5]))
@settings(max_examples=40, deadline=None)
def test_rates_and_area_are_those_of_scikit_learns_curve(case, fpr):
    scores, member = case
    false, true, _ = roc_curve(member, scores, drop_intermediate=False)
    found = membership.tpr_at_fpr(scores, member, fpr)
    assert found.estimate == pytest.approx(true[false <= fpr + 1e-12].max())
    area = membership.auroc(scores, member)
    assert area.estimate == pytest.approx(roc_auc_score(member, scores))
    assert 0 <= area.low <= area.estimate <= area.high <= 1


@given(attacked())
@settings(max_examples=25, deadline=None)
def test_only_the_order_of_the_scores_counts(case):
    scores, member = case
    assert membership.auroc(np.exp(scores), member) == membership.auroc(scores, member)
    assert membership.tpr_at_fpr(np.exp(scores), member, 0.1) == membership.tpr_at_fpr(scores, member, 0.1)


def test_interval_of_the_rate_is_exact():
    scores = np.r_[np.arange(30), np.full(100, 20.5)]
    member = np.r_[np.ones(30, bool), np.zeros(100, bool)]
    found = membership.tpr_at_fpr(scores, member, 0.01)
    assert found == pytest.approx((9 / 30, beta.ppf(0.025, 9, 22), beta.ppf(0.975, 10, 21)))


def test_a_perfect_attack_is_perfect_and_its_interval_has_a_width():
    scores, member = np.arange(100.0), np.arange(100) >= 50
    assert membership.auroc(scores, member).estimate == 1
    assert membership.auroc(scores, member).high == 1
    assert 0.9 < membership.auroc(scores, member).low < 0.99
    assert membership.auroc(-scores, member).estimate == membership.auroc(-scores, member).low == 0
    assert membership.tpr_at_fpr(scores, member, 0.001).estimate == 1
    assert membership.tpr_at_fpr(scores, member, 0.001).low == pytest.approx(0.025 ** (1 / 50))


def test_the_interval_of_an_attack_that_knows_nothing_covers_one_half():
    generator = numpy_generator(0, "null")
    member = np.arange(120) < 60
    intervals = [membership.auroc(generator.normal(size=120), member) for _ in range(200)]
    covered = np.mean([found.low <= 0.5 <= found.high for found in intervals])
    assert 0.92 <= covered <= 0.98


def test_the_interval_of_an_attack_that_knows_something_covers_its_area():
    generator = numpy_generator(1, "binormal")
    member = np.arange(120) < 60
    true = norm.cdf(1.0 / math.sqrt(2))
    intervals = [membership.auroc(generator.normal(size=120) + member, member) for _ in range(200)]
    covered = np.mean([found.low <= true <= found.high for found in intervals])
    assert 0.92 <= covered <= 0.98


@pytest.mark.parametrize(
    ("scores", "member"), [([1.0, 2.0], [True, True]), ([1.0], [True, False]), ([np.nan, 1.0], [True, False])]
)
def test_scores_that_cannot_be_scored_are_refused(scores, member):
    for measure in (membership.auroc, lambda s, m: membership.tpr_at_fpr(s, m, 0.1)):
        with pytest.raises(PrivacyError):
            measure(scores, member)


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
def test_rates_and_levels_out_of_range_are_refused(rate):
    with pytest.raises(PrivacyError, match="between 0 and 1"):
        membership.tpr_at_fpr([1.0, 2.0], [True, False], rate)
    with pytest.raises(PrivacyError, match="between 0 and 1"):
        membership.auroc([1.0, 2.0], [True, False], rate)


# Shadow models

LEARN_BY_HEART = Recipe(local_epochs=30, batch_size=16, learning_rate=0.05, weight_decay=0.0)


def noise_table(rows, features):
    """Features that say nothing of the label: whatever a model learns, it has learned by heart."""
    generator = torch_generator(0, "noise table")
    return TableCohort(
        features=torch.randn(rows, features, generator=generator),
        feature_names=tuple(f"x{k}" for k in range(features)),
        label=torch.randint(2, (rows,), generator=generator),
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


def learner(features):
    return lambda seed: LogisticRegression(features)


@pytest.fixture(scope="module")
def overfitted():
    return membership.audit(noise_table(120, 80), learner(80), LEARN_BY_HEART, models=2, shadows=8)


def test_an_overfitted_model_gives_its_members_away(overfitted):
    for attack in ("loss", "online", "offline"):
        for scores, member in zip(overfitted.scores(attack), overfitted.member, strict=True):
            assert membership.auroc(scores, member).low > 0.6


def test_a_model_that_learns_nothing_gives_nobody_away():
    def still(model, cohort, recipe, generator):
        """Parameters that depend on chance alone."""
        with torch.no_grad():
            model.weight.normal_(generator=generator)

    audit = membership.audit(noise_table(300, 5), learner(5), Recipe(), models=2, shadows=8, train=still)
    for attack in ("loss", "online", "offline"):
        for scores, member in zip(audit.scores(attack), audit.member, strict=True):
            area = membership.auroc(scores, member, level=0.999)
            assert area.low < 0.5 < area.high


def test_every_row_is_in_half_of_the_shadow_models(overfitted):
    assert overfitted.member.shape == overfitted.confidence.shape == (2, 120)
    assert overfitted.shadow_member.shape == overfitted.shadow_confidence.shape == (8, 120)
    assert (overfitted.shadow_member.sum(axis=0) == 4).all()
    assert (overfitted.member.sum(axis=1) == 60).all()
    assert not np.array_equal(*overfitted.member)


def test_the_same_seed_gives_the_same_audit(overfitted):
    again = membership.audit(noise_table(120, 80), learner(80), LEARN_BY_HEART, models=2, shadows=8)
    other = membership.audit(noise_table(120, 80), learner(80), LEARN_BY_HEART, models=1, shadows=4, seed=1)
    assert np.array_equal(again.confidence, overfitted.confidence)
    assert np.array_equal(again.shadow_confidence, overfitted.shadow_confidence)
    assert not np.array_equal(other.member[0], overfitted.member[0])


def test_the_table_has_a_line_for_every_attack_model_and_measure(overfitted):
    table_ = overfitted.table()
    assert len(table_) == 3 * 2 * 4
    assert table_["measure"].unique().tolist() == [
        "auroc",
        "tpr at fpr 0.001",
        "tpr at fpr 0.01",
        "tpr at fpr 0.1",
    ]
    assert ((table_["low"] <= table_["estimate"]) & (table_["estimate"] <= table_["high"])).all()


def test_images_are_audited_as_tables_are():
    def make(seed):
        return AttentionCNN(2, width=8, norm="group", seed=seed)

    audit = membership.audit(pictures(16, 0), make, Recipe(batch_size=8), models=1, shadows=4)
    assert audit.confidence.shape == (1, 16)
    assert len(np.unique(audit.shadow_confidence)) > 16


def test_an_audit_without_enough_models_or_rows_is_refused(overfitted):
    for options in ({"models": 0}, {"shadows": 2}, {"shadows": 7}):
        with pytest.raises(PrivacyError, match="even number"):
            membership.audit(table(20, 0), learner(6), Recipe(), **options)
    with pytest.raises(PrivacyError, match="at least four rows"):
        membership.audit(table(3, 0), learner(6), Recipe())
    with pytest.raises(PrivacyError, match="choose one of: loss, online, offline"):
        overfitted.scores("guess")
