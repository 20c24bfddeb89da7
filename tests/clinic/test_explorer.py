"""The explorer's answers are the library's, its maps add up, and what a reader keeps is kept as it was."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders.clinic import CLASSES, SIZE, a_model
from PIL import Image

from hemafl_book.clinic.explorer import cells, covering, drawing, reading_list, saving, screen, sorting, trust
from hemafl_book.clinic.explorer.desk import DRAWN_CELLS, first_desk
from hemafl_book.clinic.explorer.looking import Question, Seen, View, largest
from hemafl_book.clinic.explorer.models import BOOKS_OWN, METHODS, Asked, layers, relevance, shipped
from hemafl_book.clinic.nucleus import likely_nucleus
from hemafl_lib import clinic, explain
from hemafl_lib.errors import DataError, ExplanationError, ModelError


@pytest.fixture(scope="module")
def desk():
    return first_desk()


@pytest.fixture(scope="module")
def seen(desk):
    return desk.look()


@pytest.fixture
def pictures(tmp_path):
    """Two pictures and a text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_the_reader_begins_with_three_models_and_three_drawn_cells_of_each_class(desk):
    assert [desk.models[view.model].card.arm for view in desk.question.views] == [
        "one hospital",
        "federated",
        "centralised",
    ]
    known = [cell.known for cell in desk.cells]
    assert {known.count(name) for name in desk.classes} == {cells.EACH}
    assert len({cell.name for cell in desk.cells}) == len(desk.cells)


def test_what_a_model_says_is_what_predict_says_of_the_file(desk, tmp_path):
    cell = desk.cells[0]
    cell.take().save(tmp_path / "cell.png")
    for each in desk.look():
        row = clinic.predict(each.model, [tmp_path / "cell.png"]).table.iloc[0]
        assert row.drop("file").equals(each.row.drop("file"))


@pytest.mark.parametrize("method", METHODS)
def test_a_map_of_a_model_is_the_librarys_but_for_its_temperature(desk, method):
    model = next(iter(desk.models.values()))
    images = cells.batch(desk.cells[:1], model.size)
    expected = explain.relevance(model.network, images, 2, method, device="cpu") / model.card.temperature
    if method in ("grad_cam_plus_plus", "score_cam"):  # weights that are no linear function of the score
        return
    assert torch.allclose(relevance(Asked(model), images, 2, method), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "hires_cam"])
def test_why_this_class_and_not_that_is_the_difference_of_two_maps(desk, method):
    model = next(iter(desk.models.values()))
    images = cells.batch(desk.cells[:1], model.size)
    one, other = (relevance(Asked(model), images, target, method) for target in (1, 3))
    assert torch.allclose(relevance(Asked(model, 3), images, 1, method), one - other, atol=1e-5)


def test_a_contrast_is_that_of_the_librarys_class_maps(desk):
    model = next(iter(desk.models.values()))
    images = cells.batch(desk.cells[:1], model.size)
    expected = explain.class_map(model.network, images, 1, "layer_cam", against=3, device="cpu")
    found = relevance(Asked(model, 3), images, 1, "layer_cam")
    assert torch.allclose(found * model.card.temperature, expected, atol=1e-5)


def test_a_layer_gives_a_finer_map(desk):
    model = next(iter(desk.models.values()))
    images = cells.batch(desk.cells[:1], model.size)
    sides = [relevance(Asked(model), images, 0, "grad_cam", name).shape[-1] for name in layers(model)]
    assert all(before <= after for before, after in pairwise(sides))
    assert sides[-1] > sides[0]


def test_a_class_held_against_itself_and_an_unknown_one_are_told_beside_the_answer(desk):
    question = replace(desk.question, target="neutrophil", against="neutrophil")
    assert "choose another" in desk.ask(question).look()[0].refused
    question = replace(desk.question, target="blast")
    told = desk.ask(question).look()[0]
    assert "knows no class 'blast'" in told.refused
    assert told.row["class"]
    assert "knows no class" in screen.figures(desk.cell, [told], question, screen.Look())


def test_out_of_scope_there_is_neither_answer_nor_map(desk, pictures):
    opened, bad = cells.own([pictures])
    assert [each.path.name for each in bad] == ["notes.txt"]
    for each in desk.show(opened).look():
        assert not each.in_scope
        assert each.relevance is None
    shown = screen.figures(opened[0], desk.show(opened).look(), desk.question, screen.Look())
    assert "None of these models knows" in shown
    assert shown.count("<img") == 1


def test_more_maps_than_four_and_none_are_refused():
    for count in (0, 5):
        with pytest.raises(ExplanationError, match="compare 1 to 4"):
            Question((View("a"),) * count)


def a_view(method: str, value: float) -> Seen:
    return Seen(View("m", method), a_model(), None, "a", torch.full((2, 2), value))


def test_maps_of_one_method_have_one_scale_and_others_their_own():
    maps = [a_view("grad_cam", 1.0), a_view("grad_cam", 4.0), a_view("occlusion", -9.0)]
    assert largest(maps, together=True) == [4, 4, 9]
    assert largest(maps, together=False) == [1, 4, 9]


def test_relevance_for_is_orange_and_against_is_blue_and_none_leaves_the_picture_grey():
    white = Image.new("RGB", (4, 4), "white")
    signed = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    drawn = np.asarray(drawing.overlay(white, signed, 1.0, opacity=1.0))
    assert tuple(drawn[0, 0]) == (230, 120, 0)
    assert tuple(drawn[0, -1]) == drawing.AGAINST
    assert tuple(drawn[-1, 0]) == (255, 255, 255)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 3
    half = drawn.shape[1] // 2
    hatched = (drawn[:half, half:] == 255).all(axis=2).mean()
    assert hatched == pytest.approx(drawing.LINE / drawing.HATCH, abs=0.01)
    assert (drawn[:half, :half] == (230, 120, 0)).all()
    smooth = np.asarray(drawing.overlay(white, signed, 1.0, smooth=True))
    assert len(np.unique(smooth.reshape(-1, 3), axis=0)) > 3


def test_the_most_disputed_and_the_least_sure_cells_come_first(desk):
    said = np.array([[[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]], [[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]])
    assert sorting.disagreement(said) == pytest.approx([0, 0.8, 0])
    assert sorting.disagreement(said[:1]) == pytest.approx([0, 0, 0])
    assert sorting.uncertainty(said)[1] == pytest.approx(np.log(2))
    assert sorting.uncertainty(said)[0] < sorting.uncertainty(said)[1]
    places = sorting.in_order(desk.cells, list(desk.asked.values()), "disagreement")
    assert sorted(places) == list(range(len(desk.cells)))
    with pytest.raises(ExplanationError, match="same classes"):
        sorting.in_order(desk.cells, list(desk.models.values()), "uncertainty")
    with pytest.raises(ExplanationError, match="choose one of"):
        sorting.in_order(desk.cells, list(desk.asked.values()), "beauty")


def test_covered_places_have_the_mean_colour_and_the_rest_stays():
    pixels = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    places = covering.covered_places([0, 1, 17])  # two squares of the first row, one of the second
    inside = torch.from_numpy(covering.enlarged(places, 32))
    assert inside.nonzero().tolist() == [
        *([row, column] for row in (0, 1) for column in (0, 1, 2, 3)),
        *([row, column] for row in (2, 3) for column in (2, 3)),
    ]
    painted = covering.covered(pixels, places)
    assert torch.equal(painted[:, ~inside], pixels[:, ~inside])
    mean = pixels.float().mean(dim=(1, 2)).round()
    assert (painted[:, inside].float() == mean[:, None]).all()
    for nonsense in ([], [256], [-1]):
        with pytest.raises(ExplanationError, match="draw over the picture"):
            covering.covered_places(nonsense)


def test_a_picture_painted_out_whole_is_out_of_scope_and_said_to_be(desk):
    model = next(iter(desk.models.values()))
    whole = covering.covered_places(range(covering.GRID**2))
    before, after = covering.before_and_after(model, desk.cell, whole)
    assert after.out_of_scope[0]
    assert "mean little" in covering.in_words(model, before, after)
    shown = np.asarray(covering.shown(desk.cell, model.size, whole))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


def test_a_zoom_shows_the_same_part_of_picture_and_map():
    picture = Image.new("RGB", (100, 60), "white")
    picture.paste((0, 0, 0), (75, 30, 100, 60))  # the last quarter across, the lower half
    relevance = torch.zeros(2, 4)
    relevance[1, 3] = 1
    near = drawing.Zoom(2, across=100, down=100)
    taken = np.asarray(drawing.enlarged(picture, near))
    assert (taken[16:, 144:] == 0).all()
    assert (taken[:, :112] == 255).all()
    mapped = np.asarray(drawing.overlay(picture, relevance, 1.0, opacity=1.0, zoom=near))
    assert (mapped[:, 128:] == (230, 120, 0)).all()
    assert (mapped[:, :112] == 255).all()
    for across in (0, 50, 100):  # a part never lies beyond the picture
        row, column = drawing.Zoom(3, across, 0).start(256)
        assert 0 <= row <= 512
        assert 0 <= column <= 512


def test_the_report_card_answers_each_question_once_with_numbers(desk, seen):
    case = trust.case_of(seen[0], desk.cell, desk.question, desk.asked)
    found = list(trust.measures(case))
    assert len({each.question for each in found}) == len(trust.QUESTIONS)
    assert all(any(letter.isdigit() for letter in each.sentence) for each in found)
    assert "drawn nucleus" in found[2].sentence
    assert found == list(trust.measures(case))
    shown = screen.report_card(found)
    assert all(each.question in shown for each in found)


def test_deletion_is_the_librarys_at_the_probabilities_on_screen(desk, seen):
    case = trust.case_of(seen[0], desk.cell, desk.question, desk.asked)
    curves = explain.deletion(
        case.asked, case.image, case.target, case.relevance, steps=trust.STEPS, device="cpu"
    )
    assert trust.orders(case, explain.deletion)[0] == pytest.approx(float(curves.areas[0]), abs=1e-6)
    name = seen[0].explained
    assert float(curves.probabilities[0, 0]) == pytest.approx(seen[0].row[f"p {name}"], abs=1e-5)


def test_the_edges_of_the_picture_are_a_map_that_knows_nothing_of_the_model(desk, seen):
    case = trust.case_of(seen[0], desk.cell, desk.question, desk.asked)
    height, width = case.relevance.shape[1:]
    edges = torch.nn.functional.adaptive_avg_pool2d(explain.edge_maps(case.image), (height, width))
    curves = explain.deletion(case.asked, case.image, case.target, edges, steps=trust.STEPS, device="cpu")
    assert trust.orders(case, explain.deletion)[2] == pytest.approx(float(curves.areas[0]), abs=1e-6)
    assert trust.verdict_of(True, True, True) == "yes"
    assert trust.verdict_of(True, True, False).endswith("no more than on the edges of the picture")
    assert trust.verdict_of(True, False, True).endswith("no more than on the middle")
    assert trust.verdict_of(False, True, True) == "not more than on random places"


def test_a_map_stays_under_the_same_stain_and_not_under_a_very_different_one(desk, seen, monkeypatch):
    case = trust.case_of(seen[0], desk.cell, desk.question, desk.asked)
    monkeypatch.setattr(trust, "STAIN", 0.0)
    same = trust.under_stain(case)
    assert same.verdict == "yes"
    assert "order by 1.00" in same.sentence
    monkeypatch.setattr(trust, "STAIN", 0.9)
    assert "order by 1.00" not in trust.under_stain(case).sentence


@pytest.mark.parametrize(
    ("names", "related"),
    [
        (["white cells: federated", "white cells: centralised"], True),
        (["white cells: federated", "own: mine"], False),
        (["own: mine", "own: yours"], False),
        (["white cells: federated", "white cells: centralised", "own: mine"], False),
    ],
)
def test_only_models_of_the_book_are_said_to_be_related(names, related):
    seen = [SimpleNamespace(view=View(name), in_scope=True, row={"class": "monocyte"}) for name in names]
    said = screen.verdict(seen)
    assert said.startswith("All that answer say monocyte.")
    assert ("No second opinion" in said) == related


def test_the_models_of_the_book_bear_the_names_that_they_are_known_by():
    assert set(shipped()) == BOOKS_OWN


@pytest.mark.parametrize(
    ("left", "verdict"), [(0.1, "yes"), (-0.5, "no: it"), (0.5, "no: it"), (float("nan"), "yes: no map")]
)
def test_a_map_that_survives_the_loss_of_all_weights_shows_the_picture(left, verdict):
    assert trust.forgotten_in_words(left).startswith(verdict)


def test_a_map_that_is_not_there_is_not_measured(desk, pictures):
    opened, _ = cells.own([pictures])
    elsewhere = desk.show(opened)
    with pytest.raises(ExplanationError, match="choose one that is shown"):
        trust.case_of(elsewhere.look()[0], elsewhere.cell, elsewhere.question, elsewhere.asked)


def test_the_likely_nucleus_is_the_darkest_of_three_greys():
    pixels = torch.full((3, 9, 9), 240, dtype=torch.uint8)
    pixels[:, 2:7, 2:7] = 170
    pixels[:, 3:5, 3:5] = 60
    assert np.argwhere(likely_nucleus(pixels)).tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]


def test_the_likely_nucleus_is_most_of_the_drawn_one(desk):
    overlaps = []
    for cell in desk.cells:
        if cell.known == "platelet":
            continue
        pixels = cells.picture(cell, 96).pixels
        guess, drawn = likely_nucleus(pixels), cell.nucleus
        overlaps.append(2 * (guess & drawn).sum() / (guess.sum() + drawn.sum()))
    assert np.mean(overlaps) > 0.8


def test_a_mark_is_kept_replaced_and_read_again(seen, tmp_path):
    folder = tmp_path / "reading"
    first = reading_list.entry("a", "drawn", "unsure", "", seen)
    assert reading_list.read(folder) == ()
    reading_list.keep(folder, first)
    reading_list.keep(folder, reading_list.entry("b", "drawn", "agree", " clear ", seen))
    kept = reading_list.keep(folder, reading_list.entry("a", "drawn", "disagree", "", seen))
    assert [(each.cell, each.mark, each.remark) for each in kept] == [
        ("b", "agree", "clear"),
        ("a", "disagree", ""),
    ]
    assert reading_list.read(folder) == kept
    document = json.loads((folder / reading_list.FILE).read_text())
    assert "Not a medical device" in document["disclaimer"]
    assert document["entries"][0]["said"][0]["model"] == seen[0].view.model


def test_another_file_of_the_lists_name_is_left_alone(seen, tmp_path):
    path = tmp_path / reading_list.FILE
    path.write_text('{"mine": 1}')
    with pytest.raises(DataError, match="is no reading list") as refused:
        reading_list.keep(tmp_path, reading_list.entry("a", "drawn", "agree", "", seen))
    assert "\n" not in str(refused.value)
    assert path.read_text() == '{"mine": 1}'
    with pytest.raises(DataError, match="fewer letters"):
        reading_list.entry("a", "drawn", "agree", "x" * 3000, seen)


def test_a_report_asks_for_nothing_and_a_table_cannot_compute(desk, tmp_path):
    odd = replace(desk.cells[0], name="=1+1 <b>")
    assert list(saving.save(desk, [odd], screen.Look(), tmp_path)) == [1.0]
    page, table = ((tmp_path / name).read_text() for name in (saving.REPORT, saving.TABLE))
    assert "default-src 'none'" in page
    assert "Not a medical device" in page
    assert "Not a medical device" in table
    assert "<b>" not in page.replace("<body", "")
    assert "http" not in page.replace("http-equiv", "")
    assert "'=1+1" in table
    assert table.count("\n") == 1 + len(desk.question.views)
    with pytest.raises(DataError, match="choose 1 to"):
        next(saving.save(desk, [], screen.Look(), tmp_path))


def test_a_model_of_ones_own_is_asked_first(desk, tmp_path):
    clinic.save(a_model(), tmp_path / "mine")
    added = desk.add_model(tmp_path / "mine")
    assert added.models[added.question.views[0].model].card.classes == CLASSES
    assert len(added.question.views) == len(desk.question.views)
    with pytest.raises(ModelError, match="is open already"):
        added.add_model(tmp_path / "mine")
    with pytest.raises(ModelError, match="does not exist"):
        desk.add_model(tmp_path / "nothing")


def test_no_model_of_ones_own_can_pass_for_one_of_the_book(desk, tmp_path):
    model = next(iter(desk.models.values()))
    for unseen in ("\u00a0", "\u200b", "\u00ad", "\u3164", " "):
        card = model.card.model_copy(update={"arm": model.card.arm + unseen})
        clinic.save(replace(model, card=card), tmp_path / "mine")
        with pytest.raises(ModelError, match=r"'card.arm': it must be letters that can be seen"):
            desk.add_model(tmp_path / "mine")


def test_families_sources_and_places_turn_as_the_reader_does(desk):
    fields = desk.change_family("leukaemia fields")
    assert fields.classes == ["benign", "early", "pre", "pro"]
    assert fields.cell.kind == "drawn"
    assert fields.sources[0] == DRAWN_CELLS
    assert desk.turn_to(-1).cell is desk.cells[-1]
    assert desk.turn_to(len(desk.cells)).cell is desk.cells[0]
    with pytest.raises(DataError, match="open pictures of your own"):
        replace(desk, family="horses").open(DRAWN_CELLS)


def test_a_cell_of_each_class_stands_beside_the_answer(desk):
    found = cells.references(desk.examples)
    assert set(found) == set(desk.classes)
    assert desk.show([replace(desk.cell, known=None)]).examples == desk.examples  # beside own pictures, too
    assert found["neutrophil"] is desk.cells[0]
    assert screen.reference_row(found, SIZE).count("<img") == len(found)


@pytest.mark.real
def test_real_cells_can_be_opened_where_they_are(desk, real_data):
    for collection in cells.collections(desk.family):
        opened = cells.real(desk.family, collection)
        assert opened
        assert {cell.kind for cell in opened} == {"real"}
        assert {cell.known for cell in opened} <= set(desk.classes)


def test_files_of_one_name_in_two_folders_are_two_cells(pictures):
    (pictures / "inner").mkdir()
    Image.new("RGB", (20, 20)).save(pictures / "inner" / "0.png")
    opened, _ = cells.own([pictures])
    assert len({cell.name for cell in opened}) == 3
