"""What notebooks may rely on: checked numbers, frozen results, figures with words, two faces, one form."""

import ast
import base64
import io
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hemafl_book import results as frozen
from hemafl_book.build import normalise, tables
from hemafl_book.show import CheckError, check, check_table, figures, plots, results, widgets
from hemafl_book.show.recording import place_of
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError, HemaflError

# --- check ---------------------------------------------------------------------------------------


def test_check_shows_only_the_recorded_number(capsys):
    check("balanced accuracy", 0.8654321, 0.87, 0.02)
    assert capsys.readouterr().out == "balanced accuracy 0.87 (within 0.02)\n"


def test_check_shows_the_unit_and_the_digits_of_the_tolerance(capsys):
    check("bytes sent", 1201, 1200, 5, unit=" kB")
    check("loss", 0.1234, 0.12, 0.005)
    assert capsys.readouterr().out == "bytes sent 1200 kB (within 5 kB)\nloss 0.120 (within 0.005)\n"


@pytest.mark.parametrize("live", [0.9, 0.84, float("nan"), float("inf")])
def test_check_fails_when_reality_moves(live, capsys):
    with pytest.raises(CheckError, match="balanced accuracy"):
        check("balanced accuracy", live, 0.87, 0.02)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_check_refuses_a_tolerance_that_accepts_anything(tolerance):
    with pytest.raises(CheckError, match="tolerance"):
        check("recall", 0.5, 0.5, tolerance)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e3))
def test_check_accepts_exactly_what_lies_within_the_tolerance(live, recorded, tolerance):
    if abs(live - recorded) <= tolerance:
        check("x", live, recorded, tolerance)
    else:
        with pytest.raises(CheckError):
            check("x", live, recorded, tolerance)


def table(**changes):
    columns = {"aggregator": ["FedAvg", "FedMedian"], "recall": [0.71, 0.68], "n": [10, 12]}
    return pd.DataFrame({**columns, **changes})


def test_check_table_shows_the_recorded_table(capsys):
    recorded = {"aggregator": ["FedAvg", "FedMedian"], "recall": [0.7, 0.7], "n": [10, 12]}
    check_table("recall by aggregator", table(), recorded, 0.03)
    out = capsys.readouterr().out
    assert "within 0.03" in out
    assert "0.70" in out
    assert "0.71" not in out


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"recall": [0.71, 0.60]}, "recall"),
        ({"recall": [0.71, np.nan]}, "recall"),
        ({"n": [10, 13]}, "n"),
        ({"aggregator": ["FedAvg", "Krum"]}, "aggregator"),
    ],
)
def test_check_table_names_the_cell_that_moved(changes, word):
    with pytest.raises(CheckError, match=f"'{word}' of row"):
        check_table("recall by aggregator", table(**changes), table(), 0.02)


def test_check_table_refuses_another_shape_or_an_unknown_column():
    with pytest.raises(CheckError, match="rows or columns"):
        check_table("t", table().drop(columns="n"), table(), 0.02)
    with pytest.raises(CheckError, match="2 values"):
        check_table("t", table(), {"aggregator": ["FedAvg"], "recall": [0.7], "n": [1]}, 0.02)
    with pytest.raises(CheckError, match="no column 'F1'"):
        check_table("t", table(), table(), {"F1": 0.1})


# --- frozen results ------------------------------------------------------------------------------

PROTOCOL = {"rounds": 5, "aggregators": ["fedavg", "fedmedian"], "rate": 0.1}


def freeze(path, **changes):
    cohort = Provenance("barcelona", "somewhere", "CC BY 4.0", False, "ab" * 32)
    arguments = {
        "protocol": PROTOCOL, "data": [cohort], "seeds": range(3), "seconds": 12.34, "device": "2 CPU cores",
        "tables": {"main": table(recall=[0.71, np.nan])},
    }  # fmt: skip
    return frozen.freeze(path, **{**arguments, **changes})


def test_a_frozen_result_survives_the_disk(tmp_path):
    written = freeze(tmp_path / "r.json")
    read = frozen.load(tmp_path / "r.json")
    assert read == written
    assert read.seeds == [0, 1, 2]
    assert read.data == [{"name": "barcelona", "checksum": "ab" * 32}]
    assert {"python", "torch", "flwr", "hemafl_lib"} <= set(read.versions)
    pd.testing.assert_frame_equal(read.table("main"), table(recall=[0.71, np.nan]))
    with pytest.raises(DataError, match="choose one of main"):
        read.table("other")


def test_a_changed_protocol_makes_a_result_stale(tmp_path):
    result = freeze(tmp_path / "r.json")
    assert not frozen.stale(result, dict(reversed(PROTOCOL.items())))
    assert frozen.stale(result, {**PROTOCOL, "rounds": 6})


def test_a_damaged_or_edited_result_is_refused(tmp_path):
    path = tmp_path / "r.json"
    freeze(path)
    path.write_text(path.read_text().replace('"rounds": 5', '"rounds": 6'))
    with pytest.raises(DataError, match="edited by hand"):
        frozen.load(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="not a frozen result"):
        frozen.load(path)


def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "r.json"
    freeze(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        freeze(path, protocol={"rate": float("nan")})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_a_chapter_reads_results_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    freeze(tmp_path / "blood.json")
    assert list(results.table("blood", "main")["n"]) == [10, 12]
    line = results.provenance("blood")
    assert "\n" not in line
    for part in ("barcelona (abababab)", "seeds 0, 1, 2", "2 CPU cores, 12 s", "flwr 1."):
        assert part in line
    with pytest.raises(DataError, match="available: blood"):
        results.get("bone")


def test_the_folder_of_results_is_in_the_repository(repository):
    assert results.folder() == repository / "book" / "results"


# --- plots ---------------------------------------------------------------------------------------


def test_an_interactive_plot_has_two_stable_faces_that_agree():
    figure = go.Figure(go.Scatter(x=np.arange(3), y=np.array([0.5, np.nan, 0.7]), name="<b>"))
    bundle = plots.show(figure, "recall-by-round", "Recall rises.")._repr_mimebundle_()
    assert bundle == plots.show(figure, "recall-by-round", "Recall rises.")._repr_mimebundle_()
    assert bundle["text/plain"] == "recall-by-round: Recall rises."
    page = bundle["text/html"]
    assert 'id="recall-by-round"' in page
    assert "<figcaption>Recall rises.</figcaption>" in page
    content = json.loads(re.search(r'<script type="application/json">(.*)</script>', page)[1])
    live = bundle["application/vnd.plotly.v1+json"]
    assert live["data"][0]["y"] == [0.5, None, 0.7]
    assert content["series"] == [{"name": "<b>", "x": [0.0, 2.0], "y": [0.5, 0.7]}]
    assert "<b>" not in page


@pytest.mark.parametrize(("name", "alt"), [("", "a"), ("two words", "a"), ('x"y', "a"), ("fine", " ")])
def test_a_plot_needs_an_id_and_words(name, alt):
    with pytest.raises(HemaflError, match=r"id|alt"):
        plots.show(go.Figure(), name, alt)


def decode(picture):
    data, metadata = picture._repr_mimebundle_()
    return Image.open(io.BytesIO(base64.b64decode(data["image/png"]))), data["text/plain"], metadata


def test_a_picture_carries_its_words():
    figure, ax = plots.axes()
    ax.plot([0, 1], [0, 1])
    image, text, metadata = decode(plots.png(figure, "A rising line."))
    assert image.format == "PNG"
    assert text == "A rising line."
    assert metadata["image/png"]["alt"] == "A rising line."


def test_a_montage_shows_every_image():
    images = np.zeros((5, 3, 8, 8), np.uint8)
    images[:, 0] = 200
    image, _, _ = decode(plots.montage(images, list("abcde"), columns=3, alt="Five red squares."))
    red = np.asarray(image.convert("RGB")) == (200, 0, 0)
    columns = red.all(axis=2).any(axis=0).astype(int)
    rows = red.all(axis=2).any(axis=1).astype(int)
    assert (np.diff(columns) == 1).sum() + columns[0] == 3
    assert (np.diff(rows) == 1).sum() + rows[0] == 2


def test_a_map_lies_beside_its_image_and_never_over_it():
    images = np.zeros((2, 3, 8, 8), np.uint8)
    images[:, 0] = 255
    maps = np.zeros((2, 2, 2), np.float32)
    maps[:, 0, 0], maps[:, 1, 1] = 3.0, -3.0
    image, _, _ = decode(plots.beside_maps(images, maps, ["a", "b"], alt="Two red squares and their maps."))
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    none, most = (matplotlib.colormaps["cividis"](value, bytes=True)[:3] for value in (0.0, 1.0))
    red, dark, bright = ((pixels == colour).all(axis=1).sum() for colour in ((255, 0, 0), none, most))
    assert dark > 2 * bright > 0, "what speaks against the class is not shown as if it spoke for it"
    assert red > 3 * bright, "nothing lies over the image"


def test_images_without_their_maps_are_refused():
    with pytest.raises(HemaflError, match="2 images, 1 maps"):
        plots.beside_maps(np.zeros((2, 3, 8, 8), np.uint8), np.zeros((1, 2, 2)), ["a", "b"], alt="x")


def test_a_montage_refuses_what_is_no_batch_of_images():
    with pytest.raises(HemaflError, match="uint8"):
        plots.montage(np.zeros((2, 3, 8, 8)), alt="x")
    with pytest.raises(HemaflError, match="one title an image"):
        plots.montage(np.zeros((2, 3, 8, 8), np.uint8), ["a"], alt="x")


def test_series_stay_apart_without_colours():
    assert len(set(zip(plots.DASHES, plots.MARKERS, strict=True))) == len(plots.PALETTE)


# --- explorers -----------------------------------------------------------------------------------

CONTROLS = [
    widgets.Control("sites", "Hospitals", [2, 3, 5], "{} hospitals"),
    widgets.Control("alpha", "Evenness", [0.1, 1.0], "{:.1f}"),
]


def picture(setting):
    value = setting["sites"] * setting["alpha"] / 7
    return widgets.Chart(
        kind="bars",
        series=[widgets.Series("recall", ["A", "B"], [value, 0.5])],
        x_title="class",
        y_title="recall",
        y_range=(0, 1),
        summary=f"A reaches {value:.2f}.",
    )


def explorer(**changes):
    arguments = {"name": "skew", "controls": CONTROLS, "alt": "Recall by class."}
    recorded = widgets.record(CONTROLS, picture)
    return widgets.Explorer(**{**arguments, "recorded": recorded, **changes})


def move(face, **changes):
    """Move sliders of the live face by their key, as its view does."""
    setting = face.explorer.values(face.setting) | changes
    face.place = place_of(face.explorer, tuple(setting.values()), live=True)


def says(face):
    """What the live face tells its view, which shows it and reads it aloud."""
    return face.answer.get("text")


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in 10 s"
        time.sleep(0.01)


def test_the_static_face_holds_every_recorded_picture():
    page = widgets.static_face(explorer())
    assert page == widgets.static_face(explorer())
    content = json.loads(re.search(r'<script type="application/json">(.*)</script>', page)[1])
    assert content["controls"] == [["2 hospitals", "3 hospitals", "5 hospitals"], ["0.1", "1.0"]]
    assert set(content["pictures"]) == {f"{i},{j}" for i in range(3) for j in range(2)}
    shown = {**content["shared"], **content["pictures"]["2,1"]}
    assert shown["series"][0]["y"] == [0.7143, 0.5]
    assert shown["y_range"] == [0, 1]
    for place, control in enumerate(CONTROLS):
        assert f'<label for="skew-{control.key}">{control.label}</label>' in page
        assert f'id="skew-{control.key}" min="0" max="{len(control.values) - 1}"' in page, place
    assert 'aria-live="polite">A reaches 0.03.' in page


def test_the_start_is_written_as_the_slider_writes_it():
    control = [widgets.Control("noise", "Noise", [1.0, 2.0])]
    recorded = {(noise,): picture({"sites": 2, "alpha": noise}) for noise in (1.0, 2.0)}
    started = widgets.Explorer("noise", control, "Recall.", recorded, initial=(2,))
    assert '<output for="noise-noise">2.0</output>' in widgets.static_face(started)


def test_both_faces_come_in_one_output():
    bundle = widgets.show(explorer())._repr_mimebundle_()
    assert bundle["text/html"] == widgets.static_face(explorer())
    assert bundle["text/plain"] == "skew: Recall by class. A reaches 0.03."
    assert "model_id" in bundle["application/vnd.jupyter.widget-view+json"]


def test_the_live_face_has_the_recorded_pictures_and_asks_for_none_of_them():
    def never(setting):
        raise AssertionError(setting)

    face = widgets.LiveFace(explorer(compute=never))
    assert json.loads(json.dumps(face.content)) == stored(explorer())
    assert f"{face.markup.removesuffix('</section>')}<script" in widgets.static_face(explorer())
    move(face, sites=5, alpha=1.0)
    assert face.setting == (5, 1.0)
    assert face.answer == {}


def test_live_values_are_offered_and_computed_in_jupyter_only():
    controls = [replace(CONTROLS[0], live=(4, 8)), *CONTROLS[1:]]
    made = explorer(
        controls=controls, compute=lambda setting: replace(picture(setting), summary=f"{setting}")
    )
    face = widgets.LiveFace(made)
    assert face.content["controls"][0] == [f"{sites} hospitals" for sites in (2, 3, 4, 5, 8)]
    assert set(face.content["pictures"]) == {f"{i},{j}" for i in (0, 1, 3) for j in (0, 1)}
    move(face, sites=4)
    wait_for(lambda: says(face) == str({"sites": 4, "alpha": 0.1}))
    assert face.answer["place"] == "2,0"
    assert face.answer["picture"]["series"][0]["y"] == [0.05714, 0.5]
    assert "4 hospitals" not in widgets.static_face(made)


def test_live_values_without_a_computation_are_refused():
    with pytest.raises(HemaflError, match="has live values and no 'compute'"):
        explorer(controls=[replace(CONTROLS[0], live=(4,)), *CONTROLS[1:]])


def test_the_live_face_shows_only_the_latest_request():
    gate, computed = threading.Event(), []

    def slow(setting):
        computed.append(setting["sites"])
        gate.wait(10)
        return picture(setting)

    first = {(2, 0.1): picture({"sites": 2, "alpha": 0.1})}
    face = widgets.LiveFace(explorer(recorded=first, compute=slow))
    move(face, sites=3)
    wait_for(lambda: computed == [3])
    assert face.answer == {}
    move(face, alpha=1.0)
    move(face, sites=5)
    gate.set()
    wait_for(lambda: says(face) == "A reaches 0.71.")
    assert computed == [3, 5], "the request in between was cancelled before it began"


def test_the_live_face_says_why_a_setting_failed():
    def broken(setting):
        raise HemaflError("alpha must be positive & finite.")

    face = widgets.LiveFace(
        explorer(recorded={(2, 0.1): picture({"sites": 2, "alpha": 0.1})}, compute=broken)
    )
    move(face, sites=3)
    wait_for(lambda: says(face) == "This setting failed: alpha must be positive & finite.")


def first_only():
    return {(2, 0.1): picture({"sites": 2, "alpha": 0.1})}


def test_the_live_face_grows_while_a_setting_is_computed():
    step = threading.Semaphore(0)

    def growing(setting, request):
        for number in (1, 2):
            step.acquire(timeout=10)
            request.show(replace(picture(setting), summary=f"After round {number} of 3."))
        step.acquire(timeout=10)
        request.say("Round 3 of 3.")
        step.acquire(timeout=10)
        return picture(setting)

    face = widgets.LiveFace(explorer(recorded=first_only(), compute=growing))
    move(face, sites=5)
    shown = []
    for words in ("After round 1 of 3.", "After round 2 of 3.", "Round 3 of 3.", "A reaches 0.07."):
        step.release()
        wait_for(lambda words=words: says(face) == words)
        shown.append(face.answer["picture"]["summary"])
    assert shown[1] == shown[2], "the picture stays while there is only something to say"
    assert len(set(shown)) == 3


def test_an_outdated_computation_hears_of_it_and_leaves_no_trace():
    begun, ended = threading.Event(), threading.Event()

    def patient(setting, request):
        begun.set()
        assert request.cancelled.wait(10)
        request.show(replace(picture(setting), summary="Half a picture."))
        request.say("Still here.")
        ended.set()
        return replace(picture(setting), summary="Half a picture.")

    face = widgets.LiveFace(explorer(recorded=first_only(), compute=patient))
    move(face, sites=5)
    assert begun.wait(10)
    move(face, sites=2)
    assert ended.wait(10)
    assert face.answer == {}
    begun.clear()
    move(face, sites=5)
    assert begun.wait(10), "what a cancelled request returned is not kept"
    move(face, sites=2)


def test_an_outdated_computation_may_raise_what_it_likes():
    begun, stopped = threading.Event(), threading.Event()

    def run(setting, request):
        if setting["sites"] == 3:
            return picture(setting)
        begun.set()
        assert request.cancelled.wait(10)
        stopped.set()
        raise RuntimeError("stopped")

    face = widgets.LiveFace(explorer(recorded=first_only(), compute=run))
    move(face, sites=5)
    assert begun.wait(10)
    move(face, sites=3)
    assert stopped.wait(10)
    wait_for(lambda: says(face) == "A reaches 0.04.")


def test_a_computation_with_defaults_is_not_mistaken_for_one_that_takes_a_request():
    def compute(setting, scale=1):
        return picture({**setting, "sites": setting["sites"] * scale})

    face = widgets.LiveFace(explorer(recorded=first_only(), compute=compute))
    move(face, sites=5)
    wait_for(lambda: says(face) == "A reaches 0.07.")


def test_recording_needs_nobody_who_listens():
    def compute(setting, request):
        request.say("Round 1 of 1.")
        request.show(picture(setting))
        assert not request.cancelled.is_set()
        return picture(setting)

    assert widgets.record(CONTROLS, compute) == widgets.record(CONTROLS, picture)


def png_bytes(colour, size=8):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, "PNG")
    return buffer.getvalue()


CELLS = {"a monocyte": png_bytes((200, 150, 210)), "a lymphocyte": png_bytes((90, 60, 140))}
CELL_CONTROLS = [
    widgets.Control("cell", "Cell", list(CELLS)),
    widgets.Control("method", "Method", ["Grad-CAM", "occlusion"]),
]


def overlay(setting):
    side = {"Grad-CAM": 2, "occlusion": 3}[setting["method"]]
    relevance = np.linspace(0, 1, side * side).reshape(side, side)
    title = f"{setting['cell']}, {setting['method']}"
    return widgets.Overlay(
        image=CELLS[setting["cell"]], relevance=relevance, title=title, summary=f"{title}: bottom right."
    )


def saliency(**changes):
    recorded = widgets.record(CELL_CONTROLS, overlay)
    arguments = {"name": "saliency", "controls": CELL_CONTROLS, "alt": "Where.", "recorded": recorded}
    return widgets.Explorer(**{**arguments, **changes})


def stored(explorer):
    return json.loads(
        re.search(r'<script type="application/json">(.*)</script>', widgets.static_face(explorer))[1]
    )


def test_the_static_face_stores_every_cell_once_and_every_map_at_its_own_grid():
    content = stored(saliency())
    assert [base64.b64decode(url.split(",")[1]) for url in content["images"]] == list(CELLS.values())
    for (i, cell), (j, method) in itertools.product(enumerate(CELLS), enumerate(["Grad-CAM", "occlusion"])):
        shown = {**content["shared"], **content["pictures"][f"{i},{j}"]}
        expected = overlay({"cell": cell, "method": method})
        values = np.frombuffer(base64.b64decode(shown["relevance"]), np.uint8).reshape(shown["shape"])
        assert shown["image"] == i
        assert shown["title"] == expected.title
        np.testing.assert_allclose(values / 255, expected.relevance, atol=0.5 / 255 + 1e-9)


def test_a_computed_map_carries_its_own_cell():
    first = {("a monocyte", "Grad-CAM"): overlay({"cell": "a monocyte", "method": "Grad-CAM"})}
    face = widgets.LiveFace(saliency(recorded=first, compute=overlay))
    move(face, cell="a lymphocyte", method="occlusion")
    wait_for(lambda: says(face) == "a lymphocyte, occlusion: bottom right.")
    picture = face.answer["picture"]
    assert base64.b64decode(picture["image"].split(",")[1]) == CELLS["a lymphocyte"]
    assert picture["shape"] == [3, 3]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"image": b"GIF89a"}, "PNG"), ({"relevance": np.zeros(4)}, "shape"),
     ({"relevance": np.full((2, 2), np.nan)}, "finite"), ({"relevance": np.full((2, 2), 1.01)}, "leaves")],
)  # fmt: skip
def test_an_overlay_refuses_what_is_no_cell_or_no_map(changes, reason):
    arguments = {"image": png_bytes("red"), "relevance": np.zeros((2, 2)), "title": "t", "summary": "s"}
    with pytest.raises(HemaflError, match=reason):
        widgets.Overlay(**{**arguments, **changes})


def curves(values, y_range=(0, 1)):
    """A loud series and two quiet ones."""
    x = list(range(len(values)))
    series = [
        widgets.Series("global", x, values),
        *[widgets.Series("each hospital", x, values[::-1], quiet=True) for _ in range(2)],
    ]
    return widgets.Chart(
        kind="lines",
        series=series,
        x_title="round",
        y_title="accuracy",
        x_range=(0, 9),
        y_range=y_range,
        summary="s",
    )


def unpacked(content, place):
    """The numbers of a packed picture, read by the description of the format."""
    packing, shown = content["packing"], {**content["shared"], **content["pictures"][place]}
    codes = [packing["alphabet"].index(character) for character in shown["y"]]
    pairs = zip(codes[::2], codes[1::2], strict=True)
    numbers = [(packing["first"] + 64 * a + b) / 10 ** packing["digits"] for a, b in pairs]
    heads = packing["heads"][shown["head"]]
    lengths = [len(head["x"]) for head in heads for _ in range(3 if head.get("band") else 1)]
    return [numbers[sum(lengths[:i]) : sum(lengths[: i + 1])] for i in range(len(lengths))]


@settings(max_examples=30)
@given(st.floats(-500, 500), st.floats(0.01, 1e4), st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_packed_numbers_keep_an_eight_hundredth_of_their_range(low, width, shares):
    values = [low + width * share for share in shares]
    shown = curves(values, (low, low + width))
    control = [widgets.Control("k", "K", [1])]
    content = stored(widgets.Explorer("p", control, "alt", {(1,): shown}, packed=True))
    for series, numbers in zip(shown.series, unpacked(content, "0"), strict=True):
        np.testing.assert_allclose(numbers, series.y, atol=width / 800)


def test_packed_numbers_with_three_decimals_are_exact_and_small():
    control = [widgets.Control("k", "K", list(range(40)))]
    values = np.random.default_rng(0).random((40, 9)).round(3).tolist()
    recorded = {(k,): curves(values[k]) for k in range(40)}
    packed = widgets.Explorer("p", control, "alt", recorded, packed=True)
    for k in range(40):
        assert unpacked(stored(packed), f"{k}") == [values[k], values[k][::-1], values[k][::-1]]
    plain = widgets.Explorer("p", control, "alt", recorded)
    assert 3 * len(widgets.static_face(packed)) < len(widgets.static_face(plain))
    assert stored(plain)["pictures"]["3"]["series"][1]["quiet"] is True


def test_a_band_travels_behind_its_series_packed_and_plain():
    control = [widgets.Control("k", "K", [1])]
    series = widgets.Series("mean", [0, 1], [0.5, 0.6], band=([0.4, 0.5], [0.7, 0.8]))
    level = widgets.Series("chance", [0, 1], [0.25, 0.25], quiet=True)
    shown = replace(curves([0.5, 0.6]), series=[series, level])
    packed = stored(widgets.Explorer("p", control, "alt", {(1,): shown}, packed=True))
    assert unpacked(packed, "0") == [[0.5, 0.6], [0.4, 0.5], [0.7, 0.8], [0.25, 0.25]]
    (plain, quiet) = stored(widgets.Explorer("p", control, "alt", {(1,): shown}))["shared"]["series"]
    assert plain == {"name": "mean", "x": [0, 1], "band": True} | dict(
        y=[0.5, 0.6], low=[0.4, 0.5], high=[0.7, 0.8]
    )
    assert "band" not in quiet


def test_words_are_chosen_from_a_list_and_quantities_by_a_slider():
    controls = [widgets.Control("who", "Who", ["a", "b<"]), widgets.Control("alpha", "Alpha", [1, 2])]
    recorded = {s: picture({"sites": 1, "alpha": 1}) for s in widgets.settings(controls)}
    page = widgets.static_face(explorer(controls=controls, recorded=recorded, initial=("b<", 2)))
    assert '<option value="0">a</option><option value="1" selected>b&lt;</option>' in page
    assert page.count('type="range"') == 1


def test_a_prediction_is_asked_and_its_answer_travels_as_a_number():
    asked = widgets.Prediction("Which is < more?", ["less", "more"], "more", "It grows.", shows=(5, 1.0))
    page = widgets.static_face(explorer(prediction=asked))
    assert "Which is &lt; more?" in page
    assert '<button type="button">more</button>' in page
    content = json.loads(re.search(r'<script type="application/json">(.*)</script>', page)[1])
    assert content["prediction"] == {"right": 1, "because": "It grows.", "place": "2,1"}
    with pytest.raises(HemaflError, match="none of its answers"):
        replace(asked, right="as much")
    with pytest.raises(HemaflError, match="no setting"):
        explorer(prediction=replace(asked, shows=(4, 1.0)))
    alone = {(2, 0.1): picture({"sites": 1, "alpha": 1})}
    with pytest.raises(HemaflError, match="after its prediction"):
        explorer(prediction=asked, recorded=alone, compute=picture)


def test_packing_refuses_what_it_would_falsify():
    control = [widgets.Control("k", "K", [1, 2])]
    ranges = {(1,): curves([0.5]), (2,): curves([0.5], (0, 2))}
    with pytest.raises(HemaflError, match="one 'y_range'"):
        widgets.static_face(widgets.Explorer("p", control, "alt", ranges, packed=True))
    outside = dict.fromkeys([(1,), (2,)], curves([7.0]))
    with pytest.raises(HemaflError, match="outside its 'y_range'"):
        widgets.static_face(widgets.Explorer("p", control, "alt", outside, packed=True))
    with pytest.raises(HemaflError, match="needs charts"):
        widgets.static_face(saliency(packed=True))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"name": "two words"}, "id"), ({"alt": ""}, "alt"), ({"recorded": {}}, "nothing recorded"),
     ({"recorded": {(9, 9): picture({"sites": 1, "alpha": 1})}}, "no setting"),
     ({"recorded": {(2, 0.1): picture({"sites": 1, "alpha": 1})}}, "not recorded"),
     ({"initial": (4, 0.1)}, "no setting")],
)  # fmt: skip
def test_an_explorer_refuses_what_it_cannot_show(changes, reason):
    with pytest.raises(HemaflError, match=reason):
        explorer(**changes)


def test_an_explorer_refuses_to_make_the_page_heavy():
    def heavy(setting):
        x = list(range(9_000))
        series = widgets.Series("walk", x, [value * setting["alpha"] * setting["sites"] / 7 for value in x])
        return widgets.Chart(
            kind="lines",
            series=[series],
            x_title="x",
            y_title="y",
            x_range=(0, 9_000),
            y_range=(0, 1),
            summary="s",
        )

    with pytest.raises(HemaflError, match="300 kB"):
        widgets.static_face(explorer(recorded=widgets.record(CONTROLS, heavy)))


def test_pictures_refuse_what_cannot_be_drawn():
    with pytest.raises(HemaflError, match="2 x and 1 y"):
        widgets.Series("a", [1, 2], [1])
    with pytest.raises(HemaflError, match="not finite"):
        widgets.Series("a", [1, 2], [1, float("nan")])
    with pytest.raises(HemaflError, match="2 x and 1 y"):
        widgets.Series("a", [1, 2], [1, 2], band=([0, 1], [2]))
    line = widgets.Series("a", [1, 2], [1, -2])
    shown = {"x_title": "", "y_title": "", "y_range": (0, 1), "summary": ""}
    for kind, series, reason in [
        ("lines", [line], "x_range"),
        ("pie", [line], "'pie' is not known"),
        ("bars", [], "empty"),
        ("bars", [line, widgets.Series("b", [1, 3], [1, 2])], "same categories"),
        ("bars", [replace(line, quiet=True)], "quiet"),
        ("bars", [replace(line, band=([0, 0], [2, 2]))], "a band"),
        ("stacked", [line], "below 0"),
    ]:
        with pytest.raises(HemaflError, match=reason):
            widgets.Chart(kind=kind, series=series, **shown)


# --- normal form ---------------------------------------------------------------------------------


def code(source, *outputs, **metadata):
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)
    cell.execution_count = 17
    return cell


def output(**data):
    return nbformat.v4.new_output(
        "display_data", data={key.replace("_", "/"): value for key, value in data.items()}
    )


def test_normal_form_does_not_depend_on_who_ran_the_notebook():
    def run(stamp):
        stream = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("a\n", "b\n")]
        cell = code("print()", *stream, execution={"iopub.status.busy": stamp}, tags=["hide-input"])
        view = output(text_plain="w")
        view.data[normalise.WIDGET_VIEW] = {"model_id": stamp}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell("# T"), cell, code("w", view)]
        )
        notebook.metadata = nbformat.from_dict({"widgets": {"state": stamp}, "kernelspec": {"name": stamp}})
        return normalise.normal_form(notebook)

    first, second = run("1"), run("2")
    assert first == second
    assert normalise.normal_form(first) == first
    assert first.cells[1].metadata == {"tags": ["hide-input"]}
    assert [cell.get("execution_count") for cell in first.cells] == [None, 1, 2]
    assert first.cells[1].outputs[0].text == "a\nb\n"
    nbformat.validate(first)
    assert list(normalise.problems(first)) == []


def test_cell_ids_follow_the_content():
    one = normalise.normal_form(nbformat.v4.new_notebook(cells=[code("x"), code("y")]))
    two = normalise.normal_form(
        nbformat.v4.new_notebook(cells=[code("new"), code("x"), code("y"), code("x")])
    )
    assert [cell.id for cell in two.cells][1:3] == [cell.id for cell in one.cells]
    assert len({cell.id for cell in two.cells}) == 4


def test_the_words_of_a_picture_reach_the_built_page():
    shown = output(image_png="AAAA", text_plain="A line.")
    shown.metadata = nbformat.from_dict({"image/png": {"alt": "A line."}})
    notebook = normalise.normal_form(nbformat.v4.new_notebook(cells=[code("p", shown)]))
    assert notebook.cells[0].metadata.mystnb.image.alt == "A line."
    assert list(normalise.problems(notebook)) == []


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (
            code("1/0", nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])),
            "error",
        ),
        (code("x", output(image_jpeg="AAAA")), "JPEG"),
        (code("x", output(image_png="AAAA")), "alternative text"),
        (code("x", nbformat.v4.new_output("stream", text="read /home/ada/data.csv\n")), "output"),
        (code("x", nbformat.v4.new_output("stream", text="C:\\Users\\ada\n")), "output"),
        (code("x", nbformat.v4.new_output("stream", text="5/5 [00:01<00:00, 3.1it/s]\n")), "progress"),
        (code("open('/opt/x')", output(text_plain="x")), "path"),
        (code("x"), "no stored outputs"),
    ],
)
def test_a_notebook_with_what_no_page_should_hold_is_refused(cell, reason, tmp_path, capsys):
    path = tmp_path / "chapter.ipynb"
    normalise.write(path, nbformat.v4.new_notebook(cells=[cell]))
    assert normalise.main([str(path), "--check"]) == 1
    message = capsys.readouterr().err
    assert "chapter.ipynb" in message
    assert reason in message


def test_addresses_and_fractions_are_no_paths():
    text = "see https://docs.org/usr/lib/, and/or a/opt/b, </div>, 1/private/2"
    cell = code("x", nbformat.v4.new_output("stream", text=text))
    assert list(normalise.problems(normalise.normal_form(nbformat.v4.new_notebook(cells=[cell])))) == []


def test_check_changes_nothing_and_normalise_mends(tmp_path):
    path = tmp_path / "chapter.ipynb"
    nbformat.write(
        nbformat.v4.new_notebook(cells=[code("x", output(text_plain="x"), execution={"t": "1"})]), path
    )
    before = path.read_bytes()
    assert normalise.main([str(path), "--check"]) == 1
    assert path.read_bytes() == before
    assert normalise.main([str(path)]) == 0
    assert normalise.main([str(path), "--check"]) == 0


def test_a_missing_or_damaged_notebook_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.ipynb does not exist"):
        normalise.read(tmp_path / "absent.ipynb")
    (tmp_path / "bad.ipynb").write_text("{")
    with pytest.raises(DataError, match=r"bad\.ipynb is not a notebook"):
        normalise.read(tmp_path / "bad.ipynb")


def test_what_a_bar_leaves_behind_where_a_person_ran_the_notebook_goes():
    bar = output(text_plain="  0%|          | 0/3 [00:00<?, ?message/s]")
    bar.data[normalise.WIDGET_VIEW] = {"model_id": "1"}
    said = nbformat.v4.new_output("stream", text="done\n")
    notebook = normalise.normal_form(nbformat.v4.new_notebook(cells=[code("x", bar, said)]))
    assert notebook.cells[0].outputs == [said]
    assert list(normalise.problems(notebook)) == []


EXPLORING = """
from hemafl_book.show import widgets
from hemafl_lib.progress import bar

steps = list(bar(range(3), delay=0))
one = widgets.Chart(kind="bars", series=[widgets.Series("n", ["a"], [1])], x_title="x", y_title="y", y_range=(0, 1), summary="One.")
widgets.show(widgets.Explorer("one", [widgets.Control("k", "K", [1])], "A bar.", {(1,): one}))
"""  # noqa: E501


@pytest.mark.slow
def test_two_runs_and_the_normal_form_store_the_same_file_without_the_state_of_widgets(tmp_path, monkeypatch):
    monkeypatch.delenv("HEMAFL_PROGRESS", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    path = tmp_path / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(EXPLORING)]), path)
    stored = []
    for _ in range(2):
        run = [str(Path(sys.executable).with_name("jupyter")), "execute", "--inplace", str(path)]
        subprocess.run(run, check=True, capture_output=True)
        assert normalise.main([str(path)]) == 0
        stored.append(path.read_text())
    assert stored[0] == stored[1]
    (shown,) = normalise.read(path).cells[0].outputs
    assert sorted(shown.data) == ["text/html", "text/plain"]


# --- what a reader of the code meets -------------------------------------------------------------


def words_or_records(source):
    """The calls of a cell that hold a text for a picture, or a table that was recorded."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            name, values = (
                ast.unparse(call.func).split(".")[-1],
                [*call.args, *(k.value for k in call.keywords)],
            )
            texts = [v for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
            if name in PICTURES and any(len(text.value) > 60 for text in texts):
                yield name
            if name == "check_table" and any(isinstance(value, ast.Dict) for value in call.args):
                yield name


PICTURES = ("png", "montage", "beside_maps", "show")


def test_texts_of_pictures_and_recorded_tables_stand_in_folded_cells(repository):
    open_cells, folded = [], 0
    for path in sorted((repository / "book").rglob("*.ipynb")):
        for number, cell in enumerate(nbformat.read(path, 4).cells):
            if cell.cell_type == "code" and list(words_or_records(cell.source)):
                if "hide-input" in cell.metadata.get("tags", []):
                    folded += 1
                else:
                    open_cells.append(f"{path.name}: {number}")
    assert open_cells == []
    assert folded > 40


def test_no_table_of_the_book_has_an_empty_heading_an_identifier_or_a_nan(repository):
    seen = 0
    for path in sorted((repository / "book").rglob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                stored = output.get("data", {}).get("text/html", "")
                if "dataframe" in stored:
                    page = tables.shown(stored, cell.metadata.get("tags", []), "What it shows.", "table")
                    heads = re.findall(r"<th[^>]*>(.*?)</th>", page, re.DOTALL)
                    assert all(head.strip() and not re.search(r"\w_\w", head) for head in heads), path.name
                    assert not re.search(">(NaN|None)<", page), path.name
                    seen += 1
    assert seen > 100


def drawn_series(table, *tags):
    """The series of the figure that the page draws of a table."""
    page = tables.shown(table._repr_html_(), ["draw: what", *tags], "Caption.", "table")
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])[
        "series"
    ]


def test_a_drawn_table_without_a_caption_is_named_by_its_axis():
    table = pd.DataFrame({"score": [0.1, 0.2]}, index=pd.Index(["one", "two"], name="arm"))
    page = tables.shown(table._repr_html_(), ["draw: difference of accuracy"], "", "table")
    assert "<figcaption>Difference of accuracy." in page


def test_each_column_of_a_drawn_table_may_have_whiskers_and_numbered_rows_say_of_what():
    columns = {"seeds": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.3, 0.4], "n": [5, 6],
               "cells": [0.2, 0.3], "cells low": [0.1, 0.1], "cells high": [0.9, 0.8]}  # fmt: skip
    seeds, cells = drawn_series(pd.DataFrame(columns, index=pd.Index([3, 4], name="cohort")))
    assert (seeds["name"], seeds["low"], seeds["high"]) == ("seeds", [0.0, 0.1], [0.3, 0.4])
    assert (cells["name"], cells["low"], cells["high"]) == ("cells", [0.1, 0.1], [0.9, 0.8])
    assert seeds["y"] == ["cohort 3", "cohort 4"]


def test_a_tag_chooses_the_columns_that_are_drawn_and_an_unknown_one_is_refused():
    table = pd.DataFrame({"images": [651, 651], "first": [4, 20], "second": [4, 6]}, index=["a", "b"])
    assert [one["name"] for one in drawn_series(table)] == ["images", "first", "second"]
    assert [one["name"] for one in drawn_series(table, "columns: first | second")] == ["first", "second"]
    with pytest.raises(DataError, match="no table has the columns of the tag 'columns: third'"):
        drawn_series(table, "columns: third")


def test_the_picture_of_a_plotly_figure_keeps_its_points_and_leaves_out_what_is_missing():
    figure = go.Figure(layout={"xaxis": {"title": {"text": "accuracy"}}}).add_vline(0.25)
    figure.add_scatter(
        x=[0.5, np.nan],
        y=["a", "b"],
        name="joint",
        error_x={"array": [0.1, np.nan], "arrayminus": [0.2, np.nan]},
    )
    joint = {"name": "joint", "x": [0.5], "y": ["a"], "low": [0.3], "high": [0.6]}
    assert figures.read(figure) == {
        "kind": "intervals", "series": [joint], "x_title": "accuracy", "marks": [0.25],
    }  # fmt: skip
    lines = figures.read(go.Figure([go.Scatter(x=[1, 2, 3], y=[0.0, None, 1.0], name="a")]))
    assert lines["series"] == [{"name": "a", "x": [1.0, 3.0], "y": [0.0, 1.0]}]
    assert lines["y_range"] == pytest.approx([-0.04, 1.04])
    for other in (go.Figure([go.Bar(x=[1], y=[2])]), go.Figure([go.Scatter(x=["a"], y=[1])]), go.Figure()):
        with pytest.raises(HemaflError, match="the built page draws"):
            figures.read(other)
