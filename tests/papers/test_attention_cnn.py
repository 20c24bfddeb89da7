"""Chapter 2's experiment: what is compared with what, on which images, and that nothing is stale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders.command import run_by_command

from hemafl_book.papers import attention_cnn, confidence, nuclei
from hemafl_book.papers.arms import Prediction
from hemafl_book.papers.changes import Changes
from hemafl_book.papers.where import Where
from hemafl_book.results import Results, load, stale
from hemafl_book.show import results
from hemafl_lib import partition
from hemafl_lib.data import smear
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import image_model

PROTOCOL = attention_cnn.protocol
QUIET = Where(progress=False)


def tiny_protocol(*_: object, **__: object) -> attention_cnn.Protocol:
    """Two numbers of clients, one round, a few small smears."""
    asked = PROTOCOL("quick", "smear")
    first = replace(asked.studies[0], rounds=1, seeds=(0, 1))
    second = replace(first, title="2 clients", clients=2, arms=(attention_cnn.FEDERATED,))
    pairs = ((first.title, second.title),)
    return replace(asked, size=16, cells=420, studies=(first, second), pairs=pairs, explained=1)


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    return attention_cnn.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def images():
    return attention_cnn.smears(tiny_protocol())


def row_keys(cohort) -> list[bytes]:
    return [image.numpy().tobytes() for image in cohort.images]


def test_every_accuracy_stands_beside_its_baselines(tiny_results):
    scores = tiny_results.tables["3 clients: scores"].query("where == 'joint'")
    expected = {
        *(f"isolated: site-{number}" for number in (1, 2, 3)),
        "FedAvg",
        "centralised",
        "colour alone, logistic regression",
        "colour alone, random forest",
        "commonest class",
    }
    assert set(scores["arm"]) == expected
    assert scores.groupby("arm")["seed"].nunique().eq(2).all()


def test_any_number_of_clients_shares_one_test_set(images):
    study = tiny_protocol().studies[0]
    few, many = (
        attention_cnn.judged_cohorts(
            attention_cnn.client_sites(images, replace(study, clients=count), seed=3)
        )
        for count in (2, 3)
    )
    for part in ("joint", "validation"):
        assert row_keys(few[part]) == row_keys(many[part])
    assert not set(row_keys(few["joint"])) & set(row_keys(few["validation"]))


def test_models_of_two_studies_are_compared_image_by_image(tiny_results):
    pairs = tiny_results.tables["pairs"]
    assert len(pairs) == 2
    gap = (pairs["first accuracy"] - pairs["second accuracy"]) * pairs["images"]
    np.testing.assert_allclose(gap, pairs["only first right"] - pairs["only second right"], atol=1e-9)
    for place in ("first", "second"):
        for row in pairs.to_dict("records"):
            scores = tiny_results.tables[f"{row[place]}: scores"]
            found = scores.query("arm == 'FedAvg' and where == 'joint' and seed == @row['seed']")["accuracy"]
            assert row[f"{place} accuracy"] == pytest.approx(found.item())


def test_the_confusion_counts_every_test_image_of_every_seed(tiny_results):
    confusion = tiny_results.tables["confusion"].set_index("true class")
    scores = tiny_results.tables["3 clients: scores"].query("arm == 'FedAvg' and where == 'joint'")
    assert confusion.to_numpy().sum() == scores["cells"].sum()
    right = (scores["accuracy"] * scores["cells"]).sum()
    assert confusion.to_numpy().trace() == pytest.approx(right)


def test_maps_are_held_against_nuclei_beside_maps_that_know_no_network(tiny_results):
    nuclei = tiny_results.tables["nuclei"].set_index("map")
    assert {"grad_cam", "centred Gaussian", "area"} <= set(nuclei.index)
    assert (nuclei["nucleus"] <= nuclei["cell"]).all()
    assert nuclei.loc["centred Gaussian", "nucleus"] > nuclei.loc["area", "nucleus"]


def test_the_sites_tables_hold_every_image_once(tiny_results):
    table = tiny_results.tables["3 clients: sites"]
    counted = table.groupby("seed")[list(smear.LEUKAEMIA)].sum().sum(axis=1)
    assert counted.eq(420).all()
    assert tiny_results.tables["3 clients: divergence"]["seed"].nunique() == 2


def test_the_spread_over_clients_is_that_of_the_scores(tiny_results):
    spread = tiny_results.tables["3 clients: clients"].query("arm == 'FedAvg' and seed == 0").iloc[0]
    scores = tiny_results.tables["3 clients: scores"].query(
        "arm == 'FedAvg' and seed == 0 and where != 'joint'"
    )["accuracy"]
    assert spread["mean"] == pytest.approx(scores.mean())
    assert spread["worst_value"] == pytest.approx(scores.min())


def test_bytes_are_the_arrays_times_clients_times_rounds_times_two(tiny_results):
    arrays = image_model("attention_cnn", 4).state_dict().values()
    size = sum(value.numel() * value.element_size() for value in arrays)
    headers = 128 * len(arrays)
    cost = tiny_results.tables["3 clients: cost"].set_index("arm")
    assert cost.loc["FedAvg", "bytes sent"] == (size + headers) * 3 * 1 * 2


@pytest.mark.parametrize("together", ["near duplicates", "blocks", "patients"])
def test_what_belongs_together_is_not_torn_apart(images, together):
    study = replace(tiny_protocol().studies[0], together=together)
    sites = attention_cnn.client_sites(attention_cnn.as_seen(study, images), study, seed=0)
    train, test = ({p for site in sites for p in getattr(site, part).patient} for part in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_a_stain_shift_changes_colours_only(images):
    study = replace(tiny_protocol().studies[0], stain=1.0)
    plain = attention_cnn.client_sites(images, replace(study, stain=0.0), seed=0)
    moved = attention_cnn.client_sites(images, study, seed=0)
    assert all(a.train.labels.equal(b.train.labels) for a, b in zip(plain, moved, strict=True))
    assert not any(a.train.images.equal(b.train.images) for a, b in zip(plain, moved, strict=True))


def test_normalisation_levels_what_it_is_named_after(images):
    level = {
        colours: attention_cnn.as_seen(replace(tiny_protocol().studies[0], colours=colours), images)
        for colours in ("as they are", "reinhard", "macenko")
    }
    light = {
        name: partition.lab_statistics(cohort.images).std(dim=0).mean() for name, cohort in level.items()
    }
    assert light["reinhard"] < light["as they are"] / 2
    assert not level["macenko"].images.equal(images.images)
    assert all(cohort.labels.equal(images.labels) for cohort in level.values())


# --- confidence ------------------------------------------------------------------------------------


def answers(where: str, seed: int, sharp: float = 1.0) -> Prediction:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(300, 3)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(3, p=p) for p in probabilities])
    told = probabilities**sharp
    return Prediction("model", 0, where, labels, told / told.sum(axis=1, keepdims=True))


def test_overconfidence_is_seen_and_mended():
    found = confidence.tables([answers("validation", 1, 3.0), answers("joint", 2, 3.0)], ("a", "b", "c"))
    row = found["calibration"].iloc[0]
    assert row["temperature"] == pytest.approx(3.0, rel=0.3)
    assert row["ECE, temperature"] < row["ECE"] / 2
    covered = found["prediction sets"].query("`class` == 'overall'")["coverage"]
    assert covered.between(1 - confidence.LEVEL - 0.05, 1).all()
    curve = found["risk and coverage"]
    assert curve["risk"].iloc[0] < curve["risk"].iloc[-1]
    counts = found["right and wrong"]
    assert counts["count"].sum() == 300


def test_an_arm_that_rules_out_a_true_class_is_left_out():
    held, test = answers("validation", 1), answers("joint", 2)
    ruled_out = held.probabilities.copy()
    ruled_out[0, held.labels[0]] = 0.0
    sure = [replace(held, arm="sure", probabilities=ruled_out), replace(test, arm="sure")]
    found = confidence.tables([held, test, *sure], ("a", "b", "c"))
    assert set(found["calibration"]["arm"]) == {"model"}


# --- the frozen result -----------------------------------------------------------------------------


def test_the_frozen_result_is_not_stale():
    """Whoever changes the protocol has to compute the results again (`make results`)."""
    result = load(results.folder() / "attention-cnn.json")
    assert not stale(result, json.loads(json.dumps(PROTOCOL("paper", "real").describe())))
    changed = replace(PROTOCOL("paper", "real"), size=96).describe()
    assert stale(result, json.loads(json.dumps(changed)))
    assert result.seeds == [0, 1, 2, 3, 4]


def test_the_frozen_federation_reaches_the_papers_accuracy():
    result = load(results.folder() / "attention-cnn.json")
    for title, accuracy in (("3 clients, 16 rounds", 0.9570), ("5 clients, 16 rounds", 0.9656)):
        table = result.table(f"{title}: scores").query("arm == 'FedAvg' and where == 'joint'")
        assert table["seed"].nunique() == 5
        assert table["accuracy"].mean() >= accuracy


@pytest.mark.real
def test_the_frozen_result_was_computed_on_these_files(real_data):
    result = load(results.folder() / "attention-cnn.json")
    asked = PROTOCOL("paper", "real")
    found = [
        attention_cnn.smears(asked, real_data),
        nuclei.masked_cells("real", asked.size, real_data),
    ]
    assert [source["checksum"] for source in result.data] == [cohort.provenance.checksum for cohort in found]


# --- the command -----------------------------------------------------------------------------------


def test_hemafl_run_gives_the_same_tables_prints_all_arms_and_writes(tiny_results, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    output, again = run_by_command("attention-cnn", tiny_protocol(), out, monkeypatch)
    for title, table in tiny_results.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[title], check_exact=True)
    for word in ("SIMULATED", "isolated", "FedAvg", "centralised", "colour alone"):
        assert word in output
    assert set(load(out).table("pairs")["seed"]) == {0, 1}


@pytest.mark.parametrize(
    "arguments", [("fast", "real"), ("quick", "drawn"), ("quick", "smear", Changes(model="resnet34"))]
)
def test_unknown_protocols_are_refused_in_one_sentence(arguments):
    with pytest.raises(HemaflError, match="is unknown; choose one of"):
        attention_cnn.protocol(*arguments)
