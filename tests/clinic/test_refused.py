"""Single cells are cut out of fields as they lie, and the page says of what is refused what the cards say."""

import numpy as np
import pytest
import torch

from hemafl_book.clinic import FAMILIES, refused, white_cells
from hemafl_book.clinic.explorer.models import FOLDER
from hemafl_book.clinic.make import ARMS, slug
from hemafl_lib import data
from hemafl_lib.clinic import answer, load, measuring

SIDE = 224


def a_field(*spots):
    """A light field with round dark nuclei, each (row, column, radius), and a grey plasm of its own."""
    down, across = np.mgrid[:SIDE, :SIDE]
    field = np.full((3, SIDE, SIDE), 240, np.uint8)
    for row, column, radius in spots:
        away = np.hypot(down - row, across - column)
        field[:, away < 1.3 * radius] = 170
        field[:, away < radius] = 60
    return torch.from_numpy(field)


def test_the_largest_whole_nucleus_is_in_the_middle_of_its_square():
    cell = refused.cut_out(a_field((100, 90, 20), (160, 170, 14), (10, 10, 30)))
    assert cell.shape[1] == cell.shape[2] == pytest.approx(2 * 40, abs=4)
    dark = np.argwhere(cell[0].numpy() == 60)
    assert dark.mean(axis=0) == pytest.approx([cell.shape[1] / 2] * 2, abs=2)
    assert np.ptp(dark[:, 0]) == pytest.approx(40, abs=2)


def test_a_nucleus_that_is_cut_or_long_gives_no_cell():
    assert refused.cut_out(a_field((5, 100, 25))) is None
    long = a_field((100, 60, 14))
    for column in range(60, 140):
        long[:, 90:110, column] = 60
    assert refused.cut_out(long) is None


def test_a_cell_is_as_large_as_it_is_asked_for():
    assert refused.sized(a_field((112, 112, 20)), 48).shape == (3, 48, 48)


def test_the_share_refused_is_that_of_the_answers():
    model = load(FOLDER / "white-cells" / "federated")
    noise = torch.randint(
        0, 256, (4, 3, model.size, model.size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    (counted,) = measuring.refused(model, {"noise": noise})
    assert (counted.of, counted.pictures) == ("noise", 4)
    assert counted.share == answer(model, noise).out_of_scope.mean() == 1


def test_the_page_and_the_words_of_the_cards_say_what_was_counted(repository):
    cards = {arm: load(FOLDER / "white-cells" / slug(arm)).card for arm in ARMS}
    assert refused.table(cards) in (repository / "book" / "clinic" / "own_cells.md").read_text()
    for card in cards.values():
        of_kind = {each.of: each for each in card.refused}
        assert set(refused.DIAGNOSES.values()) < set(of_kind)
        assert white_cells.refusals(card) in card.about
        blasts = of_kind["pro-B blasts"]
        assert blasts.pictures > refused.COUNT // 2
        assert f"{100 * blasts.share:.0f} % of pro-B blasts" in card.about


def test_the_page_says_of_probabilities_what_the_cards_do(repository):
    page = (repository / "book" / "clinic" / "own_cells.md").read_text(encoding="utf-8")
    cards = [load(FOLDER / family / slug(arm)).card for family in FAMILIES for arm in ARMS]
    unchanged = sum(card.temperature == 1 for card in cards)
    assert (unchanged, len(cards)) == (3, 6)
    assert "in three of the six models this is 1" in page
    places = [score for card in cards for score in card.scores if score.where == "CellaVision"]
    off = [100 * score.calibration_error for score in places]
    assert f"the probabilities are off by {min(off):.0f} to {max(off):.0f} points" in page
    one, *others = [1 - score.balanced_accuracy for score in places]
    assert (round(4 * one), *(round(5 * other) for other in others)) == (3, 3, 3)
    assert "three in five are misread (by the model of one hospital three in four)" in page


@pytest.mark.real
def test_blasts_can_be_cut_out_of_the_real_fields(real_data):
    if "taleqani" not in data.available(real_data):
        pytest.skip("HEMAFL_DATA does not hold 'taleqani'")
    found = dict(refused.blasts(48, real_data))
    assert found.keys() == set(refused.DIAGNOSES.values())
    assert all(cells.shape[1:] == (3, 48, 48) for cells in found.values())
    assert min(map(len, found.values())) > refused.COUNT // 2
