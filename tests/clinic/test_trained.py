"""The models that a run keeps are those that it scored, and a paper without such models says so."""

from types import SimpleNamespace

import numpy as np
import pytest
from builders.federated import pictures, sites
from torch import nn

from hemafl_book.clinic.trained import Keeper, free_name, kind_of
from hemafl_book.papers import studies
from hemafl_book.papers.arms import Arm, Trial, probabilities, read_answers
from hemafl_book.papers.arms import test_cohorts as judged_cohorts
from hemafl_book.papers.studies import Piece, Series, run_studies
from hemafl_book.papers.where import HERE
from hemafl_lib import clinic
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import AttentionCNN, SplitModel, activations
from hemafl_lib.models.norms import Normalise
from hemafl_lib.seeds import initialised
from hemafl_lib.training import Recipe

ARMS = (Arm("isolated", kind="isolated", recipe=Recipe()), Arm("FedAvg", recipe=Recipe()))


class Asked(SimpleNamespace):
    """A protocol of nothing but what a keeper asks for."""

    def describe(self):
        return {}


def frozen_layers() -> SplitModel:
    """A network with a frozen convolution."""
    with initialised(0):
        normalise = Normalise((0.5,) * 3, (0.25,) * 3)
        prefix = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        suffix = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        return SplitModel(normalise, prefix, suffix, weights="random", pretrained=False)


def run(keeper, model, clients, judged):
    """Run an experiment of one study while a keeper watches; return what its arms answered."""

    def piece(seed):
        settings = {"seed": seed, "rounds": 1, "sites": clients, "model": model, "judged": judged}
        return Piece(trials=[Trial(arm=arm, **settings) for arm in ARMS])

    asked = Asked(seeds=(0, 1), size=16)
    with keeper.watching(asked):
        found = run_studies(asked, [Series("one", (0, 1), lambda: piece)], HERE, ())
    return read_answers(found["one"]["answers"])


def test_each_arm_of_the_first_seed_is_kept_and_answers_as_it_was_scored(tmp_path):
    keeper, clients, said = Keeper("attention-cnn", tmp_path), sites(2, make=pictures), []
    answers = run(keeper, AttentionCNN(2, width=8, norm="group"), clients, judged_cohorts(clients))
    keeper.save(said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fedavg",
        "isolated-site-0",
        "isolated-site-1",
    ]
    assert len(said) == 4
    assert "hemafl predict" in said[-1]
    model = clinic.load(tmp_path / "fedavg")
    scored = next(p for p in answers if (p.arm, p.seed, p.where) == ("FedAvg", 0, "joint"))
    # The kept model is rounded: its probabilities, without the card's temperature, are close to the scored.
    joint = judged_cohorts(clients)["joint"]
    np.testing.assert_allclose(probabilities(model.network, joint), scored.probabilities, atol=0.05)
    assert {score.kind for score in model.card.scores} == {"own", "joint"}
    assert {scope.of for scope in model.card.scope} == {"colours", "features"}


def test_an_isolated_model_calls_the_other_sites_unseen(tmp_path):
    keeper, clients = Keeper("attention-cnn", tmp_path), sites(2, make=pictures)
    run(keeper, AttentionCNN(2, width=8, norm="group"), clients, judged_cohorts(clients))
    keeper.save(lambda line: None)
    card = clinic.load(tmp_path / "isolated-site-1").card
    assert card.sites == ("site 1",)
    assert {score.where: score.kind for score in card.scores} == {
        "site 0": "unseen",
        "site 1": "own",
        "joint": "joint",
    }


def test_a_network_with_frozen_layers_is_kept_whole(tmp_path):
    keeper, network, images = Keeper("blood-morphology", tmp_path), frozen_layers(), sites(2, make=pictures)
    clients = [
        type(site)(
            site.name,
            **{
                part: activations(network, getattr(site, part), progress=False)
                for part in ("train", "validation", "test")
            },
        )
        for site in images
    ]
    answers = run(keeper, network, clients, judged_cohorts(clients))
    keeper.save(lambda line: None)
    model = clinic.load(tmp_path / "fedavg")
    scored = next(p for p in answers if (p.arm, p.seed, p.where) == ("FedAvg", 0, "joint"))
    found = probabilities(model.network, judged_cohorts(images)["joint"])
    np.testing.assert_allclose(found, scored.probabilities, atol=1e-6)
    assert model.card.scope == ()
    assert model.card.sets is not None


def test_what_trains_is_as_before_when_the_run_is_over_or_broke_off(tmp_path):
    plain = studies.train
    keeper = Keeper("attention-cnn", tmp_path)
    with pytest.raises(KeyboardInterrupt), keeper.watching(Asked(seeds=(0,), size=16)):
        raise KeyboardInterrupt
    assert studies.train is plain


def test_a_run_that_trained_nothing_keeps_nothing_and_says_so(tmp_path):
    with pytest.raises(HemaflError, match="leave --checkpoint out"):
        Keeper("attention-cnn", tmp_path).save(print)


def test_a_paper_without_models_of_images_is_refused_before_it_runs(tmp_path):
    with pytest.raises(HemaflError, match="attention-cnn and blood-morphology"):
        Keeper("mds-survival", tmp_path)


def test_arms_of_one_name_do_not_overwrite_each_other():
    taken: set[str] = set()
    assert [free_name("fedavg", taken) for _ in range(3)] == ["fedavg", "fedavg-2", "fedavg-3"]
    assert free_name("fed", taken) == "fed", "a longer name does not take it"


def test_a_second_batch_of_a_hospital_that_trained_is_no_strangers():
    """`barcelona-2` was once called unseen of models that had trained on Barcelona."""
    assert kind_of("barcelona-2", {"barcelona", "tecom"}) == "related"
    assert kind_of("barcelona-2", {"tecom"}) == "unseen"
    assert kind_of("cellavision", {"barcelona", "tecom"}) == "unseen"
    assert kind_of("harbour", {"north"}) == "unseen", "a drawn hospital of its own"
    assert [kind_of(where, {"tecom"}) for where in ("tecom", "joint")] == ["own", "joint"]
