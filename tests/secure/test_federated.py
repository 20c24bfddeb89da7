"""Secure aggregation in a run: the plain run's result, whoever is lost, and nothing for who listens."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from builders.cohorts import dealt, drawn
from builders.federated import PROVENANCE, linear, pictures, sites, small_cnn, table
from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam as FlowerFedAdam
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from hemafl_lib import aggregation, federation, secure, statistics
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import FederationError, PrivacyError
from hemafl_lib.federation.client import Job, client_app
from hemafl_lib.federation.engines.deployment import node
from hemafl_lib.federation.exchange import exchanged_names, from_record, get_arrays, to_record
from hemafl_lib.federation.mods import AddNoise, ClipUpdate
from hemafl_lib.federation.site_app import load_app, store_app
from hemafl_lib.models import AttentionCNN
from hemafl_lib.partition import Site
from hemafl_lib.privacy import ClientPrivacy, RecordPrivacy, inversion
from hemafl_lib.secure import NoiseShare, SecureAggregation, SecureGrid
from hemafl_lib.secure.aggregation import question_of
from hemafl_lib.secure.bundle import bundled, unbundled
from hemafl_lib.secure.grid import asked_of, digest_of
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import Recipe

RECIPE = Recipe(optimiser="sgd", learning_rate=0.05, batch_size=8)
SETTINGS = {"recipe": RECIPE, "rounds": 2, "evaluate": False}
EQUAL = FedAvg(equal_weights=True)
STEP = 2.0**-32
"""The step of the fixed point by default."""


def securely(count=5, wire=None, make=table, model=linear, **changes):
    return federation.run_over(
        wire or SecureAggregation(), sites(count, make), model=model(), **{**SETTINGS, **changes}
    )


def plainly(count=5, make=table, model=linear, **changes):
    return federation.run(sites(count, make), model=model(), **{**SETTINGS, **changes})


def assert_same(one, other, tolerance=1e-6):
    """Equal but for the fixed point, and for what training makes of float32's last digits."""
    for name, value in other.parameters.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(one.parameters[name], value, rtol=0, atol=tolerance, err_msg=name)


# --- the plain run's result --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["FedAvg", "FedAvgM", "FedAdagrad"])
def test_the_result_is_that_of_the_plain_run(kind):
    aggregator = aggregation.by_name(kind)
    # Where all updates have been small, an adaptive step is the larger, and rounding with it.
    tolerance = 1e-4 if kind == "FedAdagrad" else 1e-6
    assert_same(securely(aggregator=aggregator), plainly(aggregator=aggregator), tolerance)


def test_a_network_with_batch_norm_ends_where_the_plain_run_does():
    one = securely(3, make=pictures, model=small_cnn, rounds=1)
    other = plainly(3, make=pictures, model=small_cnn, rounds=1)
    assert_same(one, other)
    assert one.parameters["1.num_batches_tracked"] == pytest.approx(
        other.parameters["1.num_batches_tracked"], abs=2
    )


def test_one_round_differs_by_the_fixed_point_and_one_rounding_only():
    one, other = securely(rounds=1), plainly(rounds=1)
    for name, value in other.parameters.items():
        if value.dtype.kind == "f":
            assert (np.abs(one.parameters[name] - value) <= STEP / 2 + np.spacing(np.abs(value))).all(), name


def test_hospitals_can_count_the_same():
    equal = FedAvg(equal_weights=True)
    assert_same(securely(wire=SecureAggregation(weighted=False), aggregator=equal), plainly(aggregator=equal))


def test_it_is_the_same_to_the_bit_every_time():
    """The masks are new each time, and leave no trace in the sum."""
    assert securely().hash == securely(workers=1).hash


def test_mods_change_an_update_before_it_is_masked():
    mods = [ClipUpdate(limit=0.01)]
    assert_same(securely(mods=mods), plainly(mods=mods))


def test_a_mod_around_the_masks_is_refused():
    """It would find masked integers, and no update to clip."""
    (reason,) = reasons(serve(grid_replies, mods=(ClipUpdate(limit=0.01), SecureAggregation())))
    assert "holds other arrays than the message" in reason


def test_proximal_terms_and_what_stays_at_a_site_go_with_it():
    changes = {
        "recipe": Recipe(optimiser="sgd", learning_rate=0.05, batch_size=8, proximal=0.1),
        "keep_local": "^0",
    }
    assert_same(securely(**changes), plainly(**changes))


def test_flowers_own_strategies_can_have_it():
    model = linear()
    names = exchanged_names(model)
    ended = {}

    def serve(wire, strategy):
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            behind = wire.behind(grid) if wire else grid
            start = to_record(get_arrays(model, names))
            found = strategy.start(grid=behind, initial_arrays=start, num_rounds=2)
            ended[bool(wire)] = from_record(found.arrays)

        job = Job(model, RECIPE, 0, mods=(wire,) if wire else ())
        federation.run_local(server, client_app(job, sites(4).__getitem__), 4)

    for kind in (FlowerFedAvg, FlowerFedAdam):
        for wire in (None, SecureAggregation()):
            serve(wire, kind(min_train_nodes=4, min_available_nodes=4, fraction_evaluate=0.0))
        for name in ("1.weight", "1.bias"):
            np.testing.assert_allclose(ended[True][name], ended[False][name], atol=1e-5)


def test_evaluations_pass_and_are_those_of_the_plain_run():
    one, other = (how(evaluate=True).curve("loss") for how in (securely, plainly))
    pd.testing.assert_frame_equal(one, other, rtol=1e-5)


# --- what the server sees ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tapped(SecureAggregation):
    """Notes what leaves each site, by step."""

    heard: dict = field(default_factory=dict, compare=False)

    def __call__(self, message, context, call_next):
        reply = super().__call__(message, context, call_next)
        if "secure" in message.content:
            step = message.content["secure"]["step"]
            self.heard.setdefault(step, {})[context.node_config["partition-id"]] = reply.content
        return reply


def test_a_reply_holds_nothing_but_the_masked_vector_and_which_site_it_is_of():
    tap = Tapped()
    run = securely(wire=tap)
    for number, content in tap.heard["mask"].items():
        assert set(content) == {"metrics", "secure", "arrays", "site"}
        assert dict(content["metrics"]) == {"partition-id": number}
        assert list(content["arrays"]) == ["masked"]
        assert set(content["secure"]) == {"form", "question"}
        assert content["secure"]["question"] == tap.heard["mask"][0]["secure"]["question"]
    told = run.history.query("phase == 'train'")
    assert set(told["metric"]) == {"num-examples"}
    assert set(told["value"]) == {34}  # the mean of 24, 29, 34, 39 and 44


def test_metrics_are_told_where_a_site_is_asked_to():
    run = securely(wire=SecureAggregation(told=("loss", "num-examples")))
    plain = plainly()
    for metric in ("loss", "num-examples"):
        one, other = (each.curve(metric, "train") for each in (run, plain))
        pd.testing.assert_frame_equal(one, other, rtol=1e-4)
    assert "steps" not in set(run.history["metric"])


def cells(rows: int, seed: int) -> ImageCohort:
    """Pictures with some structure: bright squares at random places."""
    generator = torch_generator(seed, "cells")
    images = torch.full((rows, 3, 16, 16), 40, dtype=torch.uint8)
    for image in images:
        x, y = torch.randint(0, 10, (2,), generator=generator).tolist()
        image[:, x : x + 6, y : y + 6] = torch.randint(
            120, 255, (3, 1, 1), generator=generator, dtype=torch.uint8
        )
    return ImageCohort(
        images=images,
        labels=torch.arange(rows) % 2,
        classes=("dark", "bright"),
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


def test_inverting_a_gradient_shows_the_cell_without_it_and_noise_with_it():
    """One picture and one step: without masks the attack is exact; with them it finds what guesses find."""
    rate, recipe = (
        0.1,
        Recipe(optimiser="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, batch_size=1),
    )
    cohorts = [cells(6, seed) for seed in range(3)]
    hospitals = [Site(f"site {k}", c.take([0]), c.take([]), c.take([])) for k, c in enumerate(cohorts)]
    model = inversion.fully_connected(2, size=16, hidden=64)
    settings = {"model": model, "recipe": recipe, "rounds": 1, "evaluate": False}
    sent = {}

    def tap(message, context, call_next):
        reply = call_next(message, context)
        sent[context.node_config["partition-id"]] = from_record(reply.content["arrays"])
        return reply

    federation.run(hospitals, mods=[tap], **settings)
    tapped = Tapped()
    federation.run_over(tapped, hospitals, **settings)

    def attacked(update) -> pd.DataFrame:
        tensors = {name: torch.tensor(np.array(value)) for name, value in update.items()}
        gradient = inversion.gradient_of_update(model, tensors, rate)
        found = inversion.linear_inputs(gradient["first.weight"], gradient["first.bias"])
        images = found.view(-1, 3, 16, 16)
        return inversion.assess(images, cohorts[0], [0], torch_generator(0)).set_index("guess")

    plain = attacked(sent[0])
    assert plain.loc["recovered", "rank"] == 1
    assert plain.loc["recovered", "psnr"] > 40

    masked = from_record(tapped.heard["mask"][0]["arrays"])["masked"]
    start = get_arrays(model, exchanged_names(model))
    # The best that a server can do with it: read it as if it were an update of one example.
    read = secure.grid.unpack_mean(np.concatenate([masked[:, :-2], np.ones((1, 2), np.uint64)], 1), start, 32)
    hidden = attacked(read[0])
    assert hidden.loc["recovered", "psnr"] < hidden.loc["class mean", "psnr"]
    assert hidden.loc["recovered", "psnr"] < 12


# --- noise that nobody knows --------------------------------------------------------------------------


def test_the_mean_has_the_noise_that_hides_one_site():
    """Over updates of nothing, the mean of K sites has the deviation noise * clip / sqrt(together * K)."""
    model = AttentionCNN(2, width=16, norm="group")
    recipe = Recipe(optimiser="sgd", learning_rate=1e-12, momentum=0.0, weight_decay=0.0, batch_size=8)
    mod = NoiseShare(noise=2.0, clip=0.1, together=3)
    runs = [
        federation.run_over(
            SecureAggregation(weighted=False),
            sites(5, pictures),
            model=model,
            mods=[mod],
            aggregator=FedAvg(equal_weights=True),
            **{**SETTINGS, "rounds": 1, "recipe": recipe},
        )
        for _ in range(2)
    ]
    start = get_arrays(model, exchanged_names(model))
    noise = [np.concatenate([(run.parameters[k] - start[k]).ravel() for k in start]) for run in runs]
    assert len(noise[0]) > 2000
    for each in noise:
        assert each.std() == pytest.approx(2.0 * 0.1 / np.sqrt(3 * 5), rel=0.06)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.1


@pytest.mark.survives(
    "Hospitals share noise between them, and the sum may be of too few to hold enough of it",
    "They do not train, and say so",
)
@pytest.mark.parametrize(
    "run",
    [
        lambda **rest: federation.run(sites(5), model=linear(), **SETTINGS, **rest),
        lambda **rest: securely(**rest),
        lambda **rest: securely(wire=SecureAggregation(weighted=False), aggregator=EQUAL, **rest),
    ],
    ids=["no secure aggregation", "weights", "a low threshold"],
)
def test_noise_that_would_not_be_enough_is_refused(run):
    with pytest.raises(FederationError, match="its share of the noise is enough only in a sum of together=4"):
        run(mods=[NoiseShare(together=4)])


def test_noise_on_running_statistics_is_refused():
    wire = SecureAggregation(weighted=False)
    with pytest.raises(FederationError, match="running statistic of batch norm, which noise makes useless"):
        securely(wire=wire, aggregator=EQUAL, mods=[NoiseShare()], rounds=1)


# --- who is lost -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failing(SecureAggregation):
    """Some sites fail at a step."""

    step: str = "mask"
    failing: tuple[int, ...] = (1,)

    def __call__(self, message, context, call_next):
        asked = message.content.get("secure", {})
        if asked.get("step") == self.step and context.node_config["partition-id"] in self.failing:
            raise RuntimeError(f"the node went down at '{self.step}'")
        return super().__call__(message, context, call_next)


def without(*lost, **changes):
    """The plain run in which these sites fail."""

    def fail(message, context, call_next):
        if context.node_config["partition-id"] in lost:
            raise RuntimeError("down")
        return call_next(message, context)

    return plainly(mods=[fail], **changes)


def test_who_agrees_on_the_survivors_and_is_lost_then_is_in_the_mean():
    @dataclass(frozen=True)
    class Twice(Failing):
        def __call__(self, message, context, call_next):
            if message.content.get("secure", {}).get("step") == "agree":
                assert context.node_config["partition-id"] != 2, "the node went down at 'agree'"
            return super().__call__(message, context, call_next)

    run = securely(wire=Twice(failing=(1,)), rounds=1)
    assert run.refused["site"].tolist() == ["site 1"]
    assert_same(run, without(1, rounds=1))


@pytest.mark.parametrize("step", ["keys", "deal", "mask"])
def test_the_mean_is_that_of_the_sites_that_are_left(step):
    run = securely(wire=Failing(step=step, failing=(1, 3)))
    assert_same(run, without(1, 3))
    assert run.refused["site"].tolist() == 2 * ["site 1", "site 3"]
    assert set(run.refused["reason"]) == {f"the client failed: RuntimeError: the node went down at '{step}'"}


def test_a_site_that_is_lost_after_it_has_sent_its_vector_is_in_the_mean():
    run = securely(wire=Failing(step="reveal", failing=(0, 4)))
    assert_same(run, plainly())
    assert run.refused.empty


@pytest.mark.parametrize("step", ["keys", "deal", "mask", "reveal"])
def test_without_enough_sites_the_round_is_missed_and_says_so(step):
    wire = Failing(step=step, failing=(0, 1, 2))
    with pytest.raises(
        FederationError, match=r"no round had a usable reply: .*(threshold=3|at least 3 sites)"
    ):
        securely(wire=wire, rounds=1)


def test_a_site_that_has_spent_its_privacy_ends_the_run():
    recipe = Recipe(optimiser="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.2, batch_size=8)
    settings = {
        "trainer": RecordPrivacy(budget=1e-3, accountant="rdp"),
        "recipe": recipe,
        "make": pictures,
        "model": lambda: AttentionCNN(2, width=8, norm="group"),
    }
    told = []
    for how in (plainly, securely):
        with pytest.raises(PrivacyError, match="ends the run after round 0") as error:
            how(3, **settings)
        told.append(str(error.value))
    assert told[0] == told[1]


def plain_app(content):
    """A client app of one's own, whose reply is always this."""
    app = ClientApp(mods=[SecureAggregation()])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(content, reply_to=message)

    return app


def test_a_reply_without_arrays_tells_who_and_why_and_no_number():
    spent = RecordDict(
        {
            "metrics": MetricRecord({"num-examples": 24, "partition-id": 0}),
            "spent": ConfigRecord({"reason": "x"}),
        }
    )
    replies = serve(lambda grid, messages: grid_replies(grid, messages), app=plain_app(spent))
    assert {tuple(sorted(reply.content)) for reply in replies} == {("metrics", "spent")}
    assert all(dict(reply.content["metrics"]) == {"partition-id": 0} for reply in replies)


def test_arrays_under_another_name_do_not_leave_a_site():
    named = RecordDict(
        {"weights": to_record({"w": np.ones(3)}), "metrics": MetricRecord({"num-examples": 3})}
    )
    (reason,) = reasons(serve(lambda grid, messages: grid_replies(grid, messages), app=plain_app(named)))
    assert "its arrays are called 'weights'" in reason


def grid_replies(grid, messages):
    return list(SecureGrid(grid, None, 32).send_and_receive(messages(1)))


# --- who lies ----------------------------------------------------------------------------------------


def serve(task, wire=None, count=4, mods=(), app=None):
    """What a server app of one's own finds at the sites of a run with secure aggregation."""
    model, found = linear(), []
    names = exchanged_names(model)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        def messages(number: int) -> list[Message]:
            content = RecordDict(
                {
                    "arrays": to_record(get_arrays(model, names)),
                    "config": ConfigRecord({"server-round": number, "num-rounds": 5}),
                }
            )
            return [Message(content, node, MessageType.TRAIN) for node in grid.get_node_ids()]

        found.append(task(grid, messages))

    job = Job(model, RECIPE, 0, mods=mods or (wire or SecureAggregation(),))
    federation.run_local(server, app or client_app(job, sites(count).__getitem__), count)
    return found[0]


def reasons(replies) -> set[str]:
    return {reply.error.reason.strip().splitlines()[-1] for reply in replies if reply.has_error()}


@pytest.mark.survives(
    "A server leaves secure aggregation out, or sums a round twice over different hospitals",
    "The hospitals refuse",
)
def test_a_plain_question_is_refused():
    replies = serve(lambda grid, messages: grid.send_and_receive(messages(1)))
    (reason,) = reasons(replies)
    assert "asks for this site's own update" in reason
    assert all(reply.has_error() for reply in replies)


@pytest.mark.survives(
    'A server asks for "train.default", which Flower takes for "train", and a mod that waits for "train" not',
    "The hospitals refuse",
)
@pytest.mark.parametrize(
    "mod",
    [SecureAggregation(), NoiseShare(), ClipUpdate(), AddNoise(), federation.Quantise(), federation.TopK()],
    ids=lambda mod: type(mod).__name__,
)
def test_a_question_by_another_name_is_refused(mod):
    def ask(grid, messages):
        asked = [Message(m.content, m.metadata.dst_node_id, "train.default") for m in messages(1)]
        return grid.send_and_receive(asked)

    replies = serve(ask, mods=(mod,))
    (reason,) = reasons(replies)
    assert "the server asks for 'train.default', and this site answers to train" in reason
    assert all(reply.has_error() for reply in replies)


def test_a_node_of_a_deployment_answers_to_no_other_name():
    message = Message(RecordDict(), 1, "train.default")
    context = Context(1, 1, {"folder": "none"}, RecordDict(), {})
    with pytest.raises(FederationError, match=r"this site answers to train, evaluate, query only"):
        node.answer_from_folder(message, context)


def test_a_server_does_not_sum_answers_to_different_questions():
    def ask(grid, messages):
        asked = messages(1)
        content = RecordDict(dict(asked[0].content.items()))
        content["config"] = ConfigRecord({"server-round": 2, "num-rounds": 5})
        asked[0] = Message(content, asked[0].metadata.dst_node_id, MessageType.TRAIN)
        return list(SecureGrid(grid, None, 32).send_and_receive(asked))

    (reason,) = reasons(serve(ask))
    assert "not all sent the same arrays and config" in reason


class TwoFaced(SecureGrid):
    """A server that tells one site something else than the others, so that only this one learns anything."""

    def __init__(self, grid, lie):
        super().__init__(grid, None, 32, 64.0)
        self.lie = lie

    def carry(self, messages, timeout):
        if messages[0].content["secure"]["step"] == "mask":
            self.lie(self.grid, messages)
        return super().carry(messages, timeout)


def another_model(grid, messages):
    told = unbundled(messages[0].content)
    told["arrays"] = to_record({k: v + 1 for k, v in from_record(told["arrays"]).items()})
    messages[0].content["bundle"] = bundled(told)["bundle"]


def another_record(grid, messages):
    messages[0].content["standard"] = to_record({"sd": np.ones(3)})


def a_record_elsewhere(grid, messages):
    """The same record for all: in the bundle of one site, and beside that of the others."""
    for message in messages:
        told = unbundled(message.content)
        record = RecordDict({"standard": to_record({"sd": np.ones(3)})})
        if message is messages[0]:
            message.content["bundle"] = bundled(RecordDict({**told, **record}))["bundle"]
        else:
            message.content["standard"] = record["standard"]


def other_settings(grid, messages):
    """A SuperLink sends the run's settings to each node beside the messages."""
    grid.context(messages[0].metadata.dst_node_id).run_config = {"learning-rate": 1.0}


LIES = (another_model, another_record, a_record_elsewhere, other_settings)


@pytest.mark.survives(
    "A server tells one hospital another model, other means or other settings than the rest, whose updates "
    "would then be nothing",
    "The masks do not cancel, and there is no sum",
)
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
@pytest.mark.parametrize("reads", [True, False], ids=["sees the digests", "goes by one of them"])
def test_sites_that_were_not_told_the_same_have_no_sum(monkeypatch, lie, reads):
    """The masks of the one stay in the sum, so that it is beyond every limit, and says nothing."""
    if not reads:
        first = secure.grid.Session._question

        def of_the_first(session):
            masked = session.masked
            session.masked = dict(list(masked.items())[:1])
            question, session.masked = first(session), masked
            return question

        monkeypatch.setattr(secure.grid.Session, "_question", of_the_first)
    replies = serve(lambda grid, messages: list(TwoFaced(grid, lie).send_and_receive(messages(1))))
    (reason,) = reasons(replies)
    assert ("were not all told the same" if reads else "the mean of the updates is beyond limit=64") in reason
    assert len(replies) == 4


def test_a_training_and_a_statistic_are_not_the_same_question():
    """Or a mask of the one would take away the beginning of a mask of the other."""
    content, context = (
        RecordDict({"arrays": to_record({"w": np.ones(2)})}),
        Context(1, 1, {}, RecordDict(), {}),
    )
    train, query = (
        question_of(Message(content, dst_node_id=1, message_type=kind), context)
        for kind in (MessageType.TRAIN, MessageType.QUERY)
    )
    assert train != query


@pytest.mark.survives(
    "A hospital sends what is no update, which secure aggregation hides from the server",
    "If the mean is beyond the limit, the round has no sum and says so",
)
def test_a_mean_that_no_updates_have_is_refused():
    class Harmful(Meddling):
        def carry(self, messages, timeout):
            self.limit = 64.0
            return super().carry(messages, timeout)

    def add(step, number, content):
        if (step, number) == ("mask", 1):
            masked = np.array(from_record(content["arrays"])["masked"])
            masked[0, :5] += np.uint64(1 << 50)
            content["arrays"] = to_record({"masked": masked})

    replies = serve(lambda grid, messages: list(Harmful(grid, add).send_and_receive(messages(1))))
    (reason,) = reasons(replies)
    assert "the mean of the updates is beyond limit=64" in reason


def test_what_does_not_fit_is_refused_without_its_numbers():
    """The server reads the reason, and is not to know a site's examples or the size of its update."""
    for wire in (SecureAggregation(limit=1e-4), SecureAggregation(bits=48, limit=1e6)):
        found = serve(lambda grid, messages: grid_replies(grid, messages), wire=wire)
        told = {reply.error.reason.strip().splitlines()[-1] for reply in found}
        assert len(told) == 1  # sites of 24, 29, 34 and 39 rows, and updates of their own


def test_a_round_is_summed_once():
    def twice(grid, messages):
        return [list(SecureGrid(grid, None, 32).send_and_receive(messages(n))) for n in (2, 2, 1, 3)]

    first, again, earlier, later = serve(twice)
    assert not reasons(first)
    assert not reasons(later)
    for replies, number in ((again, 2), (earlier, 1)):
        (reason,) = reasons(replies)
        assert f"update of round {number} after that of round 2" in reason


def test_arrays_travel_as_one_and_come_out_to_the_byte():
    columns_first = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    records = {
        "arrays": to_record({"b": np.zeros((0, 2)), "a": columns_first}),
        "standard": to_record({"a": np.array(7)}),
        "none": to_record({}),
        "config": ConfigRecord({"server-round": 1}),
    }
    one = bundled(RecordDict(records))
    assert {name: list(record) for name, record in one.items()} == {
        "config": ["server-round"],
        "bundle": ["bundle"],
    }
    assert digest_of(asked_of(unbundled(one))) == digest_of(asked_of(RecordDict(records)))
    assert unbundled(RecordDict(records)) == RecordDict(records)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[",
        b"[1]",
        b"[" * 10**5,
        b'{"a": 1}',
        b'{"a": {"b": 1}}',
        b'{"a": {"b": [1, 2, 3, 0]}}',
        b'{"a": {"b": ["<f4", [1], "numpy.ndarray", 4]}}',
        b'{"a": {"b": ["|u1", [0], "numpy.ndarray", 0], "c": ["|u1", [9], "numpy.ndarray", -9]}}',
        b'{"bundle": {}}',
        b'{"standard": {}}',
    ],
    ids=lambda text: text[:50].decode(),
)
def test_a_bundle_that_is_none_is_refused(text):
    data = np.frombuffer(len(text).to_bytes(8) + text, np.uint8)
    with pytest.raises(PrivacyError, match=r"the server's arrays cannot be told apart"):
        unbundled(RecordDict({"bundle": to_record({"bundle": data}), "standard": to_record({})}))


def test_noise_that_would_come_after_the_masks_is_refused():
    """Whatever the server says of what is around it."""
    records = {
        "arrays": to_record({"w": np.zeros(2)}),
        "config": ConfigRecord({"server-round": 1}),
        "secure": ConfigRecord({"threshold": 99, "weighted": False}),
    }
    asked = Message(RecordDict(records), dst_node_id=1, message_type=MessageType.TRAIN)
    masked = RecordDict({"arrays": to_record({"masked": np.zeros((1, 2), np.uint64)})})
    context = Context(1, 1, {"partition-id": 0}, RecordDict(), {})
    with pytest.raises(PrivacyError, match="the reply is masked already, so noise comes too late"):
        NoiseShare()(asked, context, lambda *_: Message(masked, dst_node_id=1, message_type="train"))


def step(grid, messages, **record):
    """The replies to one step of a session, with records of the caller's making."""
    asked = []
    for message in messages:
        content = RecordDict({**dict(message.content.items()), "secure": ConfigRecord(record)})
        asked.append(Message(content, message.metadata.dst_node_id, MessageType.TRAIN))
    return grid.send_and_receive(asked)


def test_steps_of_another_session_or_of_none_are_refused():
    def ask(grid, messages):
        step(grid, messages(1), step="keys", session=b"one")
        return [
            step(grid, messages(1), step="reveal", session=b"another", survivors=[0, 1, 2]),
            step(grid, messages(1), step="reveal", session=b"one", survivors=[0, 1, 2]),
            step(grid, messages(1), step="peek", session=b"one"),
            step(grid, messages(1), step="keys"),
        ]

    found = [reasons(replies) for replies in serve(ask)]
    assert all(len(each) == 1 for each in found)
    told = ["no such session", "no such session", "'peek', which there is not", "holds no bytes 'session'"]
    for each, words in zip(found, told, strict=True):
        assert words in next(iter(each))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"mask": [b"x"]}, "mask key is not 32 bytes"),
        ({"mask": []}, "mask key is not 32 bytes"),
        ({"mask": "odd"}, "holds no list 'mask'"),
    ],
)
def test_a_list_of_keys_that_is_none_is_refused(changed, told):
    def ask(grid, messages):
        shown = step(grid, messages(1), step="keys", session=b"one")
        keys = [dict(reply.content["secure"]) for reply in shown]
        columns = {name: [each[name] for each in keys] for name in keys[0]}
        if changed["mask"] == [b"x"]:
            columns = {name: values[:1] for name, values in columns.items()}
        return step(grid, messages(1), step="deal", session=b"one", **columns | changed)

    (reason,) = reasons(serve(ask))
    assert told in reason


class Meddling(SecureGrid):
    """A server that changes what sites send on its way, by ``change(step, number, content)``."""

    def __init__(self, grid, change):
        super().__init__(grid, None, 32)
        self.change = change

    def carry(self, messages, timeout):
        replies = super().carry(messages, timeout)
        name = messages[0].content["secure"]["step"] if messages else "nobody was left"
        for number, reply in enumerate(replies.values()):
            if reply.has_content():
                self.change(name, number, reply.content)
        return replies


def spoil(name, at, number):
    def change(step, site, content):
        if (step, site) == (at, number):
            if name == "arrays":
                content["arrays"] = to_record({"masked": np.zeros(3, np.uint64)})
            elif name == "metrics":
                del content["metrics"]
            else:
                content["secure"] = ConfigRecord({**dict(content["secure"]), name: [b"odd"]})

    return change


@pytest.mark.parametrize(
    ("name", "at", "told"),
    [
        ("mask", "keys", "mask key is not 32 bytes"),
        ("sealed", "deal", "'sealed' are not one for each of 4 sites"),
        ("arrays", "mask", "masked vector has another size"),
        ("metrics", "mask", "holds no MetricRecord 'metrics'"),
    ],
)
def test_a_site_that_sends_nonsense_is_lost_and_the_others_are_summed(name, at, told):
    replies = serve(
        lambda grid, messages: list(Meddling(grid, spoil(name, at, 1)).send_and_receive(messages(1)))
    )
    (reason,) = reasons(replies)
    assert told in reason
    assert [reply.has_error() for reply in replies].count(False) == 3


LIAR = 2
"""The site that lies below."""


def lie(name):
    """What a hospital can send that the library does not: ``lie(step, number, content)`` for `Meddling`."""
    said = {
        "one key for both": ("keys", lambda told: {"seal": told["mask"]}),
        "a key of low order": ("keys", lambda told: {"seal": bytes(32)}),
        "long shares": ("deal", lambda told: {"sealed": [each and each + b"x" for each in told["sealed"]]}),
        "shares for itself": ("deal", lambda told: {"sealed": [bytes(82) for _ in told["sealed"]]}),
        "wrong shares": ("deal", lambda told: {"sealed": [each and bytes(82) for each in told["sealed"]]}),
        "one wrong share": ("deal", lambda told: {"sealed": [bytes(82), *told["sealed"][1:]]}),
    }
    at, changed = said[name]

    def change(step, number, content):
        if (step, number) == (at, LIAR):
            content["secure"] = ConfigRecord({**dict(content["secure"]), **changed(content["secure"])})

    return change


def lied_to(change):
    """The replies of four sites, by their nodes, of which one lies."""
    replies = serve(lambda grid, messages: list(Meddling(grid, change).send_and_receive(messages(1))))
    found = {reply.metadata.src_node_id: reply for reply in replies}
    return [found[node] for node in sorted(found)]


@pytest.mark.survives(
    "A hospital shows keys or deals shares with which no other would stay in a round of secure aggregation",
    "It is left out and told why, and the others are summed",
)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("one key for both", "its mask key is its seal key too"),
        ("a key of low order", "its seal key is none of X25519"),
        ("long shares", "'sealed' are not 82 bytes for each site"),
        ("shares for itself", "'sealed' are not 82 bytes for each site"),
    ],
)
def test_the_site_that_lies_is_lost_and_not_the_others(name, told):
    replies = lied_to(lie(name))
    assert [reply.has_error() for reply in replies] == [number == LIAR for number in range(4)]
    assert told in replies[LIAR].error.reason


def test_two_sites_with_one_key_are_lost_and_each_hears_of_the_other():
    """The server cannot tell whose the key is; the others would leave if it passed it on."""
    seals = {}

    def change(step, number, content):
        if step == "keys":
            seals[number] = content["secure"]["seal"]
            if number == LIAR:
                content["secure"] = ConfigRecord({**dict(content["secure"]), "mask": seals[0]})

    replies = serve(
        lambda grid, messages: list(Meddling(grid, change).send_and_receive(messages(1))), count=5
    )
    lost = {reply.metadata.src_node_id: reply.error.reason for reply in replies if reply.has_error()}
    assert len(lost) == 2
    for one, reason in lost.items():
        (other,) = lost.keys() - {one}
        assert f"it shows a key that node {other} shows too, and whose it is cannot be told" in reason


@pytest.mark.survives(
    "A hospital deals shares that cannot be opened, and the server cannot see into them",
    "Each hospital that got one says of which node it is",
)
@pytest.mark.parametrize(("name", "accusers"), [("wrong shares", (0, 1, 3)), ("one wrong share", (0,))])
def test_whoever_cannot_open_a_share_names_the_site_and_the_server_its_node(name, accusers):
    replies = lied_to(lie(name))
    accused = replies[LIAR].metadata.src_node_id
    for number in accusers:
        assert f"site number {LIAR} (node {accused}) sealed for this one" in replies[number].error.reason


def test_a_number_names_the_right_node_where_others_are_lost_before():
    """Numbers are of those that have shown keys, so that a lost one moves all after it."""

    def change(step, number, content):
        if (step, number) == ("keys", 0):
            content["secure"] = ConfigRecord({"mask": b"odd"})
        if (step, number) == ("deal", LIAR):  # of those that are left
            lie("one wrong share")(step, number, content)

    replies = serve(
        lambda grid, messages: list(Meddling(grid, change).send_and_receive(messages(1))), count=5
    )
    found = {reply.metadata.src_node_id: reply for reply in replies}
    ordered = sorted(found)
    assert f"site number {LIAR} (node {ordered[LIAR + 1]})" in found[ordered[1]].error.reason


def test_shares_that_are_nonsense_are_done_without():
    replies = serve(
        lambda grid, messages: list(
            Meddling(grid, spoil("shares", "reveal", 1)).send_and_receive(messages(1))
        )
    )
    assert not reasons(replies)


# --- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("FedMedian", {}),
        ("FedTrimmedMean", {}),
        ("Krum", {}),
        ("MultiKrum", {}),
        ("GeometricMedian", {}),
    ],
)
def test_rules_that_need_single_updates_are_refused(kind, settings):
    with pytest.raises(PrivacyError, match=f"aggregator={kind} needs the update of each site"):
        securely(aggregator=aggregation.by_name(kind, **settings))


def test_client_level_privacy_at_the_server_is_refused():
    with pytest.raises(PrivacyError, match="aggregator=ClientPrivacy needs the update of each"):
        securely(aggregator=ClientPrivacy())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: securely(2), "needs at least 3 sites and has 2: from a sum of two"),
        (lambda: securely(3, wire=SecureAggregation(threshold=2)), "threshold=2 is unsafe"),
        (lambda: securely(3, wire=SecureAggregation(threshold=4)), "choose 3 to 3"),
        (lambda: SecureAggregation(threshold=0), "threshold=0 is not allowed"),
        (lambda: NoiseShare(noise=-1.0), "noise=-1.0 is not allowed"),
        (lambda: NoiseShare(together=0), "together=0 is not allowed"),
        (lambda: SecureAggregation(bits=0), "bits=0 is not allowed"),
        (lambda: SecureAggregation(limit=-1.0), "limit=-1.0 is not allowed"),
        (lambda: securely(aggregator=FedAvg(equal_weights=True)), "give weighted=False"),
        (lambda: securely(wire=SecureAggregation(weighted=False)), "give weighted=True"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(make, told):
    with pytest.raises(PrivacyError, match=told) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wire", [SecureAggregation(limit=1e-4), SecureAggregation(bits=48, limit=1e6)])
def test_no_site_can_send_what_does_not_fit(wire):
    with pytest.raises(FederationError, match="no round had a usable reply"):
        securely(wire=wire, rounds=1)


def test_it_travels_with_the_job(tmp_path):
    wire = SecureAggregation(threshold=4, bits=20, told=("loss",))
    store_app(Job(linear(), RECIPE, 0, mods=(wire, NoiseShare(together=4))), tmp_path)
    assert load_app(tmp_path).mods == (wire, NoiseShare(together=4))
    answers = secure.statistics.SecureAnswers(7, wire)
    store_app(answers, tmp_path)
    assert load_app(tmp_path) == answers


# --- statistics --------------------------------------------------------------------------------------


MONTHS = np.arange(3.0, 43.0, 3.0)

TASKS = {
    "standardise": lambda hospitals: statistics.standardise(hospitals).table,
    "cox": lambda hospitals: statistics.cox(hospitals, grid=MONTHS).table,
    "breslow": lambda hospitals: statistics.cox(hospitals, grid=MONTHS, ties="breslow").table,
    "stratified": lambda hospitals: statistics.cox_stratified(hospitals).table,
    "kaplan_meier": lambda hospitals: statistics.kaplan_meier(hospitals, grid=MONTHS).table,
}


@pytest.mark.parametrize("name", TASKS)
def test_a_statistic_is_that_of_the_plain_sums(name):
    hospitals = dealt(drawn(300), count=4)
    one = secure.over_flower(hospitals, TASKS[name], minimum=1)
    other = statistics.over_flower(hospitals, TASKS[name], minimum=1)
    pd.testing.assert_frame_equal(one, other, rtol=1e-9, atol=1e-12)


def test_what_is_no_sum_is_not_asked_for():
    with pytest.raises(PrivacyError, match=r"'event times' is no sum over sites.*give a 'grid'"):
        secure.over_flower(dealt(drawn(90)), statistics.cox, minimum=1)


def test_a_statistic_needs_three_sites_and_all_of_them():
    with pytest.raises(PrivacyError, match="at least 3 sites and has 2"):
        secure.over_flower(dealt(drawn(90), count=2), TASKS["standardise"])

    small = dealt(drawn(90))
    small[1] = Site("site 1", small[1].train.take([0, 1]), small[1].validation, small[1].test)
    with pytest.raises(FederationError, match=r"^site 'site 1': .* below minimum=5"):
        secure.over_flower(small, TASKS["standardise"])


def test_a_site_refuses_a_sum_over_some_of_the_sites_it_was_told_of():
    """Two sums over different sites would differ by what one of them sent."""
    hospitals = dealt(drawn(120), count=4)
    found = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        nodes = list(grid.get_node_ids())[:3]
        behind = SecureAggregation().behind(grid)
        config = ConfigRecord({"statistic": "moments", "features": list(hospitals[0].train.feature_names)})
        content = RecordDict({"arrays": to_record({}), "config": config})
        asked = [Message(content, node, MessageType.QUERY) for node in nodes]
        found.extend(behind.send_and_receive(asked))

    app = secure.statistics.SecureAnswers().make_app(hospitals.__getitem__)
    federation.run_local(server, app, 4)
    (reason,) = reasons(found)
    assert "a statistic over 3 sites, and this node was told of 4" in reason


def moments_of_four(change) -> list[Message]:
    """What four sites reply of the moments of their tables, while ``change`` meddles with their messages."""
    hospitals, found = dealt(drawn(120), count=4), []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        config = ConfigRecord({"statistic": "moments", "features": list(hospitals[0].train.feature_names)})
        content = RecordDict({"arrays": to_record({}), "config": config})
        asked = [Message(content, node, MessageType.QUERY) for node in grid.get_node_ids()]
        found.extend(Meddling(grid, change).send_and_receive(asked))

    federation.run_local(server, secure.statistics.SecureAnswers().make_app(hospitals.__getitem__), 4)
    return found


def test_a_statistic_of_no_dimension_is_told_of_the_site_that_sent_it():
    def change(step, number, content):
        if (step, number) == ("mask", 1):
            content["arrays"] = to_record({"masked": np.array(7, np.uint64)})

    found = moments_of_four(change)
    (reason,) = reasons(found)
    assert "its masked vector has another size" in reason
    assert [reply.has_error() for reply in found].count(True) == 1


@pytest.mark.parametrize("lie", ["size", "form"])
def test_a_site_that_sums_other_arrays_than_the_rest_is_found_out(lie):
    def change(step, number, content):
        if (step, number) != ("mask", 1):
            return
        if lie == "size":
            content["arrays"] = to_record({"masked": np.zeros((2, 3), np.uint64)})
        else:
            content["secure"] = ConfigRecord({"step": "mask"})

    (reason,) = reasons(moments_of_four(change))
    assert "the sites have summed different arrays" in reason


# --- other engines; tests/federation/test_ray.py has Ray ----------------------------------------------


@pytest.mark.deployment
def test_over_tls_the_result_is_the_same_to_the_bit():
    settings = {"make": pictures, "model": small_cnn}
    deployed, local = securely(3, engine="deployment", **settings), securely(3, **settings)
    assert deployed.refused.empty
    assert deployed.hash == local.hash
    assert deployed.bytes_sent == local.bytes_sent
