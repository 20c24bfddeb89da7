"""The models that come with the book are those that the code makes, are small, and say how good they are."""

from itertools import product

import pytest
import torch

from hemafl_book.clinic import FAMILIES
from hemafl_book.clinic.make import ARMS, checksum, code_of, make, slug
from hemafl_lib import clinic
from hemafl_lib.data import smear
from hemafl_lib.errors import HemaflError

SMALL = 80_000
"""Most bytes of a model with its card."""

EACH = list(product(FAMILIES, ARMS))


@pytest.fixture(scope="module")
def shipped(repository):
    """Every model of the book by family and arm; reading one checks its weights by the card's checksum."""
    folder = repository / "book" / "clinic" / "models"
    return {(family, arm): clinic.load(folder / family / slug(arm)) for family, arm in EACH}


def test_the_models_were_made_by_the_code_that_is_here(shipped):
    code = checksum(code_of(make))
    changed = [model.card.name for model in shipped.values() if model.card.code != code]
    assert not changed, "the code of these models has changed; run make models"


@pytest.mark.parametrize(("family", "arm"), EACH)
def test_a_card_names_its_family_its_arm_and_whose_cells_judged(shipped, family, arm):
    card = shipped[family, arm].card
    assert (card.family, card.arm) == (FAMILIES[family].name, arm)
    assert card.classes == FAMILIES[family].classes
    assert card.simulated == FAMILIES[family].simulated
    assert {score.kind for score in card.scores} >= {"own", "joint", "unseen"}
    measured = ("coverage", "flagged", "calibration_error")
    assert all(getattr(score, name) is not None for score in card.scores for name in measured)
    assert card.temperature >= 1
    assert [scope.of for scope in card.scope] == ["colours", "features"]


@pytest.mark.parametrize(("family", "arm"), EACH)
def test_a_model_is_small(repository, family, arm):
    folder = repository / "book" / "clinic" / "models" / family / slug(arm)
    assert sum(path.stat().st_size for path in folder.iterdir()) < SMALL


@pytest.mark.parametrize("arm", ARMS)
def test_cards_of_real_cells_name_who_took_them_and_the_licence(shipped, arm):
    about = shipped["white-cells", arm].card.about
    assert "Acevedo et al. 2020" in about
    assert "CC BY 4.0" in about
    assert {"Tecom", "BCCD", "CellaVision"} <= {s.where for s in shipped["white-cells", arm].card.scores}


def test_the_models_of_fields_answer_better_than_chance_and_warn_of_noise(shipped):
    fields = smear.simulate(40, size=64, classes=smear.LEUKAEMIA, sites=("north",), patients=24, seed=9)
    model = shipped["leukaemia-fields", "centralised"]
    said = clinic.answer(model, fields.images)
    assert (said.predicted == fields.labels.numpy()).mean() > 0.6
    noise = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    assert clinic.answer(model, noise.to(torch.uint8)).out_of_scope.all()


def test_the_page_of_the_white_cells_says_of_strangers_what_the_cards_say(shipped):
    """At Tecom and BCCD no better than guessing, and mostly refused; at CellaVision misread, not refused."""
    for arm in ARMS:
        model = shipped["white-cells", arm]
        scores = {score.where: score for score in model.card.scores}
        for where in ("Tecom", "BCCD"):
            assert scores[where].low <= scores[where].chance
            assert scores[where].coverage < 0.3
            assert scores[where].flagged > 0.7
        assert scores["CellaVision"].flagged < 0.1
        assert scores["CellaVision"].balanced_accuracy < 0.5
        assert 0.25 < scores["CellaVision"].calibration_error < 0.55
        assert all(scope.detected["blurred"] < 0.1 for scope in model.card.scope)


def test_an_unknown_family_is_answered_with_those_that_are_known(tmp_path):
    with pytest.raises(HemaflError, match="white-cells, leukaemia-fields"):
        make("red-cells", tmp_path, None, None, print)
