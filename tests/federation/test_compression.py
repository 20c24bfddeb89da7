"""Compressed updates: errors are bounded, what is lost is sent later, and bytes are as few as is said."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from builders.federated import linear, pictures, sites, small_cnn
from flwr.app import Context, Message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hemafl_lib import federation
from hemafl_lib.aggregation import by_name
from hemafl_lib.errors import FederationError
from hemafl_lib.federation import Quantise, TopK
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.compression import coded_arrays, ends_of
from hemafl_lib.federation.exchange import byte_count, exchanged_names, get_arrays, to_record
from hemafl_lib.federation.site_app import load_app, store_app
from hemafl_lib.federation.wire import flat, unflat
from hemafl_lib.models import AttentionCNN
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.training import Recipe

RECIPE = Recipe(optimiser="sgd", learning_rate=0.05, batch_size=8)
SETTINGS = {"recipe": RECIPE, "rounds": 3, "evaluate": False}
NUMBERS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-100, 100))
NEAREST = Quantise(rounding="nearest")


def draw(seed=0):
    return numpy_generator(seed, "test of a code")


def passed(wire, vector, ends=None, seed=0):
    """A vector as it comes out at the server."""
    ends = np.array([len(vector)]) if ends is None else ends
    return wire.read(wire.code(vector, ends, draw(seed)), ends)


@given(NUMBERS, st.sampled_from([NEAREST, Quantise()]))
def test_a_byte_is_off_by_a_step_at_most(vector, wire):
    step = (vector.max() - vector.min()) / 255
    allowed = step * (0.5 if wire is NEAREST else 1.0)
    assert np.abs(passed(wire, vector) - vector).max() <= allowed + 1e-5 * np.abs(vector).max() + 1e-30


def test_stochastic_rounding_is_right_on_average():
    vector = numpy_generator(0, "values").normal(size=200)
    step = (vector.max() - vector.min()) / 255
    mean = np.mean([passed(Quantise(), vector, seed=k) for k in range(400)], axis=0)
    assert np.abs(mean - vector).max() < 5 * (step / 2) / np.sqrt(400)
    assert not np.array_equal(passed(Quantise(), vector, seed=1), passed(Quantise(), vector, seed=2))


def test_every_array_has_its_own_steps():
    """An array of large numbers does not cost one of small ones its digits."""
    vector, ends = (
        np.concatenate([np.linspace(0, 1e-3, 50), np.linspace(0, 1e3, 50)]),
        np.array([50, 50, 100]),
    )
    assert np.abs(passed(NEAREST, vector, ends)[:50] - vector[:50]).max() < 2.1e-6


@given(NUMBERS, st.floats(0.01, 1.0))
def test_the_largest_numbers_are_sent_and_no_others(vector, share):
    found = passed(TopK(share=share), vector)
    count = int(np.ceil(share * len(vector)))
    lost = np.abs(vector)[(found == 0) & (np.abs(vector) > 1e-30)]  # float32 has none that are smaller
    assert (found != 0).sum() <= count
    assert lost.max(initial=0.0) <= np.sort(np.abs(vector))[-count] * (1 + 1e-6)
    np.testing.assert_allclose(found[found != 0], vector[found != 0], rtol=1e-6)


@given(st.lists(arrays(np.float64, 12, elements=st.floats(-10, 10)), min_size=1, max_size=6), st.booleans())
def test_with_feedback_everything_is_sent_in_the_end(updates, quantised):
    """What was sent and what is still kept add up to all updates."""
    wire = Quantise() if quantised else TopK(share=0.2)
    kept, sent = np.zeros(12), np.zeros(12)
    for number, update in enumerate(updates):
        whole = update + kept
        read = passed(wire, whole, seed=number)
        kept, sent = whole - read, sent + read
    np.testing.assert_allclose(sent + kept, np.sum(updates, axis=0), atol=1e-9)


# --- in a run ----------------------------------------------------------------------------------------


def compressed(wire, count=3, model=linear, make=None, **changes):
    made = sites(count, make) if make else sites(count)
    return federation.run_over(wire, made, model=model(), **{**SETTINGS, **changes})


def test_all_numbers_of_all_arrays_are_the_plain_run():
    """Then only float32's rounding is between them."""
    plain = federation.run(sites(3), model=linear(), **SETTINGS)
    whole = compressed(TopK(share=1.0))
    for name, value in plain.parameters.items():
        np.testing.assert_allclose(whole.parameters[name], value, atol=1e-6, err_msg=name)
    assert whole.refused.empty


def test_statistics_and_counters_travel_as_they_are():
    plain = federation.run(sites(3, pictures), model=small_cnn(), **{**SETTINGS, "rounds": 1})
    coded = compressed(TopK(share=0.01), model=small_cnn, make=pictures, rounds=1)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert np.array_equal(coded.parameters[name], plain.parameters[name])
    assert not np.array_equal(coded.parameters["0.weight"], plain.parameters["0.weight"])


@pytest.mark.parametrize(
    ("wire", "bytes_a_number"), [(Quantise(), 1), (TopK(share=0.05), 0.05 * 8), (TopK(share=0.5), 4)]
)
def test_bytes_are_as_few_as_is_said(wire, bytes_a_number):
    """Beside the heads of arrays, the few that travel whole, and the steps of each array."""
    model = AttentionCNN(8)
    start = get_arrays(model, exchanged_names(model))
    like = coded_arrays(start)
    coded = to_record(wire.code(flat(like), ends_of(like), draw()))
    size = flat(like).size
    assert byte_count(coded) == pytest.approx(bytes_a_number * size, abs=3 * 128 + 8 * len(like) + 8)
    plain = byte_count(to_record(like))
    assert plain / byte_count(coded) > {1: 3.7, 0.4: 9, 4: 0.9}[bytes_a_number]


def test_the_run_counts_what_has_travelled():
    plain = federation.run(sites(3), model=linear(), **SETTINGS)
    for wire in (Quantise(), TopK()):
        run = compressed(wire)
        counted, (down, up) = run.bytes_sent, halves(wire)
        assert counted == 3 * 3 * (down + up)
    assert plain.bytes_sent == 3 * 3 * 2 * down


def halves(wire):
    """Bytes to a site and back in one round."""
    model = linear()
    start = get_arrays(model, exchanged_names(model))
    like = coded_arrays(start)
    whole = to_record({name: value for name, value in start.items() if name not in like})
    coded = to_record(wire.code(flat(like), ends_of(like), draw()))
    return byte_count(to_record(start)), byte_count(whole) + byte_count(coded)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    assert compressed(Quantise()).hash == compressed(Quantise(), workers=1).hash
    assert compressed(Quantise()).hash != compressed(Quantise(seed=1)).hash
    assert compressed(NEAREST).hash == compressed(replace(NEAREST, seed=1)).hash


def test_feedback_keeps_at_the_site_what_was_not_sent():
    """In the second round a site also sends what the first has lost."""
    one, other = (compressed(TopK(share=0.1, feedback=on)) for on in (True, False))
    assert one.hash != other.hash
    first = [compressed(TopK(share=0.1, feedback=on), rounds=1).hash for on in (True, False)]
    assert first[0] == first[1]


@pytest.mark.parametrize("rule", ["FedMedian", "FedAdam", "Krum"])
def test_any_aggregator_reads_compressed_updates(rule):
    run = compressed(Quantise(), count=5, aggregator=by_name(rule))
    plain = federation.run(sites(5), model=linear(), aggregator=by_name(rule), **SETTINGS)
    assert run.refused.empty
    assert max(np.abs(run.parameters[k] - plain.parameters[k]).max() for k in plain.parameters) < 0.1


def test_a_model_of_nothing_that_can_be_coded_has_an_empty_code():
    none = np.zeros(0, np.int64)
    for wire in (Quantise(), TopK()):
        coded = wire.code(np.zeros(0), none, draw())
        assert wire.read(coded, none).shape == (0,)


def test_truth_values_and_counters_are_no_numbers_to_be_coded():
    arrays = {"mask": np.array([True]), "steps": np.array([3]), "weight": np.ones(2, np.float32)}
    assert list(coded_arrays(arrays)) == ["weight"]


@dataclass(frozen=True)
class Stale(Quantise):
    """A site whose state is that of a run of another model."""

    def __call__(self, message: Message, context: Context, call_next):
        context.state["not-sent"] = to_record({"update": np.zeros(1)})
        return super().__call__(message, context, call_next)


def test_what_another_model_left_is_not_added_to_an_update():
    with pytest.raises(FederationError, match="keeps 1 numbers of another model's updates"):
        compressed(Stale(), rounds=1)


# --- what is wrong -----------------------------------------------------------------------------------


class Odd(Quantise):
    """Sends a code that is none, from site 1."""

    def __call__(self, message: Message, context: Context, call_next):
        reply = super().__call__(message, context, call_next)
        if context.node_config["partition-id"] == 1:
            reply.content["coded"] = to_record({"levels": np.zeros(3, np.uint8)})
        return reply


def shuffled(coded):
    return {**coded, "places": coded["places"][::-1]}


def far(coded):
    return {**coded, "places": coded["places"] + np.uint32(1000)}


@pytest.mark.survives("A hospital's compressed update is damaged", "it is refused with the reason")
def test_a_code_that_cannot_be_read_is_refused():
    run = compressed(Odd(), rounds=1)
    assert run.refused["site"].tolist() == ["site 1"]
    assert "array 'lowest' is missing" in run.refused["reason"][0]


@pytest.mark.parametrize(
    "change", [shuffled, far, lambda coded: {**coded, "values": coded["values"] * np.nan}]
)
def test_places_and_values_that_cannot_be_are_refused(change):
    wire, ends, vector = TopK(share=0.5), np.array([10]), np.arange(10.0)
    coded = wire.code(vector, ends, draw())
    with pytest.raises(FederationError, match=r"not in order, or beyond|not finite"):
        wire.read(change(coded), ends)


def test_an_update_that_is_not_finite_is_refused():
    recipe = Recipe(optimiser="sgd", learning_rate=1e30, momentum=0.9, batch_size=4)
    with pytest.raises(FederationError, match=r"the client failed: array .+ is not finite"):
        compressed(Quantise(), recipe=recipe, rounds=1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TopK(share=0.0), "share=0.0 is not allowed"),
        (lambda: TopK(share=1.1), "share=1.1 is not allowed"),
        (lambda: Quantise(rounding="up"), "rounding='up' is unknown"),
    ],
)
def test_settings_out_of_range_are_one_sentence(make, told):
    with pytest.raises(FederationError, match=told):
        make()


def test_codes_travel_with_the_job(tmp_path):
    for wire in (Quantise(rounding="nearest", seed=3), TopK(share=0.25, feedback=False)):
        store_app(Job(linear(), RECIPE, 0, mods=(wire,)), tmp_path)
        assert load_app(tmp_path).mods == (wire,)


@given(st.lists(arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(0, 3))), max_size=4))
def test_end_to_end_and_back_are_the_same_arrays(parts):
    named = {f"a{k}": part for k, part in enumerate(parts)}
    again = unflat(flat(named), named)
    assert all(np.array_equal(again[name], named[name], equal_nan=True) for name in named)
