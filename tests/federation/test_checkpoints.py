"""A checkpoint knows the run that it belongs to, and whatever else a file holds is one sentence."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.federated import linear, sites, table
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from hemafl_lib import federation
from hemafl_lib.aggregation import FedAdam, FedAvg, FedMedian
from hemafl_lib.errors import DataError, FederationError, HemaflError
from hemafl_lib.federation import Trainer, checkpoint
from hemafl_lib.federation.fingerprint import content_hash
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe

RECIPE = Recipe(learning_rate=0.05, batch_size=8)


def train(path, **changes):
    """Two rounds at two sites, kept at ``path``."""
    arguments = {"model": linear(), "recipe": RECIPE, "rounds": 2, "aggregator": FedAdam(learning_rate=0.1)}
    arguments |= {"sites": sites(2), **changes}
    return federation.run(arguments.pop("sites"), checkpoint=path, **arguments)


def with_train(change) -> list[Site]:
    """The sites of `train`, the second with other training rows of the same number."""
    first, second = sites(2)
    return [first, dataclasses.replace(second, train=change(second.train))]


def flipped(cohort):
    return dataclasses.replace(cohort, label=1 - cohort.label)


def nudged(cohort):
    features = cohort.features.clone()
    features[3, 2] = torch.nextafter(features[3, 2], torch.tensor(9.0))
    return dataclasses.replace(cohort, features=features)


# --- whose it is -----------------------------------------------------------------------------------


@pytest.mark.survives(
    "A checkpoint of other patients, labels, split or order of rows, of the same number and name",
    "It is refused, and the sentence names the hospital whose data differ",
)
@pytest.mark.parametrize(
    "change",
    [flipped, nudged, lambda cohort: cohort.take(list(range(len(cohort)))[::-1]), lambda _: table(29, 7)],
)
def test_a_checkpoint_of_other_data_is_refused(tmp_path, change):
    path = tmp_path / "run"
    train(path)
    with pytest.raises(
        FederationError, match=r"differs in the data of site 'site 1'; name another file"
    ) as refused:
        train(path, sites=with_train(change))
    assert "site 0" not in str(refused.value)


@pytest.mark.survives(
    "A checkpoint of other validation patients",
    "It is refused, since the history would mix two sets of patients",
)
def test_a_checkpoint_of_other_validation_rows_is_refused(tmp_path):
    path = tmp_path / "run"
    train(path)
    first, second = sites(2)
    with pytest.raises(FederationError, match="the data of site 'site 0'"):
        train(path, sites=[dataclasses.replace(first, validation=flipped(first.validation)), second])


def test_what_data_are_called_does_not_matter_and_their_order_among_sites_does(tmp_path):
    path = tmp_path / "run"
    whole = train(path)
    renamed = [
        dataclasses.replace(site, train=dataclasses.replace(site.train, provenance=other))
        for site in sites(2)
        for other in [dataclasses.replace(site.train.provenance, licence="another")]
    ]
    assert train(path, sites=renamed).hash == whole.hash
    with pytest.raises(FederationError, match="the names of the sites"):
        train(path, sites=sites(2)[::-1])


@dataclasses.dataclass(frozen=True)
class Mean(FedAvg):
    """The same settings under another name."""


@dataclasses.dataclass(frozen=True)
class Twice(Trainer):
    """The same settings under another name."""


@pytest.mark.survives(
    "A checkpoint of another seed, recipe, model, aggregator, trainer or number of rounds",
    "It is refused, and the sentence says which of them differs",
)
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seed": 5}, "seed"),
        ({"rounds": 3}, "rounds"),
        ({"recipe": Recipe(learning_rate=0.1, batch_size=8)}, "recipe.learning_rate"),
        ({"aggregator": FedAdam(learning_rate=0.2)}, "the aggregator"),
        ({"aggregator": FedAvg()}, "the aggregator"),
        ({"trainer": Twice()}, "the trainer"),
        ({"model": linear(1)}, "the model"),
        ({"model": linear().requires_grad_(False)}, "the model"),
        ({"keep_local": r"^0\."}, "keep_local"),
        ({"optimise_buffers": True}, "optimise_buffers"),
        ({"evaluate": False}, "evaluate"),
        ({"monitor": {"pooled": table(9, 1)}}, "the monitored cohort 'pooled'"),
        ({"seed": 5, "rounds": 3, "evaluate": False, "keep_local": "x"}, "seed, keep_local, rounds, 1 more"),
    ],
)
def test_a_checkpoint_of_another_run_says_what_differs(tmp_path, change, part):
    path = tmp_path / "run"
    train(path)
    before = path.read_bytes()
    with pytest.raises(FederationError, match=f"which differs in {part}; name another file, or delete it"):
        train(path, **change)
    assert path.read_bytes() == before


def test_equal_settings_of_another_class_differ():
    assert content_hash(FedAvg(), "it") != content_hash(Mean(), "it")
    assert content_hash(FedAvg(), "it") != content_hash(FedMedian(), "it")


class Pulled(FedAvg):
    """An aggregator that is no dataclass of its own and holds something that its ``repr`` does not show."""

    def __init__(self, pull):
        super().__init__()
        object.__setattr__(self, "pull", pull)


def test_what_an_aggregator_holds_counts_and_what_could_not_be_known_again_is_refused(tmp_path):
    path = tmp_path / "run"
    train(path, aggregator=Pulled(0.1))
    with pytest.raises(FederationError, match="differs in the aggregator"):
        train(path, aggregator=Pulled(0.2))
    with pytest.raises(FederationError, match=r"know the aggregator again.*frozen dataclass"):
        train(tmp_path / "other", aggregator=Pulled(lambda weights: weights))


# --- what else a file may be -----------------------------------------------------------------------


def rewritten(path: Path, change=lambda head: None, tensors=lambda held: held, honest: bool = True) -> None:
    """Write a checkpoint again after a change, with a checksum that fits if ``honest``."""
    with safe_open(path, framework="np") as file:
        described = file.metadata()
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    head = json.loads(described["checkpoint"])
    changed = change(head)
    head = head if changed is None else changed
    text, held = head if isinstance(head, str) else json.dumps(head), tensors(held)
    seal = checkpoint.checksum(text, held) if honest else described["checksum"]
    save_file(held, path, metadata={"checkpoint": text, "checksum": seal})


@pytest.mark.survives(
    "A checkpoint written by an older or newer version of the library",
    "It is refused with both formats named, and nothing is overwritten",
)
@pytest.mark.parametrize(("found", "age"), [(None, "older"), (1, "older"), (3, "newer")])
def test_a_checkpoint_of_another_format_is_refused(tmp_path, found, age):
    path = tmp_path / "run"
    train(path)

    def change(head):
        head.pop("format")
        head |= {} if found is None else {"format": found}

    rewritten(path, change)
    with pytest.raises(
        FederationError, match=rf"{age} version of hemafl_lib \(format {found or 1} instead of 2\)"
    ):
        train(path)


def drop_global(held):
    return {name: value for name, value in held.items() if name != "global|1.bias"}


def drop_server(held):
    return {name: value for name, value in held.items() if not name.startswith("server|second")}


def reshaped(held):
    return held | {"global|1.bias": np.zeros((1, 2), np.float32)}


@pytest.mark.survives(
    "A damaged or forged checkpoint: cut, other arrays, wrong types, a round that never was",
    "One sentence names the file and the remedy; the run does not start from it",
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"tensors": drop_global},
        {"tensors": drop_server},
        {"tensors": reshaped},
        {"tensors": lambda held: {k: np.asarray(v + 1) for k, v in held.items()}, "honest": False},
        *(
            {"change": lambda head, name=name, value=value: head | {name: value}}
            for name, value in [
                ("round", float("nan")),
                ("round", "1"),
                ("round", -1),
                ("round", 10**30),
                ("round", 1.0),
                ("parts", []),
                ("history", [[]]),
                ("history", [{"round": 1, "phase": "train", "site": "a", "metric": "loss", "value": "low"}]),
                ("refused", {"a": 1}),
                ("plain", {"nobody": {}}),
                ("plain", {"0": {"metric": {"spent": {"steps": {"a": [[]]}}}}}),
                ("aggregated_rounds", 3),
                ("has_server_state", False),
                ("format", None),
                ("extra", 1),
            ]
        ),
        {"change": lambda head: []},
        {"change": lambda head: "[" * 100_000},
        {"change": lambda head: '{"format": 2, "parts": ' + "[" * 100_000},
        {"change": lambda head: "9" * 10_000},
    ],
)
def test_a_forged_checkpoint_is_one_sentence(tmp_path, arguments):
    path = tmp_path / "run"
    train(path)
    rewritten(path, **arguments)
    with pytest.raises(FederationError, match="run is damaged") as refused:
        train(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_history_without_a_number_comes_back(tmp_path):
    """A metric may be NaN, for example where one class is missing."""
    path = tmp_path / "run"
    whole = train(path)
    rewritten(path, lambda head: head["history"][0].update(value=float("nan")))
    assert np.isnan(train(path).history["value"][0])
    assert train(path).hash == whole.hash


@pytest.mark.survives(
    "A table of patients named as the checkpoint by mistake",
    "It is left as it is, and the sentence says to name another file",
)
def test_another_file_in_the_place_of_a_checkpoint_stays(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("patient,age\n1,60\n")
    with pytest.raises(FederationError, match=r"is something else .* name another file"):
        train(path)
    assert path.read_text() == "patient,age\n1,60\n"
    with pytest.raises(DataError, match="is a folder"):
        train(tmp_path)


def written(tmp_path_factory) -> Path:
    """The checkpoint of `train`."""
    path = tmp_path_factory.getbasetemp() / "written"
    if not path.exists():
        train(path)
    return path


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_change_of_bytes_is_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    content = bytearray(written(tmp_path_factory).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([None, 0, 7, 8, 100, len(content) - 1]))])
    assume(path.read_bytes() != written(tmp_path_factory).read_bytes())
    with pytest.raises(HemaflError) as refused:
        train(path)
    assert "\n" not in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(set(checkpoint.Head.__annotations__) - {"parts"})), value=JSON)
@settings(max_examples=80, deadline=None)
def test_any_json_in_the_place_of_a_part_is_the_right_result_or_one_sentence(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "forged"
    path.write_bytes(written(tmp_path_factory).read_bytes())
    whole = train(path)
    rewritten(path, lambda head: head | {name: value})
    outcome = outcome_of(path)
    assert outcome == whole.hash or name in ("round", "plain") or outcome.startswith("checkpoint")
    assert "\n" not in outcome


def outcome_of(path) -> str:
    """The hash of a run that goes on from a file, or the error that it ends with."""
    try:
        return train(path).hash
    except HemaflError as error:
        return str(error)
