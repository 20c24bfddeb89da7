"""Differential privacy: epsilon is dp-accounting's, gradients are clipped row by row, budgets hold."""

import copy
import math

import dp_accounting
import numpy as np
import pytest
import torch
from builders.federated import linear, pictures, same_parameters, sites, table
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from flwr.app import RecordDict
from flwr.clientapp.mod import LocalDpMod
from flwr.compat.common.parameter import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.supercore.differential_privacy import (
    add_localdp_gaussian_noise_to_params,
    compute_clip_model_update,
    compute_stdv,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleHooks
from torch import nn

from hemafl_lib import federation, privacy
from hemafl_lib.aggregation import FedAdam, FedAvg, FedAvgM, FedMedian, aggregate, begin, weighted_mean
from hemafl_lib.augmentation import Augmentation, variants
from hemafl_lib.errors import BudgetSpent, FederationError, PrivacyError, Stopped
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.site_app import load_app, store_app
from hemafl_lib.models import AttentionCNN, LogisticRegression
from hemafl_lib.privacy import ClientPrivacy, RecordPrivacy, Steps
from hemafl_lib.privacy.record_level import RowGradients, poisson_sample, read_history
from hemafl_lib.seeds import initialised, torch_generator
from hemafl_lib.training import Recipe, fit, make_loss

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
    pytest.mark.filterwarnings("ignore:Optimal order is the"),
]

DELTA = 1e-5
SGD = Recipe(optimiser="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.2, batch_size=8)
FULL_BATCH = Recipe(optimiser="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1.0, batch_size=1000)


def by_google(accountant, history):
    """Epsilon by Google's dp-accounting."""
    for steps in history:
        noise = dp_accounting.GaussianDpEvent(steps.noise)
        step = dp_accounting.PoissonSampledDpEvent(steps.sample_rate, noise)
        accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps.count))
    return accountant.get_epsilon(DELTA)


def group_cnn(seed: int = 0) -> AttentionCNN:
    return AttentionCNN(2, width=8, norm="group", seed=seed)


def head() -> nn.Module:
    with initialised(0):
        return nn.Linear(6, 2)


def vector(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def moved(model, cohort, recipe, protection, *path):
    """How far one private round moves the parameters."""
    trained = copy.deepcopy(model)
    privacy.private_fit(trained, cohort, recipe, protection, torch_generator(0, *path))
    return vector(trained) - vector(model)


# --- accounting ------------------------------------------------------------------------------------


def test_accountants_agree_but_the_gaussian_one_understates():
    found = privacy.compare_accountants(1.0, 0.05, 800, DELTA).set_index("accountant")
    expected = {"rdp": 10.611, "prv": 9.707, "pld": 9.697, "gdp": 9.108}
    assert found["epsilon"].to_dict() == pytest.approx(expected, abs=1e-3)
    assert found["upper_bound"].to_dict() == {"rdp": True, "prv": True, "pld": True, "gdp": False}


@pytest.mark.parametrize(
    "history",
    [
        [Steps(2.0, 0.05, 40), Steps(3.0, 0.1, 20)],
        [Steps(2.0, 1.0, 5)],
        [Steps(1.0, 0.02, 50)],
    ],
)
def test_epsilon_equals_dp_accountings(history):
    assert privacy.epsilon(history, DELTA, "rdp") == pytest.approx(
        by_google(RdpAccountant(), history), rel=0.01
    )
    assert privacy.epsilon(history, DELTA, "prv") == pytest.approx(
        by_google(PLDAccountant(), history), rel=0.01
    )


def test_every_round_costs_less_than_the_one_before_but_never_nothing():
    spent, history = [0.0], ()
    for _ in range(4):
        history = privacy.add_steps(history, Steps(1.0, 0.1, 10))
        spent.append(privacy.epsilon(history, DELTA))
    costs = np.diff(spent)
    assert history == (Steps(1.0, 0.1, 40),)
    assert np.all(costs > 0)
    assert np.all(np.diff(costs) < 0)
    assert len(privacy.add_steps(history, Steps(2.0, 0.1, 10))) == 2


@settings(max_examples=4, deadline=None)
@given(
    noise=st.floats(0.8, 20),
    sample_rate=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    count=st.integers(1, 200),
)
def test_more_noise_fewer_steps_and_smaller_samples_cost_less(noise, sample_rate, count):
    cost = privacy.epsilon([Steps(noise, sample_rate, count)], DELTA, "rdp")
    assert privacy.epsilon([Steps(1.5 * noise, sample_rate, count)], DELTA, "rdp") < cost
    assert privacy.epsilon([Steps(noise, sample_rate, 2 * count)], DELTA, "rdp") > cost
    assert privacy.epsilon([Steps(noise, sample_rate / 2, count)], DELTA, "rdp") < cost


@pytest.mark.parametrize("target", [0.5, 4.0])
@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_noise_for_a_target_keeps_to_it_and_wastes_little(target, accountant):
    noise = privacy.noise_for(target, 0.1, 60, DELTA, accountant)
    assert privacy.epsilon([Steps(noise, 0.1, 60)], DELTA, accountant) <= target
    assert privacy.epsilon([Steps(0.99 * noise, 0.1, 60)], DELTA, accountant) > target


def test_epsilon_at_the_ends_of_its_range():
    assert privacy.epsilon([], DELTA) == 0
    assert privacy.epsilon([Steps(1.0, 0.1, 0)], DELTA) == 0
    assert privacy.epsilon([Steps(1.0, 0.1, 5), Steps(0.0, 0.1, 1)], DELTA) == math.inf


@pytest.mark.survives(
    "Noise, rate or delta of a privacy account is out of range", "one sentence that names it"
)
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: privacy.epsilon([Steps(1, 0.1, 1)], 1.0), "delta=1.0"),
        (lambda: privacy.epsilon([Steps(-1, 0.1, 1)], DELTA), "noise=-1"),
        (lambda: privacy.epsilon([Steps(1, 1.1, 1)], DELTA), "sample_rate=1.1"),
        (lambda: privacy.epsilon([Steps(1, 0.1, 1)], DELTA, "gdp"), "accountant='gdp'"),
        (lambda: privacy.noise_for(0, 0.1, 1, DELTA), "target=0"),
        (lambda: privacy.noise_for(1, 0.1, 0, DELTA), "count=0"),
    ],
)
def test_impossible_accounts_are_one_sentence(call, match):
    with pytest.raises(PrivacyError, match=match):
        call()


# --- gradients of single rows ----------------------------------------------------------------------


MODELS = {
    "head": (head, table),
    "logistic": (lambda: LogisticRegression(6), table),
    "se": (lambda: AttentionCNN(2, width=8, norm="group"), pictures),
    "eca": (lambda: AttentionCNN(2, width=8, norm="group", attention="eca"), pictures),
    "cbam": (lambda: AttentionCNN(2, width=8, norm="group", attention="cbam"), pictures),
    "frozen norm": (lambda: AttentionCNN(2, width=8, norm="frozen"), pictures),
}


def gradients_one_by_one(model, cohort, recipe):
    """The gradient of every row by itself, float32[N, P], by nothing but ``backward``."""
    rows = []
    for row in range(len(cohort)):
        alone = copy.deepcopy(model).train()
        inputs = cohort.inputs[row : row + 1].float() / (255 if cohort.inputs.ndim == 4 else 1)
        make_loss(recipe)(alone(inputs), cohort.targets[row : row + 1]).backward()
        rows.append(torch.cat([value.grad.flatten() for value in alone.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_gradients_by_row_are_those_of_single_rows(kind, loss):
    make, rows = MODELS[kind]
    model, cohort, recipe = make().train(), rows(6, 0), Recipe(loss=loss)
    inputs = cohort.inputs.float() / (255 if cohort.inputs.ndim == 4 else 1)
    with privacy.gradients_by_row(model):
        make_loss(recipe)(model(inputs), cohort.targets).backward()
        found = torch.cat([value.grad_sample.flatten(1) for value in model.parameters()], dim=1)
    torch.testing.assert_close(found, gradients_one_by_one(model, cohort, recipe), atol=2e-6, rtol=2e-5)
    assert not any(hasattr(value, "grad_sample") for value in model.parameters())


def test_opacus_by_itself_errs_where_channels_come_last():
    """The reason for `RowGradients`: the bundled hooks give other gradients for the same convolution."""
    with initialised(0):
        model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images, found = torch.rand(5, 3, 6, 6, generator=torch_generator(0)), []
    for hooks in (GradSampleHooks, RowGradients):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            model.zero_grad()
            attached = hooks(model)
            nn.functional.cross_entropy(
                model(images.contiguous(memory_format=memory_format)), torch.tensor([0, 1, 2, 3, 0])
            ).backward()
            found.append(model[0].weight.grad_sample.clone())
            attached.cleanup()
    assert not torch.allclose(found[0], found[1], atol=0.01)
    assert torch.allclose(found[0], found[2], atol=1e-6)
    assert torch.allclose(found[0], found[3], atol=1e-6)


def test_one_step_is_the_textbooks():
    """Clip every row's gradient, add them up, divide by the expected rows, step (Abadi et al. 2016)."""
    model, cohort = group_cnn(), pictures(9, 0)
    gradients = gradients_one_by_one(model, cohort, FULL_BATCH)
    norms = gradients.norm(dim=1)
    clip = float(norms.median())
    clipped = gradients * (clip / norms).clamp(max=1)[:, None]
    found = moved(model, cohort, FULL_BATCH, RecordPrivacy(noise=0, clip=clip))
    torch.testing.assert_close(found, -clipped.sum(0) / 9, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "rounding"),
    [
        # AdamW divides by the gradient's own size: where that is nearly 0, rounding shows in a step of 0.002.
        (Recipe(batch_size=100, local_epochs=5), 1e-4),
        (Recipe(batch_size=100, local_epochs=5, optimiser="sgd", schedule="cosine", loss="focal"), 1e-5),
        (Recipe(batch_size=100, local_epochs=5, optimiser="sgd", proximal=0.5, weight_decay=0.1), 1e-5),
    ],
)
def test_without_noise_and_clipping_it_is_plain_training(recipe, rounding):
    plain, private, rows = group_cnn(), group_cnn(), pictures(12, 0)
    report = fit(plain, rows, recipe, torch_generator(0), progress=0.5)
    steps = privacy.private_fit(
        private, rows, recipe, RecordPrivacy(noise=0, clip=1e6), torch_generator(0), progress=0.5
    )
    assert steps == report.steps == 5
    torch.testing.assert_close(vector(private), vector(plain), atol=rounding, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e6), clip=st.floats(1e-2, 10), rows=st.integers(2, 12), seed=st.integers(0, 99))
def test_no_row_moves_a_step_by_more_than_the_clip(scale, clip, rows, seed):
    """Whatever the values of a row, a step with and without it differ by at most clip over the rows."""
    cohort = table(rows, seed)
    cohort = scaled(cohort, scale)
    protection = RecordPrivacy(noise=0, clip=clip)
    with_all = moved(head(), cohort, FULL_BATCH, protection) * rows
    without = moved(head(), cohort.take(np.arange(rows - 1)), FULL_BATCH, protection) * (rows - 1)
    assert float((with_all - without).norm()) <= clip * (1 + 1e-3) + 1e-5


def scaled(cohort, scale):
    return type(cohort)(**{**vars(cohort), "features": cohort.features * scale})


def test_the_noise_is_the_multiplier_times_the_clip_over_the_rows():
    with initialised(0):
        model = nn.Linear(6, 5000)
    rows = table(20, 0)
    clean = moved(model, rows, FULL_BATCH, RecordPrivacy(noise=0, clip=0.5))
    noisy = moved(model, rows, FULL_BATCH, RecordPrivacy(noise=3.0, clip=0.5))
    assert float((noisy - clean).std()) == pytest.approx(3.0 * 0.5 / 20, rel=0.02)
    assert abs(float((noisy - clean).mean())) < 0.01 * 3.0 * 0.5 / 20 * 3


def test_samples_are_poisson_and_may_be_empty():
    generator = torch_generator(0)
    sizes = [len(poisson_sample(30, 0.05, generator)) for _ in range(2000)]
    assert np.mean(sizes) == pytest.approx(1.5, rel=0.05)
    assert np.var(sizes) == pytest.approx(30 * 0.05 * 0.95, rel=0.1)
    assert 0 in sizes
    assert len(poisson_sample(30, 1.0, generator)) == 30
    lonely = Recipe(batch_size=1, local_epochs=4)
    assert moved(head(), table(3, 0), lonely, RecordPrivacy()).isfinite().all()


def test_same_seed_same_bits_and_every_site_and_round_its_own_noise():
    first, again, other, later = (
        moved(head(), table(20, 0), SGD, RecordPrivacy(), "fit", *path)
        for path in (("a", 1), ("a", 1), ("b", 1), ("a", 2))
    )
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()
    assert not torch.isclose(first, later).any()


def test_a_row_of_variants_is_one_picture():
    pictured = variants(pictures(10, 0), Augmentation(flips=True), count=4, seed=0)
    report = RecordPrivacy().train(group_cnn(), pictured, SGD, torch_generator(0), RecordDict())
    assert report["steps"] == 2
    assert report["epsilon"] == privacy.epsilon([Steps(1.0, 0.5, 2)], DELTA)


def test_private_training_stops_when_told():
    with pytest.raises(Stopped):
        privacy.private_fit(head(), table(9, 0), SGD, RecordPrivacy(), torch_generator(0), stop=lambda: True)


# --- private runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "rows"), [(group_cnn, pictures), (lambda: LogisticRegression(6), table)])
def test_serial_and_parallel_agree_to_the_bit(make, rows):
    settings = {"model": make(), "recipe": SGD, "trainer": RecordPrivacy(), "rounds": 2}
    one = federation.run(sites(3, rows), **settings, workers=1)
    three = federation.run(sites(3, rows), **settings, workers=3)
    assert one.hash == three.hash
    assert one.history.equals(three.history)
    assert one.hash != federation.run(sites(3, rows), **settings, seed=1).hash


def test_every_site_reports_one_epsilon_a_round_as_dp_accounting_would():
    hospitals = sites(3)
    recipe = Recipe(batch_size=6, local_epochs=2, learning_rate=0.05)
    run = federation.run(hospitals, model=head(), recipe=recipe, trainer=RecordPrivacy(noise=2.0), rounds=3)
    reported = run.curve("epsilon", "train")
    assert reported.shape == (3, 3)
    for site in hospitals:
        steps = math.ceil(len(site.train) / 6)
        expected = by_google(PLDAccountant(), [Steps(2.0, 1 / steps, 2 * steps * 3)])
        assert reported.loc[3, site.name] == pytest.approx(expected, rel=0.01)
    assert reported.loc[3].nunique() == 3
    assert "loss" not in set(run.history.query("phase == 'train'")["metric"])


def test_private_training_still_learns():
    run = federation.run(
        sites(3, rows=200), model=head(), recipe=SGD, trainer=RecordPrivacy(noise=1.0), rounds=3
    )
    assert run.curve("accuracy").iloc[-1].mean() > 0.8


@pytest.mark.survives(
    "A hospital's privacy budget is spent in the middle of a run",
    "the run ends before the next round and keeps its checkpoint",
)
def test_a_spent_budget_ends_the_run_keeps_the_checkpoint_and_can_be_raised(tmp_path):
    path = tmp_path / "run.safetensors"
    arguments = {"model": head(), "recipe": SGD, "rounds": 4}
    whole = federation.run(sites(3), **arguments, trainer=RecordPrivacy())
    budget = float(whole.curve("epsilon", "train").loc[2].max())
    with pytest.raises(BudgetSpent, match=r"'site 0' ends the run after round 2: .* from 6.05 to 7.21"):
        federation.run(sites(3), **arguments, trainer=RecordPrivacy(budget=budget), checkpoint=path)
    seen = []
    larger = RecordPrivacy(budget=2 * budget)
    resumed = federation.run(
        sites(3), **arguments, trainer=larger, checkpoint=path, report=lambda history: seen.append(history)
    )
    assert seen[0]["round"].max() == 3, "rounds 1 and 2 were not trained again"
    assert resumed.hash == whole.hash
    assert resumed.history.equals(whole.history)


def test_isolated_runs_say_whose_budget_is_spent():
    """The first site is stopped by the second's error, which is the one to tell."""
    small = RecordPrivacy(budget=6.0)
    with pytest.raises(BudgetSpent, match="ends the run after round"):
        federation.isolated(sites(2)[::-1], model=head(), recipe=SGD, rounds=30, trainer=small, workers=2)


@pytest.mark.survives("A checkpoint of a run with other noise is given", "it is refused")
def test_a_checkpoint_of_other_noise_is_refused(tmp_path):
    path, arguments = tmp_path / "run.safetensors", {"model": head(), "recipe": SGD, "rounds": 1}
    federation.run(sites(2), **arguments, trainer=RecordPrivacy(), checkpoint=path)
    for other in (None, RecordPrivacy(noise=2.0)):
        with pytest.raises(FederationError, match="another run"):
            federation.run(sites(2), **arguments, trainer=other, checkpoint=path)


def test_a_node_that_is_a_program_of_its_own_trains_as_privately(tmp_path):
    job = Job(LogisticRegression(6), SGD, 0, trainer=RecordPrivacy(noise=0.7, budget=3.0))
    store_app(job, tmp_path)
    trainer = load_app(tmp_path).trainer
    assert trainer == job.trainer
    assert trainer.budget == 3.0


@pytest.mark.survives(
    "A run with differential privacy is interrupted and resumed", "what was spent before still counts"
)
def test_what_was_spent_stays_in_the_sites_state():
    state = RecordDict()
    for noise in (1.0, 1.0, 2.0):
        RecordPrivacy(noise=noise).train(head(), table(24, 0), SGD, torch_generator(0), state)
    assert read_history(state) == (Steps(1.0, 1 / 3, 6), Steps(2.0, 1 / 3, 3))


def normalised() -> nn.Module:
    return AttentionCNN(2, width=8, norm="batch")


@pytest.mark.survives(
    "A network mixes the images of a batch, so that no noise protects one",
    "it is refused before the first round",
)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": normalised(), "sites": sites(2, pictures)}, r"'blocks.0.norm' .* use group norm"),
        ({"model": linear()}, "mixes the rows"),
        ({"recipe": Recipe(balanced_sampler=True)}, "balanced_sampler"),
        ({"recipe": Recipe(accumulate=2)}, "accumulate=2"),
        ({"recipe": Recipe(clip=1.0)}, "clip=1.0"),
        ({"trainer": RecordPrivacy(delta=0.1)}, "delta=0.1"),
    ],
)
def test_what_cannot_be_private_is_refused_before_the_first_round(change, match):
    arguments = {"model": head(), "sites": sites(2), "recipe": SGD, "trainer": RecordPrivacy(), **change}
    with pytest.raises(PrivacyError, match=match):
        federation.run(arguments.pop("sites"), rounds=1, **arguments)


def test_survival_has_no_gradient_of_a_single_patient():
    survival = table(8, 0)
    survival = type(survival)(
        **{**vars(survival), "label": None, "time": torch.rand(8), "event": torch.ones(8, dtype=torch.bool)}
    )
    with pytest.raises(PrivacyError, match="cox"):
        RecordPrivacy().check(nn.Linear(6, 1), survival, Recipe(loss="cox"))


def test_a_checkpoint_needs_an_engine_that_reads_back_what_was_spent(tmp_path):
    with pytest.raises(FederationError, match="engine='local'"):
        federation.run(
            sites(2),
            model=head(),
            trainer=RecordPrivacy(),
            engine="simulation",
            checkpoint=tmp_path / "run.safetensors",
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": -1.0},
        {"noise": math.inf},
        {"clip": 0.0},
        {"delta": 0.0},
        {"accountant": "gdp"},
        {"budget": 0.0},
    ],
)
@pytest.mark.parametrize("kind", [RecordPrivacy, ClientPrivacy])
def test_impossible_settings_are_one_sentence(kind, wrong):
    (name,) = wrong
    with pytest.raises(PrivacyError, match=name):
        kind(**wrong)


# --- the whole site --------------------------------------------------------------------------------


def update_of(values, size=4):
    """Current parameters with a counter, and replies that moved by ``values``."""
    current = {"w": np.ones(size, np.float32), "count": np.array(10)}
    replies = [{"w": current["w"] + np.float32(v), "count": np.array(34)} for v in values]
    return current, replies


def one_round(aggregator, current, replies, weights, rounds=1):
    state = begin(aggregator, current)
    for _ in range(rounds):
        found, state = aggregate(aggregator, current, replies, weights, state)
    return found


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6), clip=st.floats(1e-3, 10))
def test_a_clipped_update_keeps_its_direction_and_its_bound(values, clip):
    current = {"w": np.zeros(len(values), np.float32), "count": np.array(3)}
    reply = {"w": np.array(values, np.float32), "count": np.array(9)}
    found = privacy.clip_reply(reply, current, clip)
    norm = float(np.linalg.norm(reply["w"].astype(float)))
    assert set(found) == {"w"}
    assert np.linalg.norm(found["w"]) == pytest.approx(min(norm, clip), rel=1e-9)
    np.testing.assert_allclose(found["w"] * norm, reply["w"] * np.linalg.norm(found["w"]), rtol=1e-6)


def test_without_noise_and_clipping_it_is_fedavg():
    current, replies = update_of([0.1, -0.2, 0.4])
    for inner in (FedAvg(), FedAvg(equal_weights=True), FedAvgM(), FedAdam()):
        found = one_round(ClientPrivacy(noise=0, clip=1e6, inner=inner), current, replies, [5, 3, 1], 2)
        expected = one_round(inner, current, replies, [5, 3, 1], 2)
        np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-6)
        assert found["count"] == expected["count"] == 34


@pytest.mark.parametrize(("weights", "share"), [([1, 1, 1], 1 / 3), ([900, 50, 50], 0.9)])
def test_the_noise_fits_the_largest_weight(weights, share):
    current, replies = update_of([0.0, 0.0, 0.0], size=40_000)
    found = one_round(ClientPrivacy(noise=2.0, clip=0.5), current, replies, weights)
    assert float(np.std(found["w"])) == pytest.approx(2.0 * 0.5 * share, rel=0.02)


def test_no_site_moves_the_mean_by_more_than_the_noise_accounts_for():
    current, replies = update_of([50.0, 0.0, 0.0])
    for weights in ([1, 1, 1], [900, 50, 50]):
        clean = ClientPrivacy(noise=0, clip=0.5)
        moved_by = one_round(clean, current, replies, weights)["w"] - current["w"]
        shares = np.array(weights) / sum(weights)
        assert np.linalg.norm(moved_by) == pytest.approx(privacy.noise_deviation(1.0, 0.5, shares), rel=1e-6)


def test_sampled_sites_give_the_same_mean_and_cost_less():
    current, replies = update_of([0.3, -0.1, 0.2, 0.6])
    expected = weighted_mean([{"w": r["w"]} for r in replies], [4, 3, 2, 1])["w"]
    found = [
        one_round(ClientPrivacy(noise=0, clip=9, sampling=0.5, seed=seed), current, replies, [4, 3, 2, 1])[
            "w"
        ]
        for seed in range(400)
    ]
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.03)
    assert len({value.tobytes() for value in found}) == 16
    assert ClientPrivacy(sampling=0.5).epsilon(10) < ClientPrivacy().epsilon(10)
    assert ClientPrivacy().epsilon(10) == privacy.epsilon([Steps(1.0, 1.0, 10)], DELTA)


def test_the_servers_noise_is_its_seeds_and_new_in_every_round():
    arguments = {"model": head(), "recipe": SGD, "rounds": 2}
    runs = [
        federation.run(sites(3), **arguments, aggregator=ClientPrivacy(seed=s), workers=w)
        for s, w in ((0, 1), (0, 3), (1, 1))
    ]
    assert runs[0].hash == runs[1].hash != runs[2].hash
    current, replies = update_of([0.0, 0.0])
    once, twice = (one_round(ClientPrivacy(), current, replies, [1, 1], rounds) for rounds in (1, 2))
    assert not np.isclose(once["w"], twice["w"]).any()


def test_a_spent_budget_of_the_server_ends_the_run_and_can_be_raised(tmp_path):
    path, arguments = tmp_path / "run.safetensors", {"model": head(), "recipe": SGD, "rounds": 4}
    whole = federation.run(sites(3), **arguments, aggregator=ClientPrivacy(noise=4.0))
    budget = ClientPrivacy(noise=4.0).epsilon(2)
    with pytest.raises(BudgetSpent, match="the server ends the run after round 2"):
        federation.run(
            sites(3), **arguments, aggregator=ClientPrivacy(noise=4.0, budget=budget), checkpoint=path
        )
    resumed = federation.run(
        sites(3), **arguments, aggregator=ClientPrivacy(noise=4.0, budget=9.0), checkpoint=path
    )
    assert resumed.hash == whole.hash


def test_what_the_server_cannot_protect_is_refused():
    with pytest.raises(PrivacyError, match="FedMedian takes no mean"):
        ClientPrivacy(inner=FedMedian())
    with pytest.raises(PrivacyError, match="sampling=0"):
        ClientPrivacy(sampling=0)
    with pytest.raises(PrivacyError, match=r"'0.running_mean' .* keep_local"):
        federation.run(sites(2), model=linear(), recipe=SGD, rounds=1, aggregator=ClientPrivacy())
    kept = federation.run(
        sites(2), model=linear(), recipe=SGD, rounds=1, aggregator=ClientPrivacy(), keep_local=r"^0\."
    )
    assert set(kept.parameters) == {"1.weight", "1.bias"}


def test_the_callers_model_is_untouched():
    model = head()
    federation.run(sites(2), model=model, recipe=SGD, rounds=1, trainer=RecordPrivacy())
    assert same_parameters(model, head())
    assert not any(hasattr(value, "grad_sample") for value in model.parameters())


# --- Flower's own differential privacy: what it gets wrong -----------------------------------------


def test_flower_clips_by_batch_norms_counter():
    """24 batches counted by batch norm shrink an update of norm 0.186 to 0.008, though the clip is 1."""
    current = [np.zeros(4, np.float32), np.array(10)]
    reply = [np.full(4, 0.093, np.float32), np.array(34)]
    ours = privacy.clip_reply(dict(zip("wn", reply, strict=True)), dict(zip("wn", current, strict=True)), 1)
    compute_clip_model_update(reply, current, 1.0)
    assert np.linalg.norm(reply[0]) == pytest.approx(0.0077, abs=1e-4)
    assert np.linalg.norm(ours["w"]) == pytest.approx(0.186, abs=1e-4)


@pytest.mark.parametrize(("claimed", "true"), [(10, 10.39), (20, 25.4), (50, 96)])
def test_flowers_local_noise_buys_less_than_it_claims(claimed, true):
    """Its sigma is the classical one, which holds for epsilon below 1 only; and rounds are not counted."""
    mod = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=claimed, delta=DELTA)
    silence = ndarrays_to_parameters([np.zeros(1_000_000)])
    noisy = add_localdp_gaussian_noise_to_params(silence, mod.sensitivity, mod.epsilon, mod.delta)
    noise = float(np.std(parameters_to_ndarrays(noisy)[0]))
    assert privacy.epsilon([Steps(noise, 1.0, 1)], DELTA) == pytest.approx(true, rel=0.01)
    assert privacy.epsilon([Steps(noise, 1.0, 5)], DELTA) > 2 * claimed


def test_flowers_central_noise_fits_equal_weights_only():
    """With 900, 50 and 50 rows, FedAvg lets one site add 2.7 times what the noise was made for.

    Flower refuses unequal weights only where it is given its optional accountant.
    """
    current, replies = update_of([50.0, 0.0, 0.0])
    clipped = [{"w": current["w"] + privacy.clip_reply(r, current, 1.0)["w"]} for r in replies]
    moved_by = np.linalg.norm(weighted_mean(clipped, [900, 50, 50])["w"] - current["w"])
    true_noise = compute_stdv(1.0, 1.0, 3) / moved_by
    assert true_noise == pytest.approx(1 / 2.7)
    claimed, true = (privacy.epsilon([Steps(noise, 1.0, 10)], DELTA) for noise in (1.0, true_noise))
    assert claimed == pytest.approx(17.9, abs=0.1)
    assert true > 3.5 * claimed
    assert privacy.noise_deviation(1.0, 1.0, [0.9, 0.05, 0.05]) == pytest.approx(moved_by)
