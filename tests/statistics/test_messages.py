"""No message is used before it was checked, and none is left out without a word."""

import numpy as np
import pandas as pd
import pytest
import torch
from builders.federated import PROVENANCE
from builders.federated import sites as labelled_sites
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib import statistics
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.local import LocalGrid
from hemafl_lib.federation.exchange import to_record
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.statistics.messages import Hospitals

GRID = np.arange(1.0, 13.0)


def patients(rows, seed):
    """A table of survival times in months."""
    generator = numpy_generator(seed, "patients")
    values = generator.normal(size=(rows, 2)).astype(np.float32)
    return TableCohort(
        features=torch.from_numpy(values),
        feature_names=("x0", "x1"),
        time=torch.from_numpy(np.ceil(generator.exponential(6, rows).clip(0.1, 12)).astype(np.float32)),
        event=torch.from_numpy(generator.random(rows) < 0.7),
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


SITES = [Site(f"site {k}", *[patients(25 + k, k)] * 3) for k in range(3)]
LABELLED = labelled_sites(3)

TASKS = {
    "moments": (SITES, lambda sites: statistics.standardise(sites).table),
    "event times": (SITES, lambda sites: statistics.cox(sites).table),
    "next full cell": (
        SITES,
        lambda sites: pd.DataFrame(statistics.agreed_grid(sites, GRID, minimum=1).times),
    ),
    "risk sums": (SITES, lambda sites: statistics.cox(sites, ties="breslow", grid=GRID).table),
    "risk and tie sums": (SITES, lambda sites: statistics.cox(sites).table),
    "local likelihood": (SITES, lambda sites: statistics.cox_stratified(sites).table),
    "logistic derivatives": (LABELLED, lambda sites: statistics.logistic(sites, ridge=1.0).table),
    "life table": (SITES, lambda sites: statistics.kaplan_meier(sites).table),
    "hazard sums": (SITES, lambda sites: statistics.baseline_hazard(sites, np.zeros(2), grid=GRID).table),
    "concordant pairs": (SITES, lambda sites: statistics.concordance(sites, np.ones(2)).table),
}
"""For each statistic sites, and a task that asks for it."""


def lying(sites, name, change):
    """The sites, of which the second answers one statistic, asked for the k-th time, as ``change`` says."""
    honest, asked = statistics.hospitals_of(sites, minimum=1), [0]

    def send(statistic, question):
        messages = honest.send(statistic, question)
        if statistic.name == name:
            asked[0] += 1
            messages[1] = change(dict(messages[1]), asked[0])
        return messages

    return Hospitals(honest.names, honest.features, send)


def part(name, change, since=1):
    """A lie about one array of a message, from the given question on."""
    return lambda message, asked: message | {name: change(message[name])} if asked >= since else message


@pytest.mark.parametrize(
    ("name", "lie", "reason"),
    [
        pytest.param(
            "life table",
            part("withdrawn", lambda v: v + 45000000 // len(v)),
            "and a hospital has at most 10,000,000",
            id="A hospital's life table counts 45 million patients",
            marks=pytest.mark.survives(
                "A hospital's life table counts 45 million patients",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("life table", part("deaths", lambda v: v + 2**62), "patients, and a hospital has at most"),
        pytest.param(
            "life table",
            part("deaths", lambda v: -v),
            "'deaths' counts -",
            id="A hospital tells a negative number of deaths",
            marks=pytest.mark.survives(
                "A hospital tells a negative number of deaths",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        pytest.param(
            "life table",
            part("deaths", lambda v: v + 0.5),
            "'deaths' holds float64 numbers that int64 cannot hold exactly",
            id="A hospital's count is a fraction, or text",
            marks=pytest.mark.survives(
                "A hospital's count is a fraction, or text",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("life table", part("deaths", lambda v: v.astype("U3")), "which are no numbers of int64"),
        ("life table", part("deaths", lambda v: v * np.nan), "'deaths' is not finite"),
        pytest.param(
            "life table",
            part("deaths", lambda v: v[:-1]),
            "instead of",
            id="A hospital's table has another length than was asked for",
            marks=pytest.mark.survives(
                "A hospital's table has another length than was asked for",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("life table", lambda message, asked: {}, "is missing"),
        ("life table", lambda message, asked: message | {"rows": np.ones(3)}, "array 'rows' is unknown"),
        ("life table", part("suppressed", lambda v: v + 7), "none was to be suppressed"),
        pytest.param(
            "life table",
            part("deaths", np.zeros_like),
            "'deaths' are not at the times of death that it has named",
            id="A hospital's deaths are not at the times that it has named before",
            marks=pytest.mark.survives(
                "A hospital's deaths are not at the times that it has named before",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        pytest.param(
            "event times",
            part("times", lambda v: -v),
            "it names the time -",
            id="A hospital's times of death are negative, missing or do not rise",
            marks=pytest.mark.survives(
                "A hospital's times of death are negative, missing or do not rise",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("event times", part("times", lambda v: v[::-1]), "do not rise"),
        ("event times", part("times", lambda v: v * np.nan), "'times' is not finite"),
        ("event times", part("times", lambda v: v * 1e200), "'times' is as large as"),
        ("event times", part("times", lambda v: v[:, None]), "has shape"),
        ("next full cell", part("until", lambda v: v - 0.5), "no later candidate"),
        ("next full cell", part("until", lambda v: v * np.nan), "no later candidate"),
        pytest.param(
            "moments",
            part("count", lambda v: v + 1000),
            "'count' is more than the site's 'rows'",
            id="More values of a feature than patients",
            marks=pytest.mark.survives(
                "More values of a feature than patients",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("moments", part("rows", lambda v: v * 0), "it counts no patients"),
        ("moments", part("squares", lambda v: -v), "'squares' is negative"),
        ("moments", part("sum", lambda v: v + 1000000.0), "'sum' is larger than the sums beside it allow"),
        ("moments", part("squares", lambda v: v * 1e200), "'squares' is as large as"),
        pytest.param(
            "risk sums",
            part("deaths", lambda v: v + 30),
            "'deaths' are more than the patients who leave the risk set",
            id="A hospital tells more deaths than it has patients at risk",
            marks=pytest.mark.survives(
                "A hospital tells more deaths than it has patients at risk",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        pytest.param(
            "risk sums",
            part("risk0", lambda v: v[::-1]),
            "'risk0' grows",
            id="A hospital's patients at risk become more with time",
            marks=pytest.mark.survives(
                "A hospital's patients at risk become more with time",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("risk sums", part("risk0", lambda v: v + 0.25), "'risk0' is no number of patients"),
        ("risk sums", part("risk0", lambda v: -v), "'risk0' is negative"),
        ("risk sums", part("risk0", lambda v: v * 1000000000000.0), "patients are at risk"),
        ("risk sums", part("risk1", lambda v: v + 1000.0), "'risk1' is larger than the sums beside it allow"),
        (
            "risk sums",
            part("risk2", lambda v: v + np.array([0, 1000.0, 0])),
            "'risk2' has a negative eigenvalue",
        ),
        ("risk sums", part("died", lambda v: v + 1e200), "'died' is as large as"),
        pytest.param(
            "risk sums",
            part("deaths", lambda v: np.roll(v, 1), since=2),
            "'deaths' differs from what it has said",
            id="A hospital contradicts the number of deaths that it told in an earlier message",
            marks=pytest.mark.survives(
                "A hospital contradicts the number of deaths that it told in an earlier message",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        pytest.param(
            "risk sums",
            part("risk0", lambda v: v * np.nan, since=3),
            "'risk0' is not finite",
            id="A hospital's sums are NaN in the midst of a fit",
            marks=pytest.mark.survives(
                "A hospital's sums are NaN in the midst of a fit",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("risk and tie sums", part("tied0", lambda v: v * 1.5), "does not count|is more than"),
        ("risk and tie sums", part("tied1", lambda v: v + 1000.0), "'tied1' is larger"),
        ("risk and tie sums", part("tied0", lambda v: v + 1000000.0), "'tied0' is more than 'risk0'"),
        ("risk and tie sums", part("tied0", lambda v: -v), "is negative"),
        pytest.param(
            "local likelihood",
            part("information", lambda v: v + np.array([[0, 1], [-1, 0]]) * v.max()),
            "'information' is not symmetric",
            id="A hospital's information matrix is not symmetric",
            marks=pytest.mark.survives(
                "A hospital's information matrix is not symmetric",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        pytest.param(
            "local likelihood",
            part("information", lambda v: -v),
            "'information' has a negative eigenvalue",
            id="A hospital's information matrix is not positive",
            marks=pytest.mark.survives(
                "A hospital's information matrix is not positive",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("local likelihood", part("information", lambda v: v * 0 + 1 - np.eye(2)), "diagonal of 0"),
        ("local likelihood", part("value", lambda v: -v), "'value' is above 0"),
        ("local likelihood", part("gradient", lambda v: v + 1e200), "'gradient' is as large as"),
        ("logistic derivatives", part("information", lambda v: v * 1.1), "it is of no number of patients"),
        ("logistic derivatives", part("information", lambda v: v * 1000000000.0), "it counts"),
        ("logistic derivatives", part("information", lambda v: v * 2, since=2), "'information' grows"),
        ("logistic derivatives", part("value", lambda v: v - 1), "'value' is not that of its patients"),
        ("logistic derivatives", part("gradient", lambda v: v + 1000000.0), "'gradient' is larger"),
        ("hazard sums", part("risk0", lambda v: v[::-1]), "'risk0' grows"),
        ("hazard sums", part("deaths", lambda v: v + 30), "'deaths' are more"),
        pytest.param(
            "concordant pairs",
            part("comparable", lambda v: v * 100),
            "patients have fewer pairs",
            id="A hospital puts more pairs in order than it has patients for",
            marks=pytest.mark.survives(
                "A hospital puts more pairs in order than it has patients for",
                "an error names the hospital and why; nothing is estimated without it",
            ),
        ),
        ("concordant pairs", part("concordant", lambda v: v * 0 - 1), "less than 0 pairs"),
        ("concordant pairs", part("tied", lambda v: v + 300), "more pairs are in order than can be compared"),
    ],
)
def test_a_message_that_no_patients_could_give_is_an_error_that_names_the_site(name, lie, reason):
    sites, task = TASKS[name]
    with pytest.raises(
        FederationError, match=rf"^site 'site 1': its message '{name}' .*(?:{reason})"
    ) as found:
        task(lying(sites, name, lie))
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("mend it there or leave the site out.")


@pytest.mark.parametrize("name", TASKS)
def test_an_honest_message_passes_in_other_types_too(name):
    """Where nothing is lost: whole numbers as floats, floats with other bytes first."""
    sites, task = TASKS[name]

    def retyped(message, asked):
        return {key: value.astype(">f8") for key, value in message.items()}

    pd.testing.assert_frame_equal(
        task(lying(sites, name, retyped)), task(statistics.hospitals_of(sites, 1)), check_exact=True
    )


CHANGES = {
    "larger": lambda v, k: v * (1 + k),
    "more": lambda v, k: v + k,
    "negative": lambda v, k: -v,
    "reversed": lambda v, k: v[::-1] if v.ndim else v,
    "not finite": lambda v, k: v * np.nan,
    "infinite": lambda v, k: v + np.inf,
    "shorter": lambda v, k: v.ravel()[: max(0, v.size - 1)],
    "text": lambda v, k: v.astype("U5"),
    "complex": lambda v, k: v * 1j,
    "one": lambda v, k: np.ones_like(v),
    "nothing": lambda v, k: np.zeros_like(v),
    "random": lambda v, k: np.sin(np.arange(v.size) + k).reshape(v.shape),
}


@given(
    st.sampled_from(sorted(TASKS)),
    st.integers(0, 7),
    st.sampled_from(sorted(CHANGES)),
    st.one_of(st.integers(-5, 10**9), st.sampled_from([1e-3, 1e30, 1e300])),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_whatever_one_site_says_there_is_a_finite_result_or_one_sentence(name, place, change, size, since):
    sites, task = TASKS[name]

    def lie(message, asked):
        if asked < since:
            return message
        key = list(message)[place % len(message)]
        with np.errstate(all="ignore"):
            return message | {key: np.asarray(CHANGES[change](message[key], size))}

    sentence = None
    try:
        found = task(lying(sites, name, lie))
    except FederationError as error:
        sentence = str(error)
    if sentence is None:
        assert not np.isinf(found.to_numpy(dtype=float)).any()
    else:
        assert sentence.isprintable()


# --- over Flower -----------------------------------------------------------------------------------


def over_flower(change, count=3):
    """A life table over the local engine, where the node of site 1 changes its reply."""
    app = statistics.query_app(SITES.__getitem__, minimum=1)

    def answer(message, context):
        reply = app(message, context)
        if context.node_config["partition-id"] == 1:
            change(reply)
        return reply

    grid = LocalGrid(answer, count)
    names = [site.name for site in SITES[:count]]
    try:
        return statistics.kaplan_meier(statistics.hospitals_behind(grid, names, ("x0", "x1")))
    finally:
        grid.close()


def put(name, value):
    return lambda reply: reply.content.__setitem__(name, value)


def fail(reply):
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (fail, "site 'site 1': the client failed: OSError: the disk is gone; mend it there"),
        (put("arrays", ConfigRecord({})), "site 'site 1': it holds no arrays"),
        (put("arrays", ArrayRecord()), "site 'site 1': its message 'event times' cannot be used"),
        (put("metrics", MetricRecord({"partition-id": 0})), "its partition-id is 0, and it is 1"),
        (put("metrics", MetricRecord({"partition-id": [0]})), r"its partition-id is \[0\]"),
        (put("site", ConfigRecord({"name": "site 0"})), "says that it is site 'site 0', and it is 'site 1'"),
        (put("refusal", ConfigRecord({})), "says 'refusal', and gives no reason"),
        (put("refusal", ConfigRecord({"reason": "No.\nsite 'site 0': lies"})), "^site 'site 1': "),
        (put("arrays", to_record({"times": np.array([np.nan])})), "'times' is not finite"),
    ],
)
def test_over_flower_a_site_is_named_by_the_node_that_was_asked(change, sentence):
    with pytest.raises(FederationError, match=sentence) as found:
        over_flower(change)
    assert str(found.value).startswith("site 'site 1': ")
    assert "\n" not in str(found.value)


@pytest.mark.survives(
    "Two nodes with one partition-id answer a statistic",
    "an error names both nodes; nothing is counted twice",
)
def test_a_site_is_never_counted_twice():
    def same_number(reply):
        reply.content["metrics"]["partition-id"] = 0
        reply.content["site"]["name"] = "site 0"

    class Unknown(LocalGrid):
        def site_numbers(self):
            return {}

    app = statistics.query_app(SITES.__getitem__, minimum=1)

    def answer(message, context):
        reply = app(message, context)
        if context.node_config["partition-id"] == 1:
            same_number(reply)
        return reply

    grid = Unknown(answer, 3)
    try:
        hospitals = statistics.hospitals_behind(grid, [site.name for site in SITES], ("x0", "x1"))
        with pytest.raises(FederationError, match="node 1000: its partition-id 0 is also that of node 1001"):
            statistics.kaplan_meier(hospitals)
    finally:
        grid.close()
