"""Aggregators against Flower's own, against their definitions, and under attack."""

import numpy as np
import pytest
import scipy.optimize
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib.aggregation import (
    AGGREGATORS,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedMean,
    FedYogi,
    GeometricMedian,
    Krum,
    MultiKrum,
    aggregate,
    as_vector,
    begin,
    by_name,
)
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.flower_private import identify_process


def example(clients=5, seed=0):
    """Current parameters, replies around them, and weights."""
    rng = np.random.default_rng(seed)
    shapes = {"conv.weight": (3, 2, 2), "head.bias": (4,)}
    current = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    replies = [
        {k: (v + rng.normal(size=v.shape)).astype(np.float32) for k, v in current.items()}
        for _ in range(clients)
    ]
    return current, replies, rng.integers(10, 100, size=clients).astype(float).tolist()


def one_round(aggregator, current, replies, weights, trained=None):
    return aggregate(aggregator, current, replies, weights, begin(aggregator, current, trained), trained)[0]


def flower_round(strategy, current, replies, weights):
    """One round of Flower's own strategy on the same replies."""
    identify_process(1, 1)
    record = ArrayRecord({k: Array(v) for k, v in current.items()})
    if hasattr(strategy, "current_arrays"):
        plain = isinstance(strategy, flower.FedAvgM)
        strategy.current_arrays = record if plain else {k: v.copy() for k, v in current.items()}
    messages = []
    for k, (reply, weight) in enumerate(zip(replies, weights, strict=True)):
        ask = Message(
            RecordDict({"arrays": record, "config": ConfigRecord()}), dst_node_id=k + 10, message_type="train"
        )
        content = RecordDict(
            {
                "arrays": ArrayRecord({n: Array(v) for n, v in reply.items()}),
                "metrics": MetricRecord({"num-examples": weight}),
            }
        )
        messages.append(Message(content, reply_to=ask))
    arrays, _ = strategy.aggregate_train(1, messages)
    return {k: v.numpy() for k, v in arrays.items()}


def assert_close(left, right, tolerance=2e-6):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FedAvg(), flower.FedAvg()),
        (FedMedian(), flower.FedMedian()),
        (FedTrimmedMean(0.2), flower.FedTrimmedAvg(beta=0.2)),
        (Krum(malicious=1), flower.Krum(num_malicious_nodes=1)),
        (MultiKrum(malicious=1, keep=3), flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3)),
        (
            FedAvgM(learning_rate=1.0, momentum=0.9),
            flower.FedAvgM(server_learning_rate=1.0, server_momentum=0.9),
        ),
        (FedAdagrad(learning_rate=0.1, epsilon=1e-3), flower.FedAdagrad(eta=0.1, tau=1e-3)),
        (
            FedYogi(learning_rate=0.1, epsilon=1e-3),
            flower.FedYogi(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_agrees_with_flower(ours, theirs):
    current, replies, weights = example()
    if isinstance(ours, MultiKrum):
        weights = [1.0] * len(weights)  # Flower weights the chosen replies by examples, the paper does not.
    expected = flower_round(theirs, current, replies, weights)
    state = begin(ours, current)
    if "second" in state:
        # Flower starts the second moment at 0, the paper at epsilon squared.
        state["second"] = {k: np.zeros_like(v) for k, v in state["second"].items()}
    assert_close(aggregate(ours, current, replies, weights, state)[0], expected)


def test_two_clients_have_their_mean_as_median():
    current, replies, _ = example(clients=2)
    assert_close(
        one_round(FedMedian(), current, replies, [1, 99]), one_round(FedAvg(), current, replies, [1, 1])
    )


def test_equal_weights_make_the_mean_of_two_their_median():
    current, replies, weights = example(clients=2)
    equal = one_round(FedAvg(equal_weights=True), current, replies, weights)
    median = one_round(FedMedian(), current, replies, weights)
    assert all(np.array_equal(equal[name], median[name]) for name in current)


def test_fedadam_has_no_bias_correction():
    """Reddi's first step is lr (1 - b1) d / (sqrt(b2 tau^2 + (1 - b2) d^2) + tau)."""
    current, reply, d = {"w": np.zeros(1)}, {"w": np.full(1, 2.0)}, 2.0
    adam = FedAdam(learning_rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-3)
    second = 0.99 * 1e-6 + 0.01 * d**2
    expected = 0.1 * 0.1 * d / (np.sqrt(second) + 1e-3)
    assert one_round(adam, current, [reply], [1.0])["w"][0] == pytest.approx(expected)


def test_geometric_median_is_the_minimum():
    current, replies, weights = example(clients=4)
    found = as_vector(one_round(GeometricMedian(), current, replies, weights))
    points = [as_vector(reply) for reply in replies]

    def total(point):
        return sum(w * np.linalg.norm(point - p) for w, p in zip(weights, points, strict=True))

    best = scipy.optimize.minimize(total, np.mean(points, axis=0), tol=1e-10)
    assert total(found) <= best.fun * (1 + 1e-5)


@pytest.mark.parametrize("robust", [FedMedian(), FedTrimmedMean(0.2), Krum(), MultiKrum(), GeometricMedian()])
def test_robust_aggregators_withstand_one_corrupted_client(robust):
    current, replies, _ = example(clients=5)
    weights = [1.0] * 5
    honest = as_vector(one_round(FedAvg(), current, replies[:4], weights[:4]))
    replies[4] = {k: v + 1000 for k, v in replies[4].items()}
    spread = max(np.linalg.norm(as_vector(r) - honest) for r in replies[:4])
    assert np.linalg.norm(as_vector(one_round(robust, current, replies, weights)) - honest) <= 2 * spread
    assert np.linalg.norm(as_vector(one_round(FedAvg(), current, replies, weights)) - honest) > 100 * spread


@pytest.mark.parametrize("kind", AGGREGATORS.values())
def test_equal_replies_are_a_fixed_point_in_kind(kind):
    """Where all agree with the server nothing moves, and types and shapes are kept."""
    current, _, _ = example()
    current["bn.num_batches_tracked"] = np.array(7, dtype=np.int64)
    result = one_round(kind(), current, [current] * 5, [1.0] * 5)
    for name, value in current.items():
        assert result[name].dtype == value.dtype
        assert result[name].shape == value.shape
        np.testing.assert_allclose(result[name], value, atol=1e-4)


@pytest.mark.parametrize("kind", AGGREGATORS.values())
def test_counters_keep_the_largest(kind):
    current = {"w": np.zeros(2, np.float32), "n": np.array(3)}
    replies = [{"w": np.ones(2, np.float32), "n": np.array(v)} for v in (5, 9, 4, 6, 7)]
    result = one_round(kind(), current, replies, [1.0] * 5)
    assert result["n"] == 9
    assert result["n"].dtype.kind == "i"


def test_server_optimiser_leaves_running_statistics_alone():
    current = {"w": np.zeros(1), "running_var": np.full(1, 0.05)}
    replies = [{"w": np.ones(1), "running_var": np.full(1, 0.001)}] * 2
    kept = one_round(FedAdam(learning_rate=1.0), current, replies, [1, 1], frozenset({"w"}))
    assert kept["running_var"][0] == pytest.approx(0.001)
    stepped = one_round(FedAdam(learning_rate=1.0), current, replies, [1, 1])
    assert stepped["running_var"][0] < 0


def test_state_carries_over_rounds():
    current, reply = {"w": np.zeros(1)}, {"w": np.ones(1)}
    momentum = FedAvgM(learning_rate=1.0, momentum=0.5)
    first, state = aggregate(momentum, current, [reply], [1.0], begin(momentum, current))
    second, _ = aggregate(momentum, first, [{"w": first["w"]}], [1.0], state)
    assert first["w"][0] == 1.0
    assert second["w"][0] == 1.5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_fedavg_lies_between_the_replies(clients, seed):
    current, replies, weights = example(clients, seed)
    result = one_round(FedAvg(), current, replies, weights)
    for name in current:
        stack = np.stack([reply[name] for reply in replies])
        assert np.all(result[name] >= stack.min(axis=0) - 1e-5)
        assert np.all(result[name] <= stack.max(axis=0) + 1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_medians_do_not_depend_on_the_order_of_clients(seed):
    current, replies, weights = example(5, seed)
    for aggregator in (FedMedian(), FedTrimmedMean(0.2), Krum()):
        assert_close(
            one_round(aggregator, current, replies, weights),
            one_round(aggregator, current, replies[::-1], weights[::-1]),
        )


@pytest.mark.parametrize(
    "make", [lambda: FedTrimmedMean(0.5), lambda: MultiKrum(keep=0), lambda: Krum(malicious=-1)]
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(FederationError):
        make()


# --- by name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_is_made_from_its_name(name):
    aggregator = by_name(name)
    assert type(aggregator) is AGGREGATORS[name]
    assert aggregator.name == name


def test_a_name_takes_settings():
    assert by_name("FedAvgM", momentum=0.7) == FedAvgM(momentum=0.7)
    assert by_name("Krum", malicious=2) == Krum(malicious=2)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(FederationError, match="'FedSum' is unknown; choose one of FedAvg, FedMedian"):
        by_name("FedSum")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("FedAvgM", "choose one of learning_rate, momentum"),
        ("FedMedian", "it has none"),
        ("Krum", "malicious"),
    ],
)
def test_an_unknown_setting_lists_the_known_ones(name, match):
    with pytest.raises(FederationError, match=match):
        by_name(name, keep=1, wings=2)
