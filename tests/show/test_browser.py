"""The built book in a real browser: no network, no errors, mathematics, sliders, small screens."""

import base64
import functools
import http.server
import io
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml
from builders.browser import MISSING, launched
from PIL import Image

from hemafl_book.build import normalise
from hemafl_book.explorers import attack as attack_explorer
from hemafl_book.explorers import heterogeneity as heterogeneity_explorer
from hemafl_book.explorers import partition as partition_explorer
from hemafl_book.explorers import saliency as saliency_explorer
from hemafl_book.show import federations, plots, results, widgets
from hemafl_book.show.recording import plain

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

CONTROLS = [
    widgets.Control("sites", "Hospitals", [2, 3, 5], "{} hospitals"),
    widgets.Control("alpha", "Evenness of the classes", [0.1, 0.5, 1.0], "{:.1f}"),
]


def bars(setting):
    value = setting["alpha"] / setting["sites"]
    return widgets.Chart(
        kind="bars",
        series=[
            widgets.Series("federated", ["lymphocyte", "monocyte"], [value, 0.625]),
            widgets.Series("isolated", ["lymphocyte", "monocyte"], [value / 2, 0.5]),
        ],
        x_title="class",
        y_title="recall",
        y_range=(0, 1),
        summary=f"{setting['sites']} hospitals reach a recall of {value:.3f} on lymphocytes.",
    )


def lines(setting):
    rounds = list(range(1, 7))
    rise = [1 - 0.6 ** (r * setting["rate"]) for r in rounds]
    return widgets.Chart(
        kind="lines",
        series=[
            widgets.Series("FedAvg", rounds, rise),
            widgets.Series("FedMedian", rounds, [0.9 * y for y in rise]),
        ],
        x_title="round",
        y_title="balanced accuracy",
        x_range=(0, 6),
        y_range=(0, 1),
        summary=f"After six rounds FedAvg reaches {rise[-1]:.3f}.",
    )


def png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


CELLS = {
    f"a {name} of a hospital with a long name, magnified": np.full((16, 16, 3), colour, np.uint8)
    for name, colour in {"lymphocyte": (90, 60, 140), "monocyte": (200, 150, 210)}.items()
}
PLACES = [
    widgets.Control("cell", "Cell", list(CELLS)),
    widgets.Control("method", "Method", ["Grad-CAM (8 x 8)", "integrated gradients (16 x 16)", "occlusion"]),
]


def overlay(setting):
    side = {"G": 8, "i": 16, "o": 5}[setting["method"][0]]
    rows, columns = np.indices((side, side))
    relevance = (rows + 2 * columns) / (3 * (side - 1))
    title = f"{setting['method']} of {setting['cell']}."
    summary = f"The relevance grows to the bottom right over {side} squares."
    return widgets.Overlay(
        image=png_bytes(CELLS[setting["cell"]]), relevance=relevance, title=title, summary=summary
    )


HOLDINGS = [widgets.Control("alpha", "Dirichlet's alpha", [0.1, 1.0, 10.0], "{:g}")]


def stacked(setting):
    hospitals = [f"hospital {k}" for k in range(1, 21)]
    counts = [[round(20 * setting["alpha"] / (k + c)) for k in range(1, 21)] for c in range(1, 4)]
    return widgets.Chart(
        kind="stacked",
        series=[
            widgets.Series(name, hospitals, y)
            for name, y in zip(("lymphocyte", "monocyte", "neutrophil"), counts, strict=True)
        ],
        x_title="hospital",
        y_title="cells",
        y_range=(0, 250),
        summary=f"The first hospital holds {counts[0][0]} lymphocytes.",
    )


CLIENTS = [widgets.Control("clients", "Clients", [2, 20])]


def many(setting):
    rounds = list(range(5))
    series = [
        widgets.Series("each client", rounds, [round(r * k / 100, 3) for r in rounds], quiet=True)
        for k in range(1, setting["clients"] + 1)
    ]
    rise = [0.123, 0.345, 0.567, 0.6, 0.61]
    return widgets.Chart(
        kind="lines",
        series=[*series, widgets.Series("global", rounds, rise)],
        x_title="round",
        y_title="balanced accuracy",
        x_range=(0, 4),
        y_range=(0, 1),
        summary=f"{setting['clients']} clients.",
    )


ARMS = pd.DataFrame(
    [
        ("centralised, a long name of an arm", "joint", 0.7, 0.6, 0.8),
        ("FedAvg", "joint", 0.65, 0.5, 0.75),
        ("FedAvg", "unseen", 0.6, np.nan, np.nan),
        ("centralised, a long name of an arm", "unseen", np.nan, np.nan, np.nan),
    ],
    columns=["arm", "where", "mean", "low", "high"],
)
TABLE = pd.DataFrame(
    {"worst_value": ["0.50 [0.40, 0.60]", "0.60 [0.55, 0.65]"], "seeds": [np.nan, 5.0]},
    index=pd.Index(["isolated", "FedAvg"], name="arm"),
)


def sample_notebook() -> nbformat.NotebookNode:
    """A chapter with everything that the notebook room can show."""
    rate = [widgets.Control("rate", "Learning rate", [0.25, 0.5, 1.0], "{:.2f}")]
    figure = go.Figure(
        [go.Scatter(x=[1, 2, 3], y=[0.4, 0.6, 0.7], name=name) for name in ("FedAvg", "FedMedian")]
    )
    explorers = [
        widgets.Explorer("skew", CONTROLS, "Recall by class.", widgets.record(CONTROLS, bars)),
        widgets.Explorer("rounds", rate, "Accuracy by round.", widgets.record(rate, lines)),
        widgets.Explorer("places", PLACES, "Where the model looked.", widgets.record(PLACES, overlay)),
        widgets.Explorer("holdings", HOLDINGS, "Who holds what.", widgets.record(HOLDINGS, stacked)),
        widgets.Explorer(
            "many", CLIENTS, "Accuracy by round.", widgets.record(CLIENTS, many), initial=(20,), packed=True
        ),
    ]
    shown = [
        *map(widgets.show, explorers),
        plots.show(
            figure.update_layout(xaxis_title="round"), "recall-by-round", "Recall rises over three rounds."
        ),
    ]
    arms = plots.intervals(
        ARMS, ["joint", "unseen"], "balanced accuracy at a hospital that nobody trained on"
    )
    shown.append(plots.show(arms, "recall-by-arm", "Recall of two arms, with intervals."))
    cells = [
        nbformat.v4.new_markdown_cell(
            "# Sample\n\n$$\\bar w = \\sum_k \\frac{n_k}{n} w_k$$\n\nand $n = \\sum_k n_k$."
        )
    ]
    for item in shown:
        output = nbformat.v4.new_output("display_data", data=item._repr_mimebundle_())
        cells.append(nbformat.v4.new_code_cell("show()", outputs=[output]))
    for tags in ([], ["draw: recall"], ["fold"]):
        output = nbformat.v4.new_output("display_data", data={"text/html": TABLE._repr_html_()})
        metadata = {"tags": tags, "mystnb": {"figure": {"caption": "Recall of the worst."}}}
        cells.append(nbformat.v4.new_code_cell("table", outputs=[output], metadata=metadata))
    data, metadata = plots.png(plots.axes()[0], "Empty axes.")._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
    cells.append(nbformat.v4.new_code_cell("picture" + " + 1" * 60, outputs=[output]))
    cells.append(nbformat.v4.new_markdown_cell(EXPOSED))
    for marked in (cells[0], cells[6], cells[-1]):
        marked.metadata["tags"] = ["slide"]
    return normalise.normal_form(nbformat.v4.new_notebook(cells=cells))


EXPOSED = """## What the paper does not say

### a. With two clients, the median is the mean

A median of two is their mean. Nobody gains.
"""


@pytest.fixture(scope="session")
def html(repository, tmp_path_factory) -> Path:
    """The book with one more page, built once from committed outputs.

    The page is added by exactly the files that CONTRIBUTING.md names for it.
    """
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(repository / "book", root / "book", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(repository / "_config.yml", root)
    for folder in ("deploy", "hemafl_book/show/assets", "tests"):
        shutil.copytree(repository / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    toc = yaml.safe_load((repository / "_toc.yml").read_text())
    toc["parts"].append({"caption": "Sample", "chapters": [{"file": "book/papers/sample"}]})
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    nbformat.write(sample_notebook(), root / "book" / "papers" / "sample.ipynb")
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        "--warningiserror",
        "--keep-going",
        ".",
    ]
    build = subprocess.run(
        command, cwd=root, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert build.returncode == 0, build.stdout[-2000:] + build.stderr[-2000:]
    return root / "_build" / "html"


@pytest.fixture(scope="session")
def pages(html) -> list[str]:
    return sorted(str(path.relative_to(html)) for path in (html / "book").rglob("*.html"))


@pytest.fixture(scope="session")
def served(html):
    """The address of the book on a server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=html))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session", params=["file", "http"])
def address(request, html):
    return html.as_uri() if request.param == "file" else request.getfixturevalue("served")


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


class Visit:
    """A page, and everything that it asked for and complained about."""

    def __init__(self, chromium, viewport):
        self.page = chromium.new_page(viewport=viewport)
        self.requests, self.stopped, self.complaints = [], [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", self.note_failure)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: message.type == "error" and self.complaints.append(message.text)
        )

    def open(self, address, name):
        self.page.goto(f"{address}/{name}")
        self.page.wait_for_function(
            "!window.MathJax || !MathJax.startup || MathJax.startup.promise !== undefined"
        )
        return self.page

    def note_failure(self, request):
        self.complaints.append(f"failed: {request.url}")
        if "csp" in (request.failure or "").lower():  # told, and stopped before it went anywhere
            self.stopped.append(request.url)

    def away(self, address):
        """The requests that left the book."""
        at_home = (address, "data:", "blob:")
        return [url for url in self.requests if not url.startswith(at_home) and url not in self.stopped]


@pytest.fixture
def visit(chromium):
    visits = []

    def start(viewport=DESKTOP):
        visits.append(Visit(chromium, viewport))
        return visits[-1]

    yield start
    for each in visits:
        each.page.close()


class Looked:
    """What one page asked for, complained about and showed when it was opened, and how wide it was."""

    def __init__(self, chromium, address, name, viewport):
        seen = Visit(chromium, viewport)
        page = seen.open(address, name)
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_load_state("networkidle")
        self.away, self.complaints, self.requests = seen.away(address), seen.complaints, seen.requests
        self.width = page.evaluate("document.documentElement.scrollWidth")
        self.wordless = page.locator("article img:not([alt]), article img[alt='']").count()
        self.ids = page.evaluate("[...document.querySelectorAll('article [id]')].map((e) => e.id)")
        page.close()


@pytest.fixture(scope="module")
def from_a_stick(chromium, html, pages):
    """Every page, opened from a file on a telephone."""
    return {name: Looked(chromium, html.as_uri(), name, PHONE) for name in pages}


@pytest.fixture(scope="module")
def from_a_server(chromium, served, pages):
    """Every page, opened from a server on a large screen."""
    return {name: Looked(chromium, served, name, DESKTOP) for name in pages}


def test_no_page_asks_for_anything_outside_the_book(from_a_stick, from_a_server):
    assert len(from_a_stick) >= 4
    for opened in (from_a_stick, from_a_server):
        assert {name: looked.away for name, looked in opened.items() if looked.away} == {}
        assert {name: looked.complaints for name, looked in opened.items() if looked.complaints} == {}


@pytest.mark.survives(
    "Somebody's markup reaches a page of the built book and tries to run a script or to call another host",
    "Chromium refuses both, from a memory stick and from a server",
)
def test_a_page_refuses_what_it_was_not_built_with(address, visit):
    seen = visit()
    page = seen.open(address, "book/papers/sample.html")
    refused = page.evaluate("""async () => {
        const seen = [];
        document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.owned = true";
        document.body.append(script);
        const picture = document.createElement("img");
        picture.setAttribute("onerror", "window.owned = true");
        picture.src = "https://hospital.example/pixel.png";
        document.body.append(picture);
        await fetch("https://hospital.example/").catch(() => null);
        await new Promise((resolve) => setTimeout(resolve, 300));
        return [window.owned === undefined, [...new Set(seen)].sort()];
    }""")
    assert refused == [True, ["connect-src", "img-src", "script-src-attr", "script-src-elem"]]
    assert seen.away(address) == []


def test_the_search_finds_a_page_and_shows_where_the_word_stands(address, visit):
    seen = visit()
    page = seen.open(address, "search.html?q=aggregator")
    excerpt = page.locator("ul.search li p.context").first
    excerpt.wait_for()
    assert "aggregator" in excerpt.inner_text().lower()
    page.get_by_text("Search finished").wait_for()
    assert page.locator("ul.search li:not(:has(p.context, span))").count() == 0
    assert seen.complaints == []


def test_the_heaviest_page_is_at_most_6_mb(from_a_stick):
    """All that a page asks for, whatever is cached: it may come from a slow stick."""
    weights = {name: weight(looked.requests) for name, looked in from_a_stick.items()}
    assert max(weights.values()) <= 6, weights


def weight(requests):
    """The megabytes of the files that were asked for."""
    asked = {Path(url2path(url)) for url in requests if url.startswith("file:")}
    return sum(path.stat().st_size for path in asked) / 1e6


def url2path(url):
    return urllib.parse.unquote(urllib.parse.urlparse(url).path)


def test_every_page_fits_a_telephone(from_a_stick):
    wide = {name: looked.width for name, looked in from_a_stick.items() if looked.width > PHONE["width"]}
    assert wide == {}


def test_every_picture_has_words_and_every_id_is_unique(from_a_server):
    for name, looked in from_a_server.items():
        assert looked.wordless == 0, name
        assert [each for each, count in Counter(looked.ids).items() if count > 1] == [], name


def test_no_page_carries_more_than_300_kb_of_recordings(html, pages):
    for name in pages:
        content = (html / name).read_text(encoding="utf-8")
        scripts = re.findall(r'<script type="application/json">(.*?)</script>', content, re.DOTALL)
        assert sum(len(script.encode()) for script in scripts) <= widgets.MAX_BYTES, name


def test_a_page_is_printed_with_its_figures(html, tmp_path):
    """The program refuses a page of which a figure is not drawn."""
    page = html / "book" / "papers" / "sample.html"
    command = [sys.executable, "-m", "hemafl_book.build.pdf", str(page), str(tmp_path / "sample.pdf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_mathematics_is_typeset(address, visit):
    page = visit().open(address, "book/papers/sample.html")
    page.wait_for_selector("mjx-container svg")
    assert page.locator("mjx-container").count() == 2
    assert page.locator("mjx-merror").count() == 0


def shown_numbers(explorer):
    explorer.locator("details").evaluate("(details) => { details.open = true; }")
    rows = explorer.locator("tbody tr").all()
    return {
        row.locator("th").inner_text(): [float(x) if x else None for x in row.locator("td").all_inner_texts()]
        for row in rows
    }


def expected_numbers(picture):
    places = picture.series[0].x
    return {str(place): [float(f"{s.y[i]:.4g}") for s in picture.series] for i, place in enumerate(places)}


def slide_by_mouse(page, slider, share):
    """Press on the slider's track at a share of its width."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 4 + share * (box["width"] - 8), box["y"] + box["height"] / 2)


def test_sliders_move_by_keyboard_to_the_recorded_numbers(address, visit):
    page = visit().open(address, "book/papers/sample.html")
    explorer = page.locator("#skew")
    assert shown_numbers(explorer) == expected_numbers(bars({"sites": 2, "alpha": 0.1}))
    page.get_by_label("Hospitals").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    after = bars({"sites": 3, "alpha": 1.0})
    assert shown_numbers(explorer) == expected_numbers(after)
    assert explorer.locator("[aria-live]").inner_text() == after.summary
    assert explorer.locator("output").all_inner_texts() == ["3 hospitals", "1.0"]
    assert page.get_by_label("Hospitals").get_attribute("aria-valuetext") == "3 hospitals"
    assert explorer.locator("svg[role=img] rect").count() == 4


def test_sliders_move_by_mouse_on_a_telephone(html, visit):
    page = visit(PHONE).open(html.as_uri(), "book/papers/sample.html")
    slide_by_mouse(page, page.get_by_label("Learning rate"), 1)
    after = lines({"rate": 1.0})
    explorer = page.locator("#rounds")
    assert shown_numbers(explorer) == expected_numbers(after)
    assert explorer.locator("[aria-live]").inner_text() == after.summary
    assert explorer.locator("svg[role=img] polyline").count() == 2


def test_recorded_pictures_are_drawn_to_scale(html, visit):
    page = visit().open(html.as_uri(), "book/papers/sample.html")
    heights = [float(bar.get_attribute("height")) for bar in page.locator("#skew svg[role=img] rect").all()]
    values = [y for series in bars({"sites": 2, "alpha": 0.1}).series for y in series.y]
    scale = heights[1] / values[1]
    assert heights == pytest.approx([value * scale for value in values])


def expected_pixels(picture, cell, opacity, smooth, side):
    """The overlay as ``uint8[side, side, 3]``, by pillow and matplotlib."""
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    size = (side, side)
    relevance = np.asarray(Image.fromarray(picture.relevance.astype(np.float32)).resize(size, method))
    below = np.asarray(Image.fromarray(cell).resize(size, Image.Resampling.NEAREST))
    above = 255 * matplotlib.colormaps["viridis"](relevance)[..., :3]
    return (1 - opacity) * below + opacity * above


def assert_shows(explorer, setting, opacity, smooth):
    """The canvas holds the recorded map over the recorded cell, to within rounding."""
    picture = overlay(setting)
    canvas = explorer.locator("canvas")
    png = base64.b64decode(canvas.evaluate("(canvas) => canvas.toDataURL('image/png')").split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(float)
    assert (pixels[..., 3] == 255).all()
    expected = expected_pixels(picture, CELLS[setting["cell"]], opacity, smooth, len(pixels))
    np.testing.assert_allclose(pixels[..., :3], expected, atol=4)
    assert explorer.locator("[aria-live]").inner_text() == picture.summary
    assert canvas.get_attribute("aria-label") == f"Where the model looked. {picture.title}"


def test_a_cell_and_its_map_follow_the_keyboard(address, visit):
    seen = visit()
    page = seen.open(address, "book/papers/sample.html")
    explorer = page.locator("#places")
    explorer.locator("canvas").wait_for()
    cells, methods = (control.values for control in PLACES)
    assert_shows(explorer, {"cell": cells[0], "method": methods[0]}, 0.5, smooth=False)
    explorer.get_by_label("Cell").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert_shows(explorer, {"cell": cells[1], "method": methods[2]}, 0.5, smooth=False)
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    chosen = explorer.locator("select").evaluate_all(
        "(lists) => lists.map((list) => list.selectedOptions[0].text)"
    )
    assert [*chosen, *explorer.locator("output").all_inner_texts()] == [cells[1], methods[0], "100 %"]
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert explorer.get_by_role("checkbox").is_checked()
    assert_shows(explorer, {"cell": cells[1], "method": methods[0]}, 1.0, smooth=True)
    assert seen.complaints == []
    assert seen.away(address) == []


def test_a_cell_and_its_map_follow_the_mouse_on_a_telephone(html, visit):
    page = visit(PHONE).open(html.as_uri(), "book/papers/sample.html")
    explorer = page.locator("#places")
    explorer.locator("canvas").wait_for()
    cells, methods = (control.values for control in PLACES)
    explorer.get_by_label("Cell").select_option(cells[1])
    explorer.get_by_label("Method").select_option(methods[1])
    slide_by_mouse(page, explorer.get_by_label("Opacity of the map"), 0)
    setting = {"cell": cells[1], "method": methods[1]}
    assert_shows(explorer, setting, 0, smooth=False)
    slide_by_mouse(page, explorer.get_by_label("Opacity of the map"), 1)
    explorer.get_by_role("checkbox").click()
    assert_shows(explorer, setting, 1, smooth=True)
    inside = explorer.evaluate(
        """(section) => [...section.querySelectorAll("*")].every((element) =>
             element.getBoundingClientRect().right <= section.getBoundingClientRect().right)"""
    )
    assert inside, "long words stay inside the explorer"


def test_the_summary_is_not_read_again_when_only_the_opacity_changes(html, visit):
    page = visit().open(html.as_uri(), "book/papers/sample.html")
    explorer = page.locator("#places")
    explorer.locator("canvas").wait_for()
    explorer.locator("[aria-live]").evaluate(
        """(region) => { window.spoken = 0; new MutationObserver(() => { window.spoken += 1; })
             .observe(region, { childList: true, characterData: true, subtree: true }); }"""
    )
    explorer.get_by_label("Opacity of the map").press("End")
    assert explorer.locator("output").last.inner_text() == "100 %"
    assert page.evaluate("window.spoken") == 0
    explorer.get_by_label("Method").press("End")
    assert page.evaluate("window.spoken") == 1


def test_stacked_bars_follow_keyboard_and_mouse_and_are_drawn_to_scale(html, visit):
    page = visit(PHONE).open(html.as_uri(), "book/papers/sample.html")
    explorer = page.locator("#holdings")
    slider = explorer.get_by_label("Dirichlet's alpha")
    slide_by_mouse(page, slider, 0.5)
    assert shown_numbers(explorer) == expected_numbers(stacked({"alpha": 1.0}))
    slider.press("ArrowRight")
    after = stacked({"alpha": 10.0})
    assert shown_numbers(explorer) == expected_numbers(after)
    assert explorer.locator("[aria-live]").inner_text() == after.summary
    bars = explorer.locator("svg[role=img] rect").evaluate_all(
        """(bars) => bars.map((bar) => ["x", "y", "height", "fill-opacity"]
             .map((key) => Number(bar.getAttribute(key))))"""
    )
    assert len(bars) == 60
    values = [[series.y[i] for series in after.series] for i in range(20)]
    scale = bars[0][2] / values[0][0]
    for i, segments in enumerate(values):
        drawn = bars[3 * i : 3 * i + 3]
        assert len({x for x, *_ in drawn}) == 1
        assert [height for _, _, height, _ in drawn] == pytest.approx([scale * value for value in segments])
        for (_, below, *_), (_, y, height, _) in itertools.pairwise(drawn):
            assert y + height == pytest.approx(below)
    assert len({opacity for *_, opacity in bars[:3]}) == 3
    assert explorer.locator("svg[role=img] text", has_text=re.compile(r"^hospital \d")).count() < 20


def test_packed_numbers_of_many_clients_come_back_exactly(address, visit):
    page = visit().open(address, "book/papers/sample.html")
    explorer = page.locator("#many")
    assert shown_numbers(explorer) == expected_numbers(many({"clients": 20}))
    quiet = explorer.locator("svg[role=img] polyline[stroke-width='1']")
    assert quiet.count() == 20
    assert explorer.locator(".hemafl-legend li").all_inner_texts() == ["global", "each client"]
    assert explorer.locator("svg[role=img] polyline").last.get_attribute("stroke") == plots.PALETTE[0]
    assert explorer.locator("th", has_text="each client 20").count() == 1
    explorer.get_by_label("Clients").press("Home")
    assert shown_numbers(explorer) == expected_numbers(many({"clients": 2}))
    assert quiet.count() == 2
    slide_by_mouse(page, explorer.get_by_label("Clients"), 1)
    assert quiet.count() == 20


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_a_figure_is_drawn_for_its_width_and_says_its_numbers(html, visit, viewport):
    seen = visit(viewport)
    page = seen.open(html.as_uri(), "book/papers/sample.html")
    for name, marks in (("recall-by-round", 6), ("recall-by-arm", 3)):
        figure = page.locator(f"#{name}")
        chart = figure.locator("svg[role=img]")
        assert chart.get_attribute("aria-label") == figure.locator("figcaption").inner_text()
        assert chart.locator("path[transform]").count() == marks
        apart = figure.evaluate(INSIDE_AND_APART)
        assert apart == []
    figure = page.locator("#recall-by-arm")
    figure.locator("summary").click()
    cells = figure.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert cells == ["centralised, a long name of an arm", "0.7 (0.6 to 0.8)", ""]
    assert not [url for url in seen.requests if "plotly" in url]
    assert seen.complaints == []


INSIDE_AND_APART = """(figure) => {
  const box = figure.getBoundingClientRect();
  const words = [...figure.querySelectorAll("svg[role=img] text")]
    .map((word) => [word.textContent, word.getBoundingClientRect()]);
  const out = words.filter(([, at]) => at.left < box.left - 1 || at.right > box.right + 1);
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const pairs = words.filter(([, a], i) => words.slice(i + 1).some(([, b]) => over(a, b)));
  return [...out, ...pairs].map(([word]) => word);
}"""
"""The words of a chart that leave it or meet another word."""


def test_without_scripts_the_page_still_says_what_the_figures_show(html, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((html / "book" / "papers" / "sample.html").as_uri())
    text = page.locator("article").inner_text()
    assert bars({"sites": 2, "alpha": 0.1}).summary in text
    assert "Recall rises over three rounds." in text
    context.close()


CONTRAST = """
(element) => {
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const brightness = ([r, g, b]) => {
    const [red, green, blue] = [r, g, b].map((value) => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  // The colour behind an element: grounds that let something through lie over what is behind them.
  const behind = (one) => {
    if (one === null) return [255, 255, 255];
    const [r, g, b, opacity = 1] = parts(getComputedStyle(one).backgroundColor);
    if (opacity === 1) return [r, g, b];
    const below = behind(one.parentElement);
    return [r, g, b].map((value, i) => opacity * value + (1 - opacity) * below[i]);
  };
  const style = getComputedStyle(element);
  const words = parts(element instanceof SVGElement ? style.fill : style.color);
  const [dark, light] = [words, behind(element)].map(brightness).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_of_figures_stand_out_from_the_ground_by_day_and_by_night(html, visit, theme):
    page = visit().open(html.as_uri(), "book/papers/sample.html")
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    for words in (
        "#skew label",
        "#skew output",
        "#skew .hemafl-summary",
        "#skew svg[role=img] text",
        "figcaption",
        "#recall-by-arm svg[role=img] text",
        "table.dataframe th",
        "button.hemafl-way",
        ".hemafl-map a",
    ):
        assert page.locator(words).first.evaluate(CONTRAST) >= 4.5, words
    page.goto(f"{html.as_uri()}/{CHAPTER_2}")
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    for words in (".hemafl-claims a", ".hemafl-claims td", ".exercise a.reference"):
        assert page.locator(words).first.evaluate(CONTRAST) >= 4.5, words


def test_a_table_has_words_as_headings_and_is_drawn_or_folded_as_its_cell_says(html, visit):
    page = visit().open(html.as_uri(), "book/papers/sample.html")
    tables = page.locator("article table.dataframe")
    assert tables.count() == 3
    heads = tables.first.locator("thead th").all_inner_texts()
    assert heads == ["arm", "worst value", "seeds"]
    assert tables.first.locator("td").all_inner_texts() == [
        "0.50 [0.40, 0.60]",
        "–",
        "0.60 [0.55, 0.65]",
        "5.0",
    ]
    assert page.locator("article th:empty").count() == 0
    assert [tables.nth(number).is_visible() for number in range(3)] == [True, False, False]
    drawn = page.locator("figure.hemafl-plot", has_text="Recall of the worst.")
    assert drawn.locator("svg[role=img] line[stroke-width='2']").count() == 2, "a whisker an arm"


def test_pictures_have_a_visible_caption_and_a_map_opens_what_a_paper_does_not_say(html, visit):
    page = visit().open(html.as_uri(), "book/papers/sample.html")
    assert page.locator("figure:has(img[alt='Empty axes.']) figcaption").inner_text() == "Empty axes."
    place = page.locator("ul.hemafl-map li")
    assert place.inner_text().split("\n") == [
        "a. With two clients, the median is the mean",
        "A median of two is their mean.",
    ]
    target = place.locator("a").get_attribute("href")
    assert page.locator(f"section{target} h3").count() == 1


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_no_line_of_code_is_wider_than_its_column_and_what_scrolls_says_so(html, visit, viewport):
    page = visit(viewport).open(html.as_uri(), CHAPTER_2)
    page.wait_for_selector("mjx-container svg")
    page.wait_for_function("document.querySelector('[data-scrolls]') !== null || innerWidth > 600")
    silent = page.evaluate("""() => [...document.querySelectorAll("article *")].filter((one) =>
        ["auto", "scroll"].includes(getComputedStyle(one).overflowX)
        && one.scrollWidth > one.clientWidth + 1
        && (one.tagName === "PRE" || one.tabIndex !== 0
          || getComputedStyle(one, "::before").content === "none"))
        .map((one) => one.outerHTML.slice(0, 80))""")
    assert silent == []


def test_on_a_telephone_each_claim_begins_with_its_verdict(html, visit):
    page = visit(PHONE).open(html.as_uri(), CHAPTER_2)
    for row in page.locator(".hemafl-claims tbody tr").all():
        boxes = [cell.bounding_box() for cell in row.locator("td").all()]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"] for box in boxes)
        assert boxes[0]["y"] == min(box["y"] for box in boxes)


@pytest.fixture(scope="session")
def decks(repository, html):
    """The marked cells of each notebook that has any, by the address of its deck."""
    notebooks = sorted([*(repository / "book").rglob("*.ipynb"), *(html / "_sources").rglob("sample.ipynb")])
    marked = {
        path: [
            cell
            for cell in nbformat.read(path, as_version=4).cells
            if "slide" in cell.metadata.get("tags", [])
        ]
        for path in notebooks
        if ".ipynb_checkpoints" not in path.parts
    }
    return {f"{path.stem}-slides.html": cells for path, cells in marked.items() if cells}


def test_a_deck_shows_what_its_marked_cells_show_and_no_code(html, decks):
    made = {path.name: path.read_text(encoding="utf-8") for path in (html / "book").rglob("*-slides.html")}
    assert sorted(made) == sorted(decks)
    guide = (html / "book" / "course" / "instructor_guide.html").read_text(encoding="utf-8")
    for name, cells in decks.items():
        deck, page = made[name], (html / "book").rglob(name.replace("-slides", ""))
        assert f'href="{name}"' in next(page).read_text(encoding="utf-8") or "sample" in name
        assert f'{name}"' in guide or "sample" in name
        shown = [cell for cell in cells if cell.cell_type == "code"]
        assert deck.count("cell_output docutils") == len(shown), name
        assert 'class="highlight' not in deck
        assert 'href="#' not in deck, "a link within the page leads back to it"
        for heading in re.findall(r"^#+ ([\w ,]+)$", "\n".join(cell.source for cell in cells), re.MULTILINE):
            assert f">{heading}<" in deck or heading == "References", heading


def test_slides_are_stepped_through_by_keyboard_and_stay_at_home(html, decks, visit):
    seen = visit()
    page = seen.open(html.as_uri(), "book/papers/sample-slides.html")
    place = page.locator("#place")
    assert place.inner_text() == "1 of 3"
    assert page.locator(".slide li, .slide p").all_inner_texts()[-1] == "A median of two is their mean."
    for key, reached in (
        ("ArrowRight", "2 of 3"),
        ("End", "3 of 3"),
        ("PageUp", "2 of 3"),
        ("Home", "1 of 3"),
    ):
        page.keyboard.press(key)
        page.wait_for_function("(text) => document.getElementById('place').textContent === text", arg=reached)
    assert page.url.endswith("#slide-1")
    page.locator("#recall-by-round svg[role=img]").wait_for()
    page.wait_for_selector("mjx-container svg")
    assert seen.away(html.as_uri()) == []
    assert seen.complaints == []


def test_the_bibliography_and_the_bar_have_roles_that_exist(html):
    page = (html / "book" / "reference" / "bibliography.html").read_text(encoding="utf-8")
    assert 'role="doc-' not in page
    assert page.count('role="listitem"') > 50
    assert page.count('role="region" aria-label="The book"') == 1


def test_buttons_are_called_what_is_written_on_them(html, visit):
    page = visit().open(html.as_uri(), CHAPTER_2)
    page.wait_for_selector(".theme-switch-button svg")
    misnamed = page.evaluate("""() => [...document.querySelectorAll(":is(button, summary)[aria-label]")]
        .filter((one) => one.textContent.trim() && !one.ariaLabel.includes(one.textContent.trim()))
        .map((one) => one.outerHTML)""")
    assert misnamed == []
    assert page.locator("summary", has_text="Show code cell source").count() > 5


def test_nothing_moves_for_those_who_asked_for_rest(html, visit):
    page = visit().open(html.as_uri(), "book/intro.html")
    moving = """() => [...document.querySelectorAll("button, a, summary")].filter((one) =>
        getComputedStyle(one).transitionDuration !== "0s").length"""
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0


def test_the_first_page_leads_to_the_book(address, visit):
    page = visit().open(address, "index.html")
    page.wait_for_url("**/book/intro.html")
    assert "Federated learning" in page.title()


def test_the_page_for_own_cells_is_one_click_from_its_chapter(address, visit):
    seen = visit()
    page = seen.open(address, "book/intro.html")
    page.get_by_role("link", name="a page for your own cells").click()
    page.get_by_role("link", name="Open the page for your own cells").click()
    page.wait_for_selector("body[data-ready]")
    assert page.url.endswith("/clinic.html")
    page.get_by_role("link", name="Federated learning in haematology").click()
    page.wait_for_url("**/book/intro.html")
    assert seen.away(address) == []
    assert seen.complaints == []


CLICKS = {
    "train a federation": r"^playground\.html$",
    "a saliency map": r"^book/clinic/reading_a_map\.html$",
    "your own cells": r"^clinic\.html$",
    "every verdict": r"^book/intro\.html#all-claims$",
    "your own data": r"^book/reference/own_data\.html$",
    "install": r"^book/start/installation\.html$",
    "cite": r"^book/intro\.html#cite$",
}
"""Where what a reader comes for stands, as a path in the built book."""


def targets(html, name):
    """The pages and places of the book to which a page links, beside the lists that every page has."""
    article = re.search(r"<article.*</article>", (html / name).read_text(encoding="utf-8"), re.DOTALL)[0]
    for link in re.findall(r'href="([^"]+)"', article):
        path, _, place = link.partition("#")
        path = path.partition("?")[0]
        if "://" not in path:
            to = os.path.normpath(f"{os.path.dirname(name)}/{path}") if path else name
            yield f"{to}#{place}" if place else to


@pytest.mark.parametrize("wish", CLICKS)
def test_what_a_reader_comes_for_is_at_most_two_clicks_away(html, wish):
    first = list(targets(html, "book/intro.html"))
    pages = {to.partition("#")[0] for to in first if to.startswith("book/") and ".html" in to}
    second = [to for page in pages for to in targets(html, page)]
    found = [to for to in [*first, *second] if re.match(CLICKS[wish], to.removeprefix("./"))]
    assert found, wish
    path, _, place = found[0].partition("#")
    assert (html / path).is_file()
    assert not place or f'id="{place}"' in (html / path).read_text(encoding="utf-8")


def test_a_reader_chooses_claims_by_chapter_and_verdict(address, visit):
    seen = visit(PHONE)
    page = seen.open(address, "book/intro.html")
    count, rows = page.locator(".hemafl-choose output"), page.locator(".hemafl-claims tbody tr")
    total = rows.count()
    assert count.inner_text() == f"{total} of {total} claims"
    page.get_by_label("Verdict").select_option("cannot be told")
    shown = page.locator(".hemafl-claims tbody tr:visible td:first-child strong").all_inner_texts()
    assert set(shown) == {"cannot be told"}
    assert count.inner_text() == f"{len(shown)} of {total} claims"
    page.get_by_label("Chapter").select_option("Attention CNN")
    assert page.locator(".hemafl-claims-of:visible").count() == 1
    fewer = page.locator(".hemafl-claims tbody tr:visible").count()
    assert 0 < fewer < len(shown)
    page.get_by_label("Chapter").select_option("all")
    page.get_by_label("Verdict").select_option("all")
    assert page.locator(".hemafl-claims tbody tr:visible").count() == total
    assert seen.complaints == []


def test_the_picture_of_a_round_stands_still_where_it_should(html, chromium):
    for motion, still, moves in (
        ("no-preference", False, True),
        ("no-preference", True, False),
        ("reduce", False, False),
    ):
        context = chromium.new_context(reduced_motion=motion)
        page = context.new_page()
        page.goto((html / "book" / "intro.html").as_uri())
        if still:
            page.get_by_label("hold the picture still").check()
        names = page.locator(".hemafl-round .parcel").evaluate_all(
            "(parcels) => parcels.map((one) => getComputedStyle(one).animationName)"
        )
        assert len(names) == 6
        assert all((name != "none") == moves for name in names), (motion, still)
        picture = page.get_by_role("img", name="A round of federated learning")
        assert "stay in the hospital" in picture.locator("desc").text_content()
        context.close()


def test_a_reader_hides_the_code_of_all_pages_and_sees_what_it_shows(address, visit):
    seen = visit()
    page = seen.open(address, "book/papers/sample.html")
    code = page.locator("div.cell_input").first
    assert code.is_visible()
    page.get_by_role("button", name="Hide the code").click()
    assert not code.is_visible()
    assert page.locator("#skew .hemafl-summary").is_visible()
    page.reload()
    code.wait_for(state="hidden")  # remembered
    page.get_by_role("button", name="Show the code").press("Enter")
    assert code.is_visible()
    page.goto(f"{address}/book/papers/sample.html?code=hidden")
    code.wait_for(state="hidden")  # as the link says
    page.goto(f"{address}/book/papers/sample.html?code=shown")
    code.wait_for()
    assert seen.complaints == []


def test_a_link_to_a_word_of_the_glossary_says_what_it_means(address, visit):
    seen = visit(PHONE)
    page = seen.open(address, "book/intro.html")
    link = page.locator('article a[href*="glossary.html#term-round"]').first
    link.focus()
    meaning = page.get_by_role("tooltip")
    assert meaning.inner_text().startswith("One exchange: the server sends the parameters")
    box = meaning.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    page.keyboard.press("Escape")
    assert not meaning.is_visible()
    link.hover()
    assert meaning.is_visible()
    assert seen.complaints == []


def test_on_paper_no_line_and_no_table_is_cut(html, visit):
    page = visit({"width": 718, "height": 1000}).open(html.as_uri(), "book/papers/attention_cnn.html")
    page.emulate_media(media="print")
    cut = page.evaluate("""() => [...document.querySelectorAll("article :is(pre, table)")]
        .filter((one) => one.checkVisibility() && (one.scrollWidth > one.clientWidth + 1
                || one.getBoundingClientRect().right > document.documentElement.clientWidth + 1))
        .map((one) => one.textContent.slice(0, 60))""")
    assert cut == []


def test_stored_json_of_the_explorers_is_what_python_computed(html):
    content = (html / "book" / "papers" / "sample.html").read_text(encoding="utf-8")
    script = re.search(r'id="rounds".*?<script type="application/json">(.*?)</script>', content, re.DOTALL)[1]
    stored = json.loads(script)
    assert stored["pictures"]["2"]["summary"] == lines({"rate": 1.0}).summary


def test_the_page_from_scratch_begins_with_a_round_that_trains_and_a_challenge(html, visit):
    page = visit(DESKTOP).open(html.as_uri(), "book/start/federated_from_scratch.html")
    page.locator("iframe.hemafl-playground").scroll_into_view_if_needed()
    round_ = page.frame_locator("iframe.hemafl-playground")
    round_.locator("#step:not([disabled])").click(timeout=120_000)
    round_.locator("#told", has_text="Round 1: the shared model reads").wait_for(timeout=120_000)
    assert round_.locator("#verdict").inner_text() == "Play all 10 rounds."


# --- the explorers of chapter 2 -----------------------------------------------------------------------

CHAPTER_2 = "book/papers/attention_cnn.html"


def moves(page, explorer, controls, start, by):
    """Move one control after the other to its last value, or to its first; yield each setting."""
    setting = list(start)
    for number, values in enumerate(controls.values()):
        control = explorer.locator(".hemafl-control > :is(input, select)").nth(number)
        far = setting[number] != values[-1]
        if control.evaluate("(one) => one.type !== 'range'"):
            control.select_option(str(len(values) - 1) if far else "0")
        elif by == "keyboard":
            control.press("End" if far else "Home")
        else:
            slide_by_mouse(page, control, float(far))
        setting[number] = values[-1] if far else values[0]
        yield tuple(setting)


CURVES_OF_CHAPTER_2 = {
    "federation-explorer": (heterogeneity_explorer, (5, 0.1, 0.0, "FedAvg"), "explorer-heterogeneity"),
    "attack-explorer": (attack_explorer, (5, 1, "opposite step x 10", "FedAvg"), "explorer-attack"),
}


@pytest.mark.parametrize("name", CURVES_OF_CHAPTER_2)
@pytest.mark.parametrize("by", ["keyboard", "mouse"])
def test_every_control_of_chapter_2_leads_to_the_recorded_curves_and_bands(html, visit, name, by):
    module, opens, file = CURVES_OF_CHAPTER_2[name]
    recorded = module.SWEEP.read(results.get(file))
    further = getattr(module, "refusals", lambda found: "")
    page = visit(DESKTOP if by == "keyboard" else PHONE).open(html.as_uri(), CHAPTER_2)
    explorer = page.locator(f"#{name}")
    controls = {**module.CONTROLS, "judged": module.PLACES}
    for setting in moves(page, explorer, controls, (*opens, module.PLACES[0]), by):
        outcome = recorded[setting[:-1]]
        expected = federations.picture(outcome, setting[-1], further(outcome))
        rows = [(series.x, row) for series in expected.series for row in series.rows]
        for place, shown in shown_numbers(explorer).items():
            stored = [row[list(x).index(int(place))] if int(place) in x else None for x, row in rows]
            assert shown == pytest.approx(stored, abs=6e-4), (setting, place)
        assert explorer.locator("[aria-live]").inner_text() == expected.summary
        assert explorer.locator("svg[role=img] polygon").count() == 3


def test_the_prediction_of_chapter_2_is_right_and_leads_to_its_setting(html, visit):
    page = visit().open(html.as_uri(), CHAPTER_2)
    explorer = page.locator("#federation-explorer")
    before = explorer.locator("[aria-live]").inner_text()
    explorer.get_by_role("button", name="The median is worse.").click()
    assert explorer.locator(".hemafl-verdict").inner_text().startswith("Yes. ")
    assert explorer.locator("[aria-live]").inner_text() != before
    assert explorer.get_by_label("Aggregator").evaluate("(one) => one.selectedOptions[0].text") == "FedMedian"


@pytest.mark.parametrize("by", ["keyboard", "mouse"])
def test_the_slider_of_who_holds_what_leads_to_the_recorded_counts(html, visit, by):
    recorded = partition_explorer.SWEEP.read(results.get("explorer-partition"))
    page = visit(DESKTOP if by == "keyboard" else PHONE).open(html.as_uri(), CHAPTER_2)
    explorer = page.locator("#partition-explorer")
    for setting in moves(page, explorer, partition_explorer.CONTROLS, (5, "Dirichlet 0.1"), by):
        counts = recorded[setting].counts
        assert shown_numbers(explorer) == {site: list(row) for site, *row in counts.itertuples()}
        assert explorer.locator("svg[role=img] rect").count() == counts.size


@pytest.mark.parametrize("by", ["keyboard", "mouse"])
def test_the_saliency_sliders_of_chapter_2_lead_to_the_recorded_answers(html, visit, by):
    recorded = saliency_explorer.SWEEP.read(results.get("explorer-saliency"))
    page = visit(DESKTOP if by == "keyboard" else PHONE).open(html.as_uri(), CHAPTER_2)
    explorer = page.locator("#saliency-explorer")
    explorer.locator("canvas").wait_for()
    drawn = {explorer.locator("canvas").evaluate("(canvas) => canvas.toDataURL()")}
    for setting in moves(page, explorer, saliency_explorer.CONTROLS, ("pre", "federated", "grad_cam"), by):
        found = recorded[setting]
        said = f"{setting[0]} taken for {found.predicted} ({found.probability:.0%})"
        assert said in explorer.locator("canvas").get_attribute("aria-label")
        drawn.add(explorer.locator("canvas").evaluate("(canvas) => canvas.toDataURL()"))
    assert len(drawn) == 1 + len(saliency_explorer.CONTROLS)


# --- the live face, with a notebook played by the test ------------------------------------------------

NOTEBOOK = """
async ({ script, state }) => {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { render } = (await import(url)).default;
  const listeners = [];
  const model = {
    get: (name) => state[name],
    set: (name, value) => {
      state[name] = value;
      listeners.filter(([event]) => event === `change:${name}`).forEach(([, listener]) => listener());
    },
    save_changes: () => window.asked.push(state.place),
    on: (event, listener) => listeners.push([event, listener]),
    off: (event, listener) => listeners.splice(listeners.findIndex((each) => each[1] === listener), 1),
  };
  window.asked = [];
  window.listening = () => listeners.length;
  window.answer = (answer) => model.set("answer", answer);
  window.openView = () => render({ model, el: document.body.appendChild(document.createElement("div")) });
  window.closeView = window.openView();
}
"""


@pytest.fixture
def live(visit):
    """Open the live face of an explorer; its Python side is the test."""

    def start(explorer):
        face = widgets.LiveFace(explorer)
        state = {name: getattr(face, name) for name in ("markup", "content", "place", "answer")}
        seen = visit()
        seen.page.goto("about:blank")
        seen.page.add_style_tag(content=str(face._css))
        seen.page.evaluate(NOTEBOOK, {"script": str(face._esm), "state": state})
        return seen.page

    return start


def tell(page, place, picture, text=None):
    page.evaluate(
        "answer", {"place": place, "picture": picture and plain(picture), "text": text or picture.summary}
    )


def partly_recorded(setting=(2, 0.1)):
    recorded = {setting: bars({"sites": setting[0], "alpha": setting[1]})}
    return widgets.Explorer("part", CONTROLS, "Recall by class.", recorded, compute=bars)


def test_the_live_face_draws_what_is_recorded_as_the_page_does(live):
    page = live(widgets.Explorer("skew", CONTROLS, "Recall by class.", widgets.record(CONTROLS, bars)))
    page.get_by_label("Hospitals").press("End")
    after = bars({"sites": 5, "alpha": 0.1})
    explorer = page.locator("section")
    assert shown_numbers(explorer) == expected_numbers(after)
    assert explorer.locator("[aria-live=polite]").inner_text() == after.summary
    assert explorer.locator("svg[role=img] rect").count() == 4
    assert page.evaluate("asked") == ["2,0"]


def test_the_live_face_grows_with_the_answers_to_its_own_question(live):
    page = live(partly_recorded())
    explorer = page.locator("section")
    spoken, first = explorer.locator("[aria-live]"), bars({"sites": 2, "alpha": 0.1})
    page.get_by_label("Hospitals").press("ArrowRight")
    assert page.evaluate("asked") == ["1,0"]
    assert spoken.inner_text() == "Computing ..."
    assert shown_numbers(explorer) == expected_numbers(first), "the picture stays until there is another"
    tell(page, "2,0", bars({"sites": 5, "alpha": 0.1}))
    assert spoken.inner_text() == "Computing ...", "an answer to another question is none"
    half, whole = bars({"sites": 3, "alpha": 0.5}), bars({"sites": 3, "alpha": 0.1})
    tell(page, "1,0", half, "After round 1 of 2.")
    assert spoken.inner_text() == "After round 1 of 2."
    assert shown_numbers(explorer) == expected_numbers(half)
    tell(page, "1,0", None, "Round 2 of 2.")
    assert spoken.inner_text() == "Round 2 of 2."
    assert shown_numbers(explorer) == expected_numbers(half)
    tell(page, "1,0", whole)
    assert shown_numbers(explorer) == expected_numbers(whole)
    page.get_by_label("Hospitals").press("ArrowLeft")
    assert spoken.inner_text() == first.summary
    assert shown_numbers(explorer) == expected_numbers(first)


def test_a_slider_asks_when_it_is_let_go_and_not_on_its_way(live):
    page = live(partly_recorded())
    slider = page.get_by_label("Hospitals")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.5, 0.75, 1):
        page.mouse.move(box["x"] + share * (box["width"] - 8), box["y"] + box["height"] / 2)
    assert page.locator("output").first.inner_text() == "5 hospitals"
    assert page.evaluate("asked") == []
    page.mouse.up()
    assert page.evaluate("asked") == ["2,0"]


def test_two_views_of_one_explorer_move_together_and_each_label_has_its_slider(live):
    page = live(partly_recorded())
    page.evaluate("void openView()")
    sliders = page.get_by_label("Hospitals")
    assert sliders.count() == 2
    sliders.first.press("End")
    assert [sliders.nth(i).input_value() for i in (0, 1)] == ["2", "2"]
    assert page.locator("[aria-live]").all_inner_texts() == ["Computing ..."] * 2
    tell(page, "2,0", bars({"sites": 5, "alpha": 0.1}))
    said = page.locator("[aria-live]").all_inner_texts()
    assert said == [bars({"sites": 5, "alpha": 0.1}).summary] * 2
    listening = page.evaluate("listening()")
    page.evaluate("closeView()")
    assert page.evaluate("listening()") == listening / 2, "a view that is closed listens no more"


def test_a_computed_cell_is_drawn_like_a_recorded_one(live):
    cells, methods = (control.values for control in PLACES)
    recorded = {(cells[0], methods[0]): overlay({"cell": cells[0], "method": methods[0]})}
    page = live(widgets.Explorer("places", PLACES, "Where the model looked.", recorded, compute=overlay))
    explorer = page.locator("section")
    explorer.locator("canvas").wait_for()
    page.get_by_label("Cell").select_option("1")
    page.get_by_label("Method").select_option("2")
    setting = {"cell": cells[1], "method": methods[2]}
    tell(page, "1,2", overlay(setting))
    page.locator(f"canvas[aria-label*='{overlay(setting).title}']").wait_for()
    assert_shows(explorer, setting, 0.5, smooth=False)
    explorer.get_by_role("checkbox").check()
    assert_shows(explorer, setting, 0.5, smooth=True)


def test_a_computation_can_be_stopped_and_the_controls_go_back_to_what_is_recorded(live):
    page = live(partly_recorded())
    stop, spoken = page.get_by_role("button", name="Stop"), page.locator("[aria-live]")
    first = bars({"sites": 2, "alpha": 0.1})
    assert stop.count() == 0, "there is nothing to stop"
    page.get_by_label("Hospitals").press("End")
    stop.click()
    assert page.evaluate("asked") == ["2,0", "0,0"], "Python hears of it as of any other move"
    assert page.get_by_label("Hospitals").input_value() == "0"
    assert spoken.inner_text() == first.summary
    assert stop.count() == 0
    page.get_by_label("Hospitals").press("End")
    page.evaluate("answer", {"place": "2,0", "picture": plain(first), "text": "That is all.", "done": True})
    assert spoken.inner_text() == "That is all."
    assert stop.count() == 0


def test_a_prediction_is_judged_and_leads_to_the_setting_that_shows_it(live):
    recorded = widgets.record(CONTROLS, bars)
    asked = widgets.Prediction("What then?", ["less", "more"], "more", "So it is.", shows=(5, 1.0))
    page = live(widgets.Explorer("skew", CONTROLS, "Recall by class.", recorded, prediction=asked))
    page.get_by_role("button", name="less").click()
    assert page.locator(".hemafl-verdict").inner_text() == "No: more. So it is."
    assert page.locator("[aria-live]").inner_text() == bars({"sites": 5, "alpha": 1.0}).summary
    page.get_by_role("button", name="more").click()
    assert page.locator(".hemafl-verdict").inner_text() == "Yes. So it is."
    pressed = page.locator("button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["more"]


def test_a_band_is_shaded_behind_its_line_and_stands_in_the_table(live):
    series = widgets.Series("mean", [0, 1, 2], [0.5, 0.6, 0.7], band=([0.4, 0.5, 0.6], [0.6, 0.7, 0.9]))
    shown = widgets.Chart(
        kind="lines", series=[series], x_title="round", y_title="accuracy", x_range=(0, 2), y_range=(0, 1),
        summary="It rises.",
    )  # fmt: skip
    control = [widgets.Control("k", "K", [1])]
    page = live(widgets.Explorer("bands", control, "A curve.", {(1,): shown}, packed=True))
    assert page.locator("svg[role=img] polygon").count() == 1
    assert len(page.locator("svg[role=img] polygon").get_attribute("points").split()) == 6
    numbers = shown_numbers(page.locator("section"))
    assert [*numbers.values()] == [[0.5, 0.4, 0.6], [0.6, 0.5, 0.7], [0.7, 0.6, 0.9]]


LIVE_CELL = """
from dataclasses import replace
from hemafl_book.show import widgets

controls = [widgets.Control("alpha", "Evenness of the classes", [0.1, 0.5, 1.0])]

def picture(setting):
    series = [widgets.Series("accuracy", ["north"], [setting["alpha"]])]
    return widgets.Chart(kind="bars", series=series, x_title="hospital", y_title="accuracy", y_range=(0, 1),
                         summary=f"All of {setting['alpha']}.")

def compute(setting, request):
    if setting["alpha"] == 0.5:
        request.show(replace(picture(setting), summary="Half of 0.5."))
        request.cancelled.wait()
    return picture(setting)

widgets.show(widgets.Explorer("live", controls, "Accuracy.", {(0.1,): picture({"alpha": 0.1})}, compute))
"""


@pytest.fixture
def lab(tmp_path, repository):
    """The address of a notebook with one explorer in JupyterLab, which sees no settings of its user."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LIVE_CELL)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook, folder / "live.ipynb")
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    own = {f"JUPYTER_{name}": str(tmp_path / name) for name in folders}
    own |= {f"JUPYTERLAB_{name}": str(tmp_path / name) for name in ("SETTINGS_DIR", "WORKSPACES_DIR")}
    own |= {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(repository)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    settings = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder, "IdentityProvider.token": token, "LabApp.extension_manager": "readonly",
        "LabApp.news_url": "None", "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }  # fmt: skip
    arguments = ["--no-browser", "--allow-root", *(f"--{name}={value}" for name, value in settings.items())]
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env={**os.environ, **own},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while "is running at" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/lab/tree/live.ipynb?token={token}&reset"
    finally:
        server.terminate()
        server.wait(30)


def test_the_live_face_computes_in_jupyterlab(lab, visit):
    from playwright.sync_api import expect

    page = visit().page
    page.goto(lab)
    # Before the status bar says so, JupyterLab ignores a request to run a cell.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.locator(".jp-Cell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output")
    spoken, slider = output.locator("[aria-live]"), output.get_by_label("Evenness of the classes")
    expect(spoken).to_have_text("All of 0.1.", timeout=60_000)
    slider.focus()
    slider.press("ArrowRight")
    expect(spoken).to_have_text("Half of 0.5.", timeout=20_000)
    slider.press("ArrowRight")
    expect(spoken).to_have_text("All of 1.0.", timeout=20_000)
    chart = output.get_by_role("img", name="Accuracy.")
    expect(chart.locator("rect")).to_have_count(1)
    expect(chart).to_contain_text("hospital")


def test_a_page_needs_the_files_that_contributing_names_and_no_other(html, repository):
    """The fixture `html` writes exactly these."""
    row = re.search(
        r"^\| a page of the book \| (.+?) \|", (repository / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    assert re.findall(r"`(.+?)`", row[1]) == ["book/papers/NAME.ipynb", "_toc.yml"]
    listed = re.findall(r'href="([^"]+)"', (html / "book" / "intro.html").read_text(encoding="utf-8"))
    assert "papers/sample.html" in listed
