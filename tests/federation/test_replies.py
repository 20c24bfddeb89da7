"""Whatever one site sends, the others go on, and what was not used is named with its reason."""

import pickle
import warnings
from io import BytesIO

import numpy as np
import pytest
from builders.liar import START, run_tiny, same_arrays, trained
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hemafl_lib.aggregation import FedAvg, FedMedian, FedTrimmedMean, Krum, MultiKrum
from hemafl_lib.errors import FederationError
from hemafl_lib.federation import from_record, to_record
from hemafl_lib.federation.casting import fitted
from hemafl_lib.federation.exchange import read_array, write_array
from hemafl_lib.federation.roster import Roster, Seat


def arrays(change):
    """A lie about the arrays: ``change`` takes those of the honest reply and returns others."""

    def lie(reply, number):
        reply.content["arrays"] = to_record(change(from_record(reply.content["arrays"])))

    return lie


def array(name, change):
    """A lie about one array."""
    return arrays(lambda honest: honest | {name: change(honest[name])})


def raw(data, dtype="float32", shape=(2, 3), stype="numpy.ndarray"):
    """A lie about the bytes of an array."""

    def lie(reply, number):
        reply.content["arrays"]["w"] = Array(dtype, shape, stype, data)

    return lie


def metric(name, value):
    """A lie about a metric; None leaves it out."""

    def lie(reply, number):
        metrics = {key: told for key, told in reply.content["metrics"].items() if key != name}
        reply.content["metrics"] = MetricRecord(metrics if value is None else metrics | {name: value})

    return lie


def record(name, value):
    """A lie by a whole record; None leaves it out."""

    def lie(reply, number):
        if value is None:
            del reply.content[name]
        else:
            reply.content[name] = value

    return lie


def npy(value, version=(1, 0)):
    file = BytesIO()
    np.lib.format.write_array(file, value, version=version, allow_pickle=True)
    return file.getvalue()


def head(text):
    """The bytes of an .npy file with this text in its head and 24 bytes of numbers."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(24)


def shape_head(shape):
    return head(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n")


HONEST = trained(START, 1)


@pytest.mark.parametrize("aggregator", [FedAvg(), FedMedian()], ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        pytest.param(
            array("w", lambda v: v.astype("U8")),
            "no numb",
            id="A hospital sends weights that are text",
            marks=pytest.mark.survives(
                "A hospital sends weights that are text",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("w", lambda v: v + 0j),
            "complex64",
            id="A hospital sends complex numbers",
            marks=pytest.mark.survives(
                "A hospital sends complex numbers",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("steps", lambda v: v + 0.5),
            "'steps' holds float64 numbers that int64 cannot hold exactly",
            id="A hospital sends fractions for a counter",
            marks=pytest.mark.survives(
                "A hospital sends fractions for a counter",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("w", lambda v: np.full(v.shape, 2**24 + 1)),
            "'w' holds int64 numbers that float32 cannot hold exactly",
            id="A hospital sends whole numbers that its weights' type cannot hold",
            marks=pytest.mark.survives(
                "A hospital sends whole numbers that its weights' type cannot hold",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("w", lambda v: v.astype(np.float64) * 1e39),
            "too large for float32",
            id="A hospital's weights overflow the type of the global model",
            marks=pytest.mark.survives(
                "A hospital's weights overflow the type of the global model",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("w", lambda v: v[:1]),
            "has shape (1, 3) instead of (2, 3)",
            id="A hospital sends weights in a shape that would broadcast",
            marks=pytest.mark.survives(
                "A hospital sends weights in a shape that would broadcast",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (array("steps", lambda v: v.reshape(1)), "has shape (1,) instead of ()"),
        pytest.param(
            arrays(lambda h: {"w": h["w"]}),
            "'steps' is missing",
            id="A hospital leaves out an array",
            marks=pytest.mark.survives(
                "A hospital leaves out an array",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            arrays(lambda h: h | {"x": h["w"]}),
            "'x' is unknown",
            id="A hospital sends an array too many",
            marks=pytest.mark.survives(
                "A hospital sends an array too many",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("w", lambda v: v * np.nan),
            "not finite",
            id="A hospital's weights are not finite",
            marks=pytest.mark.survives(
                "A hospital's weights are not finite",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        pytest.param(
            array("steps", lambda v: v * 0 + 2**62),
            "'steps' is a counter, and holds 4611686018427387904",
            id="A hospital's counter jumps, or turns negative",
            marks=pytest.mark.survives(
                "A hospital's counter jumps, or turns negative",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (array("steps", lambda v: v * 0 - 1), "'steps' is a counter, and holds -1"),
        pytest.param(
            raw(pickle.dumps(HONEST)),
            "not in the .npy format",
            id="A hospital sends a pickle for an array",
            marks=pytest.mark.survives(
                "A hospital sends a pickle for an array",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (raw(npy(np.array([[1, None]], dtype=object))), "'w' is damaged"),
        pytest.param(
            raw(npy(HONEST["w"])[:-1]),
            "'w' is damaged",
            id="A hospital's array is cut off",
            marks=pytest.mark.survives(
                "A hospital's array is cut off",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (raw(npy(HONEST["w"]) + b"more"), "'w' is damaged"),
        pytest.param(
            raw(shape_head("(10**15,)")),
            "'w' is damaged",
            id="An array's head promises more than there is, or more than any memory",
            marks=pytest.mark.survives(
                "An array's head promises more than there is, or more than any memory",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (raw(shape_head("(1000000000000000000, 3)")), "'w' is damaged"),
        (raw(shape_head("(0, 10000000000000000000000000000000000)")), "'w' is damaged"),
        (raw(shape_head("(-2, -3)")), "'w'"),
        (raw(head("(" * 5000)), "'w' is damaged"),
        (raw(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), "'w' is damaged"),
        (raw(b"PK\x03\x04" + bytes(40)), "not in the .npy format"),
        (raw(b""), "not in the .npy format"),
        (raw(npy(HONEST["w"]), stype="torch"), "not in the .npy format"),
        pytest.param(
            record("arrays", None),
            "holds no arrays",
            id="A hospital sends no arrays",
            marks=pytest.mark.survives(
                "A hospital sends no arrays",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (record("arrays", ConfigRecord({"w": 1})), "holds no arrays"),
        pytest.param(
            metric("num-examples", None),
            "does not say",
            id="A hospital does not say its number of patients",
            marks=pytest.mark.survives(
                "A hospital does not say its number of patients",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (record("metrics", None), "does not say its number of examples"),
        (record("metrics", ConfigRecord({"num-examples": 10})), "does not say its number of examples"),
        pytest.param(
            metric("num-examples", 1e300),
            "number of examples is 1e+300, not a whole number from 1 to 1,000,000,000",
            id="A hospital says that it has 1e300 patients, none, fewer than none or half a one",
            marks=pytest.mark.survives(
                "A hospital says that it has 1e300 patients, none, fewer than none or half a one",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (metric("num-examples", -3), "number of examples is -3"),
        (metric("num-examples", 0), "number of examples is 0"),
        (metric("num-examples", 10.5), "number of examples is 10.5"),
        (metric("num-examples", float("nan")), "'num-examples' is nan"),
        (metric("num-examples", [10, 10]), "'num-examples' is [10, 10]"),
        (metric("num-examples", 10**400), "'num-examples' is 1000"),
        pytest.param(
            metric("loss", float("nan")),
            "'loss' is nan",
            id="A hospital's metric is no number",
            marks=pytest.mark.survives(
                "A hospital's metric is no number",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (metric("loss", float("-inf")), "'loss' is -inf"),
        pytest.param(
            metric("loss", [0.5]),
            "'loss' is [0.5], not one number",
            id="A hospital's metric is a list",
            marks=pytest.mark.survives(
                "A hospital's metric is a list",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (metric("two\nlines", 1.0), "no short line of text"),
        pytest.param(
            metric("partition-id", float("nan")),
            "partition-id is nan",
            id="A hospital's number is NaN, a list, negative or beyond the last one",
            marks=pytest.mark.survives(
                "A hospital's number is NaN, a list, negative or beyond the last one",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (metric("partition-id", [1]), "partition-id is [1]"),
        (metric("partition-id", -1), "partition-id is -1"),
        (metric("partition-id", 10**5000), "a number of thousands of digits"),
        (metric("partition-id", 7), "says that its partition-id is 7, and it is 1"),
        pytest.param(
            metric("partition-id", 0),
            "says that its partition-id is 0, and it is 1",
            id="A hospital says that it is another one",
            marks=pytest.mark.survives(
                "A hospital says that it is another one",
                "its reply is refused under its own name; the other hospital's counts",
            ),
        ),
        (record("site", ConfigRecord({"name": 7})), "site's name 7"),
        (record("site", ConfigRecord({"name": ["site 1"]})), "site's name"),
        (record("site", ConfigRecord({"name": " "})), "site's name"),
        (record("site", ConfigRecord({"name": "x" * 1000})), "more than 100 characters"),
        pytest.param(
            record("spent", ConfigRecord({})),
            "gives no reason",
            id="A hospital says that its privacy budget is spent, without a reason",
            marks=pytest.mark.survives(
                "A hospital says that its privacy budget is spent, without a reason",
                "that reply is refused with its reason; the result is that of the others",
            ),
        ),
        (record("spent", ConfigRecord({"reason": 3})), "gives no reason"),
        (record("spent", MetricRecord({"reason": 3})), "gives no reason"),
    ],
)
def test_a_bad_reply_is_refused_and_the_result_is_that_of_the_others(lie, reason, aggregator):
    found = run_tiny(lie=lie, aggregator=aggregator, named=True)
    assert [row["site"] for row in found.refused] == ["site 1"]
    assert reason in found.refused[0]["reason"]
    assert "\n" not in found.refused[0]["reason"]
    assert same_arrays(found.current, run_tiny((0, 2, 3), aggregator=aggregator).current)
    assert {row["site"] for row in found.history} == {"site 0", "site 2", "site 3"}


@pytest.mark.survives(
    "A client app fails with pages of text, or with control codes for the terminal",
    "its last line is the reason, shortened and without the codes",
)
def test_a_failure_is_one_line():
    def fail(reply, number):
        raise RuntimeError("\x1b[31m\n" + "on fire " * 10_000)

    (row,) = run_tiny(lie=fail).refused
    assert row["site"] == "node 1001"
    assert row["reason"].startswith("the client failed: on fire on fire")
    assert len(row["reason"]) < 500
    assert row["reason"].isprintable()


# --- what is cast ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda v: v.astype(np.float64),
            id="float64",
            marks=pytest.mark.survives(
                "A hospital sends weights in half or double precision, or with other bytes first",
                "they are cast to the type of the global model, which stays",
            ),
        ),
        pytest.param(lambda v: v.astype(">f4"), id="big-endian"),
        pytest.param(np.asfortranarray, id="columns first"),
    ],
)
@pytest.mark.parametrize("liar", [0, 1])
def test_what_can_be_cast_without_loss_gives_the_same_bits(change, liar):
    assert same_arrays(run_tiny(lie=array("w", change), liar=liar).current, run_tiny().current)


@pytest.mark.survives(
    "The first hospital sends whole numbers for its weights",
    "they are taken if the model's type holds them exactly, and the model stays as precise as it was",
)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint64, np.float16])
def test_no_site_decides_the_type_of_the_global_model(dtype):
    ones = array("w", lambda v: np.ones(v.shape, dtype))
    found = run_tiny(lie=ones, liar=0, rounds=2)
    floats = run_tiny(lie=array("w", np.ones_like), liar=0, rounds=2)
    assert not found.refused
    assert same_arrays(found.current, floats.current)
    assert found.current["w"].dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint64])
def test_a_counter_in_another_type_stays_a_counter(dtype):
    found = run_tiny(lie=array("steps", lambda v: v.astype(dtype)))
    assert same_arrays(found.current, run_tiny().current)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_npy_format_is_read(version):
    honest = run_tiny().current
    found = run_tiny(
        lie=lambda reply, number: raw(npy(from_record(reply.content["arrays"])["w"], version))(reply, 1)
    )
    assert not found.refused
    assert same_arrays(found.current, honest)


@given(
    hnp.arrays(
        st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u8", "?", ">i4"]),
        hnp.array_shapes(min_dims=0, max_dims=2, max_side=3),
    ),
    st.sampled_from(["f2", "f4", "f8", "i4", "i8", "?"]),
)
@settings(max_examples=100, deadline=None)
def test_a_cast_keeps_the_numbers_or_is_refused(value, kind):
    try:
        found = fitted({"w": value}, {"w": np.zeros(value.shape, kind)})["w"]
    except FederationError:
        return
    assert found.dtype == kind
    assert np.isfinite(found).all()
    if value.dtype.kind == found.dtype.kind == "f":
        np.testing.assert_allclose(found.astype(float), value.astype(float), rtol=1e-3, atol=1e-7)
    else:
        assert [int(x) for x in found.ravel()] == [int(x) for x in value.ravel()]


def test_an_array_is_read_as_it_was_written():
    for value in (np.zeros((0, 3)), np.array(1.5), np.arange(6).reshape(2, 3).T, np.zeros(3, bool)):
        found = read_array("w", write_array(value))
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype


# --- metrics, norms --------------------------------------------------------------------------------


@pytest.mark.survives(
    "One hospital reports a metric that the others do not, or lacks one that they report",
    "its reply counts; the mean is of the metrics that all report",
)
@pytest.mark.parametrize("lie", [metric("auc", 0.9), metric("loss", None)])
def test_other_metrics_do_not_end_the_run(lie):
    found = run_tiny(lie=lie, evaluate=True, phase="evaluate", rounds=2)
    assert not found.refused
    assert same_arrays(found.current, run_tiny(rounds=2).current)


@pytest.mark.survives(
    "One of two hospitals sends an update a million times too long",
    "it is refused, and the other one's counts",
)
@pytest.mark.parametrize("liar", [0, 1])
def test_an_implausible_update_is_found_from_two_replies_on(liar):
    found = run_tiny((0, 1), array("w", lambda v: v * np.float32(1e6)), liar=liar, named=True)
    assert [row["site"] for row in found.refused] == [f"site {liar}"]
    assert "implausible" in found.refused[0]["reason"]
    assert same_arrays(found.current, run_tiny((1 - liar,)).current)


def test_of_two_a_small_update_does_not_make_the_other_implausible():
    still = array("w", lambda v: START["w"] + np.float32(1e-6))
    assert not run_tiny((0, 1), still).refused
    assert not run_tiny((0, 1), array("w", lambda v: START["w"])).refused


# --- who is who ------------------------------------------------------------------------------------


@pytest.mark.survives(
    "Two nodes are started with one partition-id, or with one site's name",
    "both are refused, each with the other's node in the reason",
)
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({7: Seat(0, "north"), 9: Seat(0, "south")}, "its partition-id 0 is also that of node {}"),
        ({7: Seat(0, "north"), 9: Seat(1, "north")}, "its site's name 'north' is also that of node {}"),
    ],
)
def test_two_nodes_that_say_the_same_are_both_refused(claims, reason):
    roster = roster_of(claims)
    wrong = roster.admit(claims | {8: Seat(2, "west")}, 3)
    assert list(wrong) == [7, 9]
    assert wrong[7].startswith(reason.format(9))
    assert wrong[9].startswith(reason.format(7))
    assert [roster.name(node) for node in (7, 8, 9)] == ["node 7", "west", "node 9"]


def test_who_is_known_keeps_the_name_and_the_newcomer_is_refused():
    roster = roster_of({7: Seat(0, "north"), 9: Seat()})
    assert roster.admit({7: Seat(0, "north")}, 2) == {}
    assert list(roster.admit({7: Seat(0, "north"), 9: Seat(1, "north")}, 2)) == [9]
    assert roster.admit({9: Seat(1, "south")}, 2) == {}
    assert roster.admit({9: Seat(1, "north")}, 2) == {9: "it says that it is site 'north', and it is 'south'"}
    assert roster.name(9) == "south"


@pytest.mark.survives(
    "A hospital's node is started anew and gets another number",
    "it goes on under its name, and the old node is not missed any more",
)
def test_a_hospital_may_come_back_on_another_node():
    roster = roster_of({7: Seat(0, "north"), 9: Seat(1, "south")})
    roster.admit({7: Seat(0, "north"), 9: Seat(1, "south")}, 2)
    assert roster.call([8, 9], None) == [7]
    assert roster.name(7) == "north"
    assert roster.admit({8: Seat(0, "north"), 9: Seat(1, "south")}, 2) == {}
    assert roster.call([8, 9], None) == []
    assert roster.name(8) == "north"


@pytest.mark.survives(
    "A node that has never answered goes away",
    "it is missed once, not in every later round",
)
def test_a_node_without_a_name_is_missed_once():
    roster = roster_of({7: Seat(0, "north"), 9: Seat()})
    roster.admit({7: Seat(0, "north")}, 2)
    assert [roster.call([7], None) for _ in range(3)] == [[9], [], []]


def roster_of(nodes):
    roster = Roster()
    roster.call(list(nodes), None)
    return roster


@pytest.mark.survives(
    "A hospital's reply does not come in time",
    "it is named among the refused, and the round goes on",
)
def test_a_reply_that_does_not_come_is_named():
    def lose(grid):
        send = grid.send_and_receive
        grid.send_and_receive = lambda messages, timeout: list(send(messages, timeout=timeout))[:-1]

    found = run_tiny(wrap=lose, named=True)
    assert [(row["site"], row["reason"]) for row in found.refused] == [("site 3", "no reply came in time")]
    assert same_arrays(found.current, run_tiny((0, 1, 2)).current)


def test_a_reply_in_another_nodes_name_fails():
    def pretend(reply, number):
        reply.metadata.__dict__["_src_node_id"] = 1000

    found = run_tiny(lie=pretend, named=True)
    assert [row["site"] for row in found.refused] == ["site 1"]
    assert same_arrays(found.current, run_tiny((0, 2, 3)).current)


# --- aggregators that withstand nobody -------------------------------------------------------------


@pytest.mark.survives(
    "A robust aggregator is chosen that withstands no liar among so few hospitals",
    "a warning says so once, and how many it takes",
)
@pytest.mark.parametrize(
    ("aggregator", "sentence"),
    [
        (FedTrimmedMean(0.2), r"FedTrimmedMean\(trim=0.2\) leaves out nobody of 4 sites .* at least 5 sites"),
        (MultiKrum(keep=4), r"MultiKrum\(keep=4\) leaves out nobody of 4 sites .* at least 5 sites"),
        (MultiKrum(), r"MultiKrum\(malicious=1\) promises nothing among 4 sites; give at least 5 sites"),
        (Krum(), r"Krum\(malicious=1\) promises nothing among 4 sites; give at least 5 sites"),
    ],
)
def test_an_aggregator_that_withstands_nobody_says_so_once(aggregator, sentence):
    with pytest.warns(UserWarning, match=sentence) as told:
        run_tiny(aggregator=aggregator, rounds=3)
    assert len(told) == 1


@pytest.mark.parametrize(
    "aggregator", [FedAvg(), FedTrimmedMean(0.25), FedTrimmedMean(0.0), Krum(malicious=0)]
)
def test_one_that_can_leave_out_a_site_says_nothing(aggregator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_tiny(aggregator=aggregator)


# --- anything at all -------------------------------------------------------------------------------

SCALARS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.lists(st.floats(), max_size=2))
NAMES = st.sampled_from(["w", "steps", "loss", "num-examples", "partition-id", "x"])
VALUES = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i2", "i8", "u1", "?", "c8", "U2", "M8[s]"]),
    st.one_of(st.just((2, 3)), st.just(()), hnp.array_shapes(max_dims=2, max_side=3)),
)
LIES = st.one_of(
    st.builds(metric, NAMES, SCALARS),
    st.builds(lambda name, value: array(name, lambda v: value), NAMES.filter(START.__contains__), VALUES),
    st.builds(raw, st.binary(max_size=200)),
    st.builds(lambda place, byte: raw(spoilt(place, byte)), st.integers(0, 100), st.integers(0, 255)),
    st.builds(
        record,
        st.sampled_from(["arrays", "metrics", "site", "refusal"]),
        st.one_of(
            st.none(),
            st.builds(lambda k, v: ConfigRecord({k: v}), st.sampled_from(["name", "reason"]), st.text()),
            st.builds(lambda k, v: MetricRecord({k: v}), NAMES, SCALARS),
            st.builds(lambda v: ArrayRecord({"w": Array(v)}), VALUES),
        ),
    ),
)


def spoilt(place, byte):
    data = bytearray(npy(HONEST["w"]))
    data[place % len(data)] = byte
    return bytes(data)


@given(st.lists(LIES, min_size=1, max_size=2))
@settings(max_examples=60, deadline=None)
def test_whatever_one_site_sends_the_run_ends_well(lies):
    """Either it is refused with a reason and the result is that of the others, or it is an honest number."""

    def lie(reply, number):
        for each in lies:
            each(reply, number)

    found = run_tiny(lie=lie, named=True)
    assert all(found.current[name].dtype == value.dtype for name, value in START.items())
    assert all(np.isfinite(value).all() for value in found.current.values())
    if found.refused:
        (row,) = found.refused
        assert row["site"] == "site 1"
        assert row["reason"].isprintable()
        assert same_arrays(found.current, WITHOUT.current)


WITHOUT = run_tiny((0, 2, 3))
