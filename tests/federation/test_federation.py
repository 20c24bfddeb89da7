"""Federated runs: engines agree, bad replies are refused, interrupted runs go on."""

import copy
import threading

import numpy as np
import pytest
import torch
from builders.federated import linear, pictures, same_parameters, sites, small_cnn, table
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp import strategy as flower

from hemafl_lib import federation
from hemafl_lib.aggregation import AGGREGATORS, FedAdam, FedAvg, FedMedian
from hemafl_lib.errors import FederationError, HemaflError, Stopped
from hemafl_lib.federation import client
from hemafl_lib.federation import server as server_room
from hemafl_lib.federation.casting import fitted
from hemafl_lib.federation.client import Job, client_app
from hemafl_lib.federation.engines.local import LocalGrid, run_local
from hemafl_lib.federation.exchange import exchanged_names, from_record, get_arrays, to_record
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.partition import Site
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import Recipe, fit, predict

RECIPE = Recipe(learning_rate=0.05, batch_size=8)


def test_serial_and_parallel_agree_to_the_bit():
    one = federation.run(sites(4, pictures), model=small_cnn(), recipe=RECIPE, rounds=2, workers=1)
    four = federation.run(sites(4, pictures), model=small_cnn(), recipe=RECIPE, rounds=2, workers=4)
    assert one.hash == four.hash
    assert one.history.equals(four.history)


def test_one_round_is_the_textbook_loop():
    """FedAvg by hand: copy, train, weight by examples."""
    hospitals, model = sites(3), linear()
    run = federation.run(hospitals, model=model, recipe=RECIPE, rounds=1, seed=7)
    trained = []
    for site in hospitals:
        local = copy.deepcopy(model)
        fit(local, site.train, RECIPE, torch_generator(7, "fit", site.name, 1))
        trained.append(local.state_dict())
    rows = [len(site.train) for site in hospitals]
    for name, value in run.model.state_dict().items():
        if value.dtype.is_floating_point:
            mean = sum(n / sum(rows) * state[name].double() for n, state in zip(rows, trained, strict=True))
            torch.testing.assert_close(value, mean.float(), atol=1e-6, rtol=1e-6)


def test_the_callers_model_and_random_state_are_untouched():
    model, before = linear(), torch.get_rng_state()
    kept = copy.deepcopy(model)
    federation.run(sites(), model=model, recipe=RECIPE, rounds=1)
    assert same_parameters(model, kept)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", AGGREGATORS.values())
def test_every_aggregator_learns(kind):
    aggregator = (
        kind(learning_rate=0.5) if kind.__name__.startswith("FedA") and kind is not FedAvg else kind()
    )
    run = federation.run(sites(5), model=linear(), recipe=RECIPE, aggregator=aggregator, rounds=4)
    assert run.curve("accuracy").iloc[-1].mean() > 0.75
    assert run.refused.empty


def test_bytes_are_parameters_times_clients_times_rounds_times_two():
    run = federation.run(sites(3), model=linear(), recipe=RECIPE, rounds=2, evaluate=False)
    record = to_record(get_arrays(linear(), exchanged_names(linear())))
    assert run.bytes_sent == sum(len(array.data) for array in record.values()) * 3 * 2 * 2


def test_isolated_and_centralised_are_runs_of_one_site():
    alone = federation.isolated(sites(2), model=linear(), recipe=RECIPE, rounds=1, aggregator=FedMedian())
    assert list(alone) == ["site 0", "site 1"]
    first = federation.run(sites(2)[:1], model=linear(), recipe=RECIPE, rounds=1)
    assert alone["site 0"].hash == first.hash
    together = federation.centralised(sites(2), model=linear(), recipe=RECIPE, rounds=1)
    assert together.history.query("metric == 'num-examples' and phase == 'train'")["value"].item() == 24 + 29


def test_fedbn_keeps_batch_norm_at_the_site():
    run = federation.run(sites(2), model=linear(), recipe=RECIPE, rounds=2, keep_local=r"^0\.")
    assert set(run.parameters) == {"1.weight", "1.bias"}
    assert same_parameters(run.model[0], linear()[0])
    assert len(run.curve("loss")) == 2


def test_frozen_layers_do_not_travel():
    model = small_cnn()
    for layer in (model[0], model[1]):
        layer.requires_grad_(False)
    assert exchanged_names(model) == ("5.weight", "5.bias")


def test_monitor_sees_every_round_and_the_start():
    run = federation.run(
        sites(2), model=linear(), recipe=RECIPE, rounds=3, monitor={"unseen": table(40, 999)}
    )
    curve = run.curve("accuracy", "monitor")["unseen"]
    assert list(curve.index) == [0, 1, 2, 3]
    right = (predict(run.model, table(40, 999)).argmax(1) == table(40, 999).label).double().mean()
    assert curve[3] == pytest.approx(float(right))


# --- bad replies -----------------------------------------------------------------------------------


def corrupting(change):
    """A mod that changes the reply of partition 1."""

    def mod(message: Message, context: Context, call_next) -> Message:
        reply = call_next(message, context)
        if context.node_config["partition-id"] == 1 and message.metadata.message_type == "train":
            return change(reply)
        return reply

    return mod


def run_with(change, aggregator=None, count=4):
    """One round with a corrupted client; returns the strategy."""
    hospitals, model = sites(count), linear()
    app = ClientApp(mods=[])
    inner = client_app(Job(model, RECIPE, 0), hospitals.__getitem__)
    mod = corrupting(change)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return mod(message, context, inner)

    strategy = AggregatorStrategy(aggregator or FedAvg(), nodes=count, rounds=1, evaluate=False)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy.start(grid, to_record(get_arrays(model, exchanged_names(model))), num_rounds=1)

    run_local(server, app, count)
    return strategy


def edit(name, function):
    def change(reply: Message) -> Message:
        arrays = from_record(reply.content["arrays"])
        function(arrays, name)
        reply.content["arrays"] = to_record(arrays)
        return reply

    return change


def fill(value):
    def function(arrays, name):
        arrays[name] = np.full_like(arrays[name], value)

    return function


def fail(reply):
    raise RuntimeError("the scanner is on fire")


def no_examples(reply):
    reply.content["metrics"]["num-examples"] = 0
    return reply


@pytest.mark.survives(
    "A hospital sends NaN, a wrong shape, another array or an implausibly large update",
    "its reply is refused with the reason, and the run goes on",
)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (edit("1.weight", fill(np.nan)), "'1.weight' is not finite"),
        (edit("1.bias", fill(np.inf)), "'1.bias' is not finite"),
        (edit("1.weight", lambda a, k: a.update({k: a[k][:1]})), "'1.weight' has shape"),
        (edit("1.weight", lambda a, k: a.pop(k)), "'1.weight' is missing"),
        (edit("1.weight", lambda a, k: a.update(extra=a[k])), "'extra' is unknown"),
        (edit("1.weight", fill(1e9)), "implausible"),
        (no_examples, "number of examples is 0"),
        (fail, "the scanner is on fire"),
    ],
)
def test_a_bad_reply_is_refused_with_its_reason(change, reason):
    strategy = run_with(change)
    assert len(strategy.refused) == 1
    assert reason in strategy.refused[0]["reason"]
    assert all(np.all(np.isfinite(value)) for value in strategy.current.values())
    rows = [row for row in strategy.history if row["metric"] == "num-examples"]
    assert [row["site"] for row in rows] == ["site 0", "site 2", "site 3"]


@pytest.mark.survives(
    "One of several hospitals is refused in every round", "the model is, to the bit, that of the others alone"
)
def test_a_refused_client_changes_nothing_for_the_others():
    good = run_with(fail)
    without = AggregatorStrategy(FedAvg(), nodes=3, rounds=1, evaluate=False)
    hospitals, model = sites(4), linear()
    names = exchanged_names(model)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        without.start(grid, to_record(get_arrays(model, names)), num_rounds=1)

    three = [hospitals[0], hospitals[2], hospitals[3]]
    run_local(server, client_app(Job(model, RECIPE, 0), three.__getitem__), 3)
    assert all(np.array_equal(good.current[k], without.current[k]) for k in names)


def test_flower_itself_is_poisoned_by_one_nan():
    """The reason for the checks: Flower's FedAvg and FedMedian take NaN into the global model."""
    for strategy in (flower.FedAvg(), flower.FedMedian()):
        result = run_flower(strategy, edit("1.weight", fill(np.nan)))
        assert np.isnan(result["1.weight"]).any()


@pytest.mark.survives("No hospital sends a usable reply", "an error with the first reason")
def test_no_usable_reply_is_an_error():
    model = linear()
    empty = [Site(name="a", train=table(8, 0), validation=table(4, 1), test=table(4, 2))]
    model[1].weight.data.fill_(float("nan"))
    with pytest.raises(FederationError, match="not finite"):
        federation.run(empty, model=model, recipe=RECIPE, rounds=1)


def damage(reply):
    array = reply.content["arrays"]["1.weight"]
    array.data = array.data[:-3]
    return reply


def test_arrays_that_cannot_be_read_are_refused():
    strategy = run_with(damage)
    assert [row["site"] for row in strategy.refused] == ["site 1"]
    assert "array '1.weight' is damaged" in strategy.refused[0]["reason"]


def test_arrays_that_match_are_taken_as_they_are():
    arrays = {"w": np.zeros(3)}
    assert fitted(arrays, {"w": np.ones(3)})["w"] is arrays["w"]


# --- any Flower app --------------------------------------------------------------------------------


def run_flower(strategy, change=lambda reply: reply, count=4, rounds=1):
    """Flower's own strategy over our client app on the local engine."""
    hospitals, model = sites(count), linear()
    inner = client_app(Job(model, RECIPE, 0), hospitals.__getitem__)
    app, mod = ClientApp(), corrupting(change)
    app.train()(lambda message, context: mod(message, context, inner))
    app.evaluate()(lambda message, context: inner(message, context))
    server, result = ServerApp(), {}

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        arrays = get_arrays(model, exchanged_names(model))
        found = strategy.start(grid, to_record(arrays), num_rounds=rounds)
        result.update(from_record(found.arrays))

    run_local(server, app, count)
    return result


@pytest.mark.parametrize(
    "strategy",
    [
        flower.FedAvg(),
        flower.FedMedian(),
        flower.FedTrimmedAvg(),
        flower.FedAvgM(server_momentum=0.9),
        flower.FedAdam(),
        flower.FedYogi(),
        flower.FedAdagrad(),
        flower.FedProx(proximal_mu=0.1),
        flower.Krum(num_malicious_nodes=1),
        flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=2),
        flower.Bulyan(num_malicious_nodes=0),
        flower.QFedAvg(client_learning_rate=0.1),
    ],
    ids=lambda s: type(s).__name__,
)
def test_flowers_own_strategies_run_unmodified(strategy):
    foreign, seen = ClientApp(), set()

    @foreign.train()
    def train(message: Message, context: Context) -> Message:
        """A client app that knows nothing of this library."""
        record = message.content["arrays"]
        weights = [array + 1.0 for array in record.to_numpy_ndarrays()]
        context.state["visits"] = MetricRecord({"n": seen_before(context) + 1})
        seen.add(context.node_config["partition-id"])
        arrays = ArrayRecord({k: v for k, v in zip(record, to_arrays(weights), strict=True)})
        metrics = MetricRecord({"num-examples": 10, "train_loss": 1.0, "loss": 1.0})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @foreign.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 10, "visits": seen_before(context), "loss": 1.0})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    server, results = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        initial = ArrayRecord([np.zeros((2, 3), np.float32)])
        results.append(strategy.start(grid, initial, num_rounds=3))

    run_local(server, foreign, 5)
    assert seen == set(range(5))
    assert results[0].evaluate_metrics_clientapp[3]["visits"] == pytest.approx(3)
    assert np.all(results[0].arrays.to_numpy_ndarrays()[0] > 0)


def test_flowers_own_loop_drives_our_strategy_to_the_bits_of_a_run():
    model = linear()
    strategy = AggregatorStrategy(FedAdam(), nodes=4, rounds=3, trained=federation.trained_names(model))
    arrays = run_flower(strategy, rounds=3)
    run = federation.run(sites(4), model=model, recipe=RECIPE, aggregator=FedAdam(), rounds=3)
    assert federation.parameter_hash(arrays) == run.hash
    assert strategy.history == run.history.to_dict("records")
    assert strategy.bytes_sent == run.bytes_sent


def test_a_run_that_is_stopped_ends_after_the_round():
    stop, told = threading.Event(), []

    def report(history):
        told.append(history)
        if len(told) == 2:
            stop.set()

    with pytest.raises(Stopped):
        federation.run(sites(2), model=linear(), recipe=RECIPE, rounds=5, report=report, stop=stop)
    assert len(told) == 2


def seen_before(context: Context) -> int:
    return context.state["visits"]["n"] if "visits" in context.state else 0


def to_arrays(values):
    return list(ArrayRecord(values).values())


def test_pulling_gives_each_reply_once():
    app = client_app(Job(linear(), RECIPE, 0), sites(2).__getitem__)
    grid = LocalGrid(app, 2)
    strategy = AggregatorStrategy(FedAvg(), nodes=2, rounds=1)
    arrays = to_record(get_arrays(linear(), exchanged_names(linear())))
    try:
        identifiers = grid.push_messages(strategy.configure_train(1, arrays, None, grid))
        replies = []
        while len(replies) < 2:
            replies += grid.pull_messages(identifiers)
        assert grid.pull_messages(identifiers) == []
        assert sorted(r.metadata.reply_to_message_id for r in replies) == sorted(identifiers)
    finally:
        grid.close()


@pytest.mark.survives(
    "A hospital is offline between two rounds", "the run goes on, and the history names it until it is back"
)
def test_a_hospital_that_is_away_is_missed_until_it_is_back():
    hospitals, model = sites(3), linear()
    strategy = AggregatorStrategy(FedAvg(), nodes=3, rounds=3, evaluate=False)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        everybody = sorted(grid.get_node_ids())
        present = iter([everybody, everybody[:2], everybody])
        grid.get_node_ids = lambda: next(present)
        strategy.start(grid, to_record(get_arrays(model, exchanged_names(model))), num_rounds=3)

    run_local(server, client_app(Job(model, RECIPE, 0), hospitals.__getitem__), 3)
    reason = "its node was not online when the server asked"
    assert strategy.refused == [{"round": 2, "phase": "train", "site": hospitals[2].name, "reason": reason}]
    answered = [(row["round"], row["site"]) for row in strategy.history if row["metric"] == "steps"]
    assert [number for number, _ in answered] == [1, 1, 1, 2, 2, 3, 3, 3]
    assert (2, hospitals[2].name) not in answered


# --- interruption and resumption -------------------------------------------------------------------


@pytest.mark.survives(
    "A run is interrupted and started again with its checkpoint",
    "it ends with the same bits as without the interruption",
)
@pytest.mark.parametrize(
    "settings", [{}, {"keep_local": r"^0\."}, {"aggregator": FedAdam(learning_rate=0.1)}]
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, monkeypatch, settings):
    arguments = {"model": linear(), "recipe": RECIPE, "rounds": 4, **settings}
    whole = federation.run(sites(3), **arguments)
    path = tmp_path / "run.safetensors"
    write, calls = server_room.write_checkpoint, []

    def crash_after_round_two(*args):
        write(*args)
        calls.append(1)
        if len(calls) == 3:  # the first is written before round 1
            raise KeyboardInterrupt

    monkeypatch.setattr(server_room, "write_checkpoint", crash_after_round_two)
    with pytest.raises(KeyboardInterrupt):
        federation.run(sites(3), **arguments, checkpoint=path)
    resumed = federation.run(sites(3), **arguments, checkpoint=path)
    assert resumed.hash == whole.hash
    assert resumed.history.equals(whole.history)
    assert resumed.bytes_sent == whole.bytes_sent
    assert len(calls) == 5
    again = federation.run(sites(3), **arguments, checkpoint=path)
    assert again.hash == whole.hash


@pytest.mark.survives(
    "A checkpoint is damaged or belongs to another run", "it is refused in a sentence, and stays as it is"
)
def test_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    federation.run(sites(2), model=linear(), recipe=RECIPE, rounds=1, checkpoint=path)
    with pytest.raises(FederationError, match="another run"):
        federation.run(sites(2), model=linear(), recipe=RECIPE, rounds=1, seed=5, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FederationError, match="damaged"):
        federation.run(sites(2), model=linear(), recipe=RECIPE, rounds=1, checkpoint=path)


@pytest.mark.survives("Ctrl-C in a notebook while hospitals train", "the clients stop within the batch")
def test_interrupt_stops_running_clients(monkeypatch):
    """Ctrl-C in the server's thread: the clients stop between two batches and no thread stays."""
    started = threading.Event()
    original = client.client_app

    def slow_app(job, load_site, stop):
        def noticing() -> bool:
            started.set()
            return stop()

        return original(job, load_site, noticing)

    def interrupted(self, *args, **kwargs):
        identifiers = list(self.push_messages(kwargs["messages"]))
        assert started.wait(10)
        del identifiers
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "client_app", slow_app)
    monkeypatch.setattr(LocalGrid, "send_and_receive", interrupted)
    endless = Recipe(local_epochs=1_000_000, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        federation.run(sites(3), model=linear(), recipe=endless, rounds=1)
    assert not [t for t in threading.enumerate() if t.name.startswith("client")]


def test_fit_stops_when_told():
    with pytest.raises(Stopped):
        fit(linear(), table(20, 0), RECIPE, torch_generator(0), stop=lambda: True)


# --- bad requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"engine": "carrier pigeon"}, "carrier pigeon"),
        ({"rounds": -1}, "rounds=-1"),
        ({"sites": []}, "sites is empty"),
        ({"sites": sites(1) * 2}, "same name"),
        ({"sites": [Site("a", table(0, 0), table(2, 1), table(2, 2))]}, "no training rows"),
        ({"sites": [Site("a", table(5, 0), table(0, 1), table(2, 2))]}, "no validation rows"),
    ],
)
def test_impossible_requests_are_one_sentence(change, match):
    arguments = {"sites": sites(2), "rounds": 1, **change}
    with pytest.raises(HemaflError, match=match):
        federation.run(arguments.pop("sites"), model=linear(), recipe=RECIPE, **arguments)


@pytest.mark.survives(
    "Fewer hospitals come than the run waits for", "it ends at the deadline and says how many came"
)
def test_waiting_for_nodes_has_a_deadline():
    grid = LocalGrid(client_app(Job(linear(), RECIPE, 0), sites(1).__getitem__), 1)
    strategy = AggregatorStrategy(FedAvg(), nodes=2, rounds=1, deadline=0.2)
    with pytest.raises(FederationError, match="only 1 of 2 nodes"):
        strategy.configure_train(1, to_record({"w": np.zeros(1)}), None, grid)
    grid.close()


def test_why_a_run_failed_stands_in_its_sentence_without_class_and_with_one_full_stop():
    cox = Recipe(loss="cox", batch_size=8)
    with pytest.raises(FederationError) as failed:
        federation.run(sites(3), model=linear(), recipe=cox, rounds=1)
    assert "refused because the client failed: loss='cox' needs time and event" in str(failed.value)
    assert str(failed.value).count("..") == 0
    assert "hemafl_lib" not in str(failed.value)
