"""Chapter 3's experiment: what is split before or after flipping, what is matched, and nothing is stale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders.command import run_by_command
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_book.papers import all_transfer, macro_scores, published
from hemafl_book.papers.all_transfer import LEAKAGE, Study
from hemafl_book.papers.arms import Prediction
from hemafl_book.papers.changes import Changes
from hemafl_book.papers.copies import FLIPS
from hemafl_book.papers.where import Where
from hemafl_book.results import FrozenResult, Results, load, stale
from hemafl_book.show import results
from hemafl_lib import federation, partition
from hemafl_lib.aggregation import aggregate, weighted_mean
from hemafl_lib.augmentation import to_float, with_variants
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import VariantCohort
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import AttentionCNN, backbone

PROTOCOL = all_transfer.protocol
QUIET = Where(progress=False)
SPLITS = tuple(LEAKAGE)
MIXING = ("server keeps 0.25", "server keeps 0.5", "server keeps 0.75")


def tiny_protocol(*_: object, **__: object) -> all_transfer.Protocol:
    """Every kind of study of the paper preset, on a few small smears, one round."""
    asked = PROTOCOL("paper", "smear")
    kept = {
        asked.main: (0, 1),
        "three clients of different classes": (0,),
        "five folds": tuple(range(5)),
        f"leakage: {LEAKAGE['leak']}": (0,),
        f"simulated patients: {LEAKAGE['patient']}": (0,),
    }
    studies = tuple(
        replace(study, seeds=kept[study.title], arms=tuple(map(shortened, study.arms)))
        for study in asked.studies
        if study.title in kept
    )
    return replace(asked, size=32, small_size=16, cells=120, patients=30, studies=studies, rounds=2)


def shortened(arm):
    return replace(arm, recipe=replace(arm.recipe, local_epochs=1, batch_size=32))


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_transfer, "MINIMUM", 10)
        patch.setattr(all_transfer, "DRAWS", 20)
        return all_transfer.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def images():
    return smear.simulate(120, size=16, classes=smear.LEUKAEMIA, sites=("north",), patients=40, masks=False)


def numbered(images, split: str) -> VariantCohort:
    """Variants that say which image (tens) and which flip (ones) they are."""
    numbers = 10 * torch.arange(len(images))[:, None] + torch.arange(len(FLIPS))
    cohort = with_variants(images, numbers[:, :, None].float())
    return partition.grouped(cohort, all_transfer.units(images, split))


def repeated(images, count: int):
    """As many images, of which only the number matters."""
    return images.take(np.arange(count) % len(images))


def seen(cohort: VariantCohort) -> tuple[list[int], list[int]]:
    """Image and flip of every row."""
    numbers = cohort.variants.flatten().long()
    return (numbers // 10).tolist(), (numbers % 10).tolist()


# Flipping and splitting


def test_the_four_copies_are_flips(images):
    copies = [flip(images.images) for flip in FLIPS.values()]
    assert torch.equal(copies[0], images.images)
    for first in range(4):
        assert torch.equal(list(FLIPS.values())[first](copies[first]), images.images), "twice is not at all"
        assert all(not torch.equal(copies[first], copies[second]) for second in range(first))


@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_what_a_split_keeps_together(split, seed, images):
    images = repeated(images, 400)
    sites = all_transfer.split_and_flip(numbered(images, split), Study("any", (), (), split=split), seed)
    pooled = federation.pooled(sites)
    sides = [seen(getattr(pooled, part)) for part in partition.PARTS]
    rows = [set(zip(*side, strict=True)) for side in sides]
    assert len(set.union(*rows)) == sum(len(side[0]) for side in sides), "no row is on two sides, or twice"
    trained, tested = set(sides[0][0]), set(sides[2][0])
    if split == "leak":
        assert trained & tested
    else:
        assert not trained & tested
        assert all(len(set(site)) * 4 == len(site) for site in (seen(site.train)[0] for site in sites))
    expected = {0} if split == "training set only" else {0, 1, 2, 3}
    assert set(sides[2][1]) == expected
    if split == "patient":
        assert not set(images.patient[list(trained)]) & set(images.patient[list(tested)])


def test_the_order_of_the_paper_leaks_as_its_arithmetic_says(images):
    leaking = Study("leak", (), (), split="leak")
    cohort = numbered(repeated(images, 400), "leak")
    table = all_transfer.sizes(all_transfer.split_and_flip(cohort, leaking, 0))
    expected = published.share_with_sibling()
    assert table["test rows with a sibling in training"] == pytest.approx(expected, abs=0.03)
    assert table["test clusters"] == pytest.approx(published.distinct_originals(400), rel=0.05)
    assert table["train rows"] == pytest.approx(0.7 * 1600, abs=2)


def test_clients_of_other_classes_share_the_test_images(images, monkeypatch):
    monkeypatch.setattr(all_transfer, "MINIMUM", 10)
    cohort = numbered(repeated(images, 400), "image")
    found = [
        all_transfer.split_and_flip(cohort, Study("any", (), (), alpha=alpha), 3) for alpha in (None, 0.5)
    ]
    tested = [sorted(seen(federation.pooled(sites).test)[0]) for sites in found]
    assert tested[0] == tested[1]
    spread = [np.ptp([len(site.train) for site in sites]) for sites in found]
    assert spread[0] < 100 < spread[1]


def test_every_image_is_tested_in_one_fold_and_never_trained_on_in_it(images):
    cohort = numbered(images, "image")
    study = Study("folds", (), (), folds=True)
    tested = []
    for fold in range(5):
        pooled = federation.pooled(all_transfer.fold_sites(cohort, study, fold))
        assert not set(seen(pooled.train)[0]) & set(seen(pooled.test)[0])
        assert len(pooled.train) + len(pooled.test) == 4 * len(images)
        tested += seen(pooled.test)[0]
    assert sorted(tested) == sorted(4 * list(range(len(images))))


# What the networks read


def test_frozen_layers_read_every_flip(images):
    few = images.take(range(3))
    network = backbone("efficientnet_lite0", 4, trainable="head")
    found = all_transfer.network_inputs(network, few).variants
    with torch.no_grad():
        for number, flip in enumerate(FLIPS.values()):
            expected = network.prefix(network.normalise(to_float(flip(few.images))))
            torch.testing.assert_close(found[:, number], expected)


def test_a_network_without_frozen_layers_reads_the_pixels(images):
    found = all_transfer.network_inputs(AttentionCNN(4), images).variants
    assert found.dtype == torch.uint8
    assert torch.equal(found[:, 3], images.images.flip((2, 3)))


def test_a_seed_draws_the_initial_weights_and_not_the_frozen_layers():
    asked = tiny_protocol()
    inputs = all_transfer.Inputs(asked, QUIET)
    study = next(study for study in asked.studies if study.split == "leak")
    piece = all_transfer.prepare(study, inputs)
    networks = {seed: {t.arm.network: t.model for t in piece(seed).trials} for seed in (0, 1)}
    heads = [found["efficientnet_lite0"].suffix.classifier.weight for found in networks.values()]
    small = [
        torch.cat([p.flatten() for p in found[all_transfer.SMALL].parameters()])
        for found in networks.values()
    ]
    assert not torch.equal(*heads)
    assert not torch.equal(*small)
    stems = [found["efficientnet_lite0"].prefix.conv_stem.weight for found in networks.values()]
    assert torch.equal(*stems)


@pytest.mark.parametrize("arm", all_transfer.mixing("efficientnet_lite0"), ids=lambda arm: arm.name)
def test_a_server_that_mixes_keeps_its_share_of_the_current_weights(arm):
    rng = np.random.default_rng(0)
    current, *replies = ({"w": rng.normal(size=5)} for _ in range(4))
    kept = float(arm.name.removeprefix("server keeps "))
    state = arm.aggregator.start(current)
    for _ in range(2):
        mean = weighted_mean(replies, [3, 2, 1])["w"]
        expected = kept * current["w"] + (1 - kept) * mean
        current, state = aggregate(arm.aggregator, current, replies, [3, 2, 1], state)
        np.testing.assert_allclose(current["w"], expected)


def test_random_weights_are_called_random(images):
    network = backbone("mobilenetv2", 4, pretrained=False, trainable="head")
    table = all_transfer.network_table(
        PROTOCOL("quick", "real", Changes(model="MobileNetV2")), {"mobilenetv2": network}
    )
    assert table.loc[0, "starts from"] == "random"
    assert table.loc[0, "trained"] == 1280 * 4 + 4


# The tables


def test_every_way_of_training_stands_beside_the_baselines(tiny_results):
    scores = tiny_results.tables["scores"]
    main = scores[scores["study"] == tiny_results.protocol.main]
    assert set(main["arm"]) == {
        *(f"isolated: site-{number}" for number in (1, 2, 3)),
        "FedAvg",
        "centralised",
        *MIXING,
        "colour alone, logistic regression",
        "colour alone, random forest",
        "commonest class",
    }
    assert main.groupby("arm")["seed"].nunique().eq(2).all()
    assert scores[list(macro_scores.MEASURES)].apply(lambda column: column.between(0, 1).all()).all()
    assert set(scores["study"]) == {study.title for study in tiny_results.protocol.studies}


def test_budgets_are_matched(tiny_results):
    cost = tiny_results.tables["cost"]
    main = cost[cost["study"] == tiny_results.protocol.main].set_index("arm")
    assert main["passes"].nunique() == 1
    alone = main[main.index.str.startswith("isolated")]["optimiser steps"].sum()
    assert main.loc["FedAvg", "optimiser steps"] == alone
    rounding = 2 * tiny_results.protocol.rounds
    assert 0 <= alone - main.loc["centralised", "optimiser steps"] <= rounding


def test_the_curves_end_where_the_scores_are(tiny_results):
    curves, scores = tiny_results.tables["curves"], tiny_results.tables["scores"]
    last = curves[curves["round"] == 2]
    assert set(curves["arm"]) == {"FedAvg", "centralised", *MIXING}
    assert len(curves) == 5 * 2 * 3, "arms, seeds, and the rounds 0 to 2"
    for row in last.to_dict("records"):
        same = scores[["study", "arm", "seed"]].eq([row["study"], row["arm"], row["seed"]]).all(axis=1)
        assert scores.loc[same, "accuracy"].item() == pytest.approx(row["test"])


def test_the_confusion_counts_every_test_row_of_every_seed(tiny_results):
    confusion = tiny_results.tables["confusion"].drop(columns="study").set_index("true class")
    scores = tiny_results.tables["scores"].query("arm == 'FedAvg'")
    scores = scores[scores["study"] == tiny_results.protocol.main]
    assert confusion.to_numpy().sum() == scores["rows"].sum()
    assert confusion.to_numpy().trace() == pytest.approx((scores["accuracy"] * scores["rows"]).sum())


def test_both_networks_answer_for_the_same_test_rows(tiny_results):
    intervals = tiny_results.tables["intervals"]
    both = intervals[intervals["arm"].isin(["last layer", "from scratch"])]
    assert (both.groupby("study")["arm"].nunique() == 2).all()
    assert (both.groupby("study")[["rows", "clusters"]].nunique() == 1).all(axis=None)


def test_four_copies_of_an_answer_make_no_interval_narrower(images):
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(3, size=100), 4)
    guess = np.where(np.repeat(rng.random(100) < 0.8, 4), labels, (labels + 1) % 3)
    prediction = Prediction("a", 0, "test", labels, np.eye(3)[guess])
    cohort = partition.grouped(repeated(images, 400), np.arange(400) // 4)
    row = all_transfer.intervals(prediction, cohort)
    assert (row["rows"], row["clusters"]) == (400, 100)
    naive = row["high, rows as if independent"] - row["low, rows as if independent"]
    assert 1.6 < (row["high"] - row["low"]) / naive < 2.4


def test_precision_recall_and_f1_are_means_over_the_classes():
    labels = np.array([0, 0, 0, 1])
    row = macro_scores.paper_scores(Prediction("a", 0, "test", labels, np.eye(2)[[0, 0, 1, 1]]))
    assert row["precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert row["recall"] == pytest.approx((2 / 3 + 1) / 2)
    assert row["F1"] == pytest.approx((4 / 5 + 2 / 3) / 2)


# Protocol, command and frozen result


def test_the_protocol_is_plain_json_and_says_everything():
    described = PROTOCOL("paper", "real").describe()
    assert json.loads(json.dumps(described))["studies"][0]["arms"][1]["recipe"]["local_epochs"] == 5
    assert described["rounds"] == 10
    others = (
        PROTOCOL("paper", "smear"),
        PROTOCOL("paper", "real", Changes(model="vgg16")),
        PROTOCOL("quick", "real"),
    )
    assert all(other.describe() != described for other in others)


@pytest.mark.parametrize("row", published.ALONE, ids=lambda row: row.network)
def test_the_papers_networks_are_asked_for_by_their_names(row):
    asked = PROTOCOL("paper", "real", Changes(model=row.network))
    assert asked.studies[0].arms[0].network == row.network.lower()
    assert asked.size == (299 if row.network in ("InceptionV3", "Xception") else 224)


@pytest.mark.parametrize(
    "arguments", [("hasty",), ("quick", "imagined"), ("quick", "smear", Changes(model="alexnet"))]
)
def test_unknown_presets_sources_and_networks_are_refused(arguments):
    with pytest.raises(HemaflError, match="choose"):
        PROTOCOL(*arguments)


def test_patients_are_split_where_they_are_known():
    studies = PROTOCOL("paper", "real").studies
    assert all(study.simulated for study in studies if study.split == "patient")
    assert {study.split for study in studies} == set(LEAKAGE)


def test_hemafl_run_gives_the_same_tables_and_says_that_data_are_simulated(
    tiny_results, tmp_path, monkeypatch
):
    """Of the main study; the others are made of the same parts."""
    monkeypatch.setattr(all_transfer, "DRAWS", 20)
    asked = tiny_protocol()
    asked, out = replace(asked, studies=asked.studies[:1]), tmp_path / "out.json"
    output, again = run_by_command("all-transfer", asked, out, monkeypatch)
    for title, table in again.tables.items():
        before = tiny_results.tables[title]
        kept = (
            before["network"] != all_transfer.SMALL if title == "networks" else before["study"] == asked.main
        )
        pd.testing.assert_frame_equal(table, before[kept].reset_index(drop=True), check_exact=True)
    assert "SIMULATED" in output
    assert "pretrained, shipped with a package" in output
    assert load(out).table("scores")["arm"].nunique() == 8 + len(MIXING)


@pytest.fixture(scope="module")
def frozen() -> FrozenResult:
    path = results.folder() / "all-transfer.json"
    if not path.exists():
        pytest.skip("needs frozen results: `hemafl run all-transfer --preset paper` has not been run")
    return load(path)


def test_the_frozen_result_is_not_stale(frozen):
    """Whoever changes the protocol has to compute the results again (`make results`)."""
    assert not stale(frozen, json.loads(json.dumps(PROTOCOL("paper", "real").describe())))
    assert frozen.seeds == [0, 1, 2, 3, 4]


def test_the_frozen_federation_is_above_the_papers(frozen):
    scores = frozen.table("scores").query("study == 'three equal clients' and arm == 'FedAvg'")
    assert 100 * scores["accuracy"].mean() > float(published.FEDERATED[1].accuracy)


@pytest.mark.real
def test_the_frozen_result_was_computed_on_these_files(frozen, real_data):
    asked = PROTOCOL("paper", "real")
    cohort = all_transfer.smears(replace(asked, size=16), False, 16, root=real_data)
    assert len(cohort) == 3256
    assert cohort.provenance.checksum in [source["checksum"] for source in frozen.data]
