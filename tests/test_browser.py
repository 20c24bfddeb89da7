"""The built book in a real browser: no network, no errors, mathematics, sliders, small screens."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
import yaml

from hemafl_lib.notebook import normalise, plots, widgets

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="needs Chromium: the package `chromium` is not installed"
    ),
]

CONTROLS = [
    widgets.Control("sites", "Hospitals", [2, 3, 5], "{} hospitals"),
    widgets.Control("alpha", "Evenness of the classes", [0.1, 0.5, 1.0], "{:.1f}"),
]


def bars(setting):
    value = setting["alpha"] / setting["sites"]
    return widgets.Picture(
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
    return widgets.Picture(
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


def sample_notebook() -> nbformat.NotebookNode:
    """A chapter with everything that the notebook room can show."""
    rate = [widgets.Control("rate", "Learning rate", [0.25, 0.5, 1.0], "{:.2f}")]
    figure = go.Figure(
        [go.Scatter(x=[1, 2, 3], y=[0.4, 0.6, 0.7], name=name) for name in ("FedAvg", "FedMedian")]
    )
    shown = [
        widgets.Explorer("skew", CONTROLS, "Recall by class.", widgets.record(CONTROLS, bars)),
        widgets.Explorer("rounds", rate, "Accuracy by round.", widgets.record(rate, lines)),
        plots.show(
            figure.update_layout(xaxis_title="round"), "recall-by-round", "Recall rises over three rounds."
        ),
    ]
    cells = [
        nbformat.v4.new_markdown_cell(
            "# Sample\n\n$$\\bar w = \\sum_k \\frac{n_k}{n} w_k$$\n\nand $n = \\sum_k n_k$."
        )
    ]
    for item in shown:
        output = nbformat.v4.new_output("display_data", data=item._repr_mimebundle_())
        cells.append(nbformat.v4.new_code_cell("show()", outputs=[output]))
    return normalise.normalised(nbformat.v4.new_notebook(cells=cells))


@pytest.fixture(scope="session")
def html(repository, tmp_path_factory) -> Path:
    """The book with one more chapter, built once from committed outputs."""
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(repository / "book", root / "book", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(repository / "_config.yml", root)
    toc = yaml.safe_load((repository / "_toc.yml").read_text())
    toc["parts"].append({"caption": "Sample", "chapters": [{"file": "book/sample"}]})
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    nbformat.write(sample_notebook(), root / "book" / "sample.ipynb")
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


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page, and everything that it asked for and complained about."""

    def __init__(self, chromium, viewport):
        self.page = chromium.new_page(viewport=viewport)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
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

    def away(self, address):
        """The requests that left the book."""
        return [url for url in self.requests if not url.startswith((address, "data:", "blob:"))]


@pytest.fixture
def visit(chromium):
    visits = []

    def start(viewport=DESKTOP):
        visits.append(Visit(chromium, viewport))
        return visits[-1]

    yield start
    for each in visits:
        each.page.close()


def test_no_page_asks_for_anything_outside_the_book(address, pages, visit):
    assert len(pages) >= 4
    for name in pages:
        seen = visit()
        page = seen.open(address, name)
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_load_state("networkidle")
        assert seen.away(address) == [], name
        assert seen.complaints == [], name
        page.close()


def test_every_page_fits_a_telephone(html, pages, visit):
    seen = visit(PHONE)
    for name in pages:
        page = seen.open(html.as_uri(), name)
        page.wait_for_load_state("networkidle")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{name} is {width} px wide"


def test_every_picture_has_words_and_every_id_is_unique(html, pages, visit):
    seen = visit()
    for name in pages:
        page = seen.open(html.as_uri(), name)
        assert page.locator("article img:not([alt]), article img[alt='']").count() == 0, name
        ids = page.evaluate("[...document.querySelectorAll('article [id]')].map((element) => element.id)")
        assert len(ids) == len(set(ids)), name


def test_no_page_carries_more_than_300_kb_of_recordings(html, pages):
    for name in pages:
        content = (html / name).read_text(encoding="utf-8")
        scripts = re.findall(r'<script type="application/json">(.*?)</script>', content, re.DOTALL)
        assert sum(len(script.encode()) for script in scripts) <= widgets.MAX_BYTES, name


def test_mathematics_is_typeset(address, visit):
    page = visit().open(address, "book/sample.html")
    page.wait_for_selector("mjx-container svg")
    assert page.locator("mjx-container").count() == 2
    assert page.locator("mjx-merror").count() == 0


def shown_numbers(explorer):
    explorer.locator("details").evaluate("(details) => { details.open = true; }")
    rows = explorer.locator("tbody tr").all()
    return {
        row.locator("th").inner_text(): [float(cell) for cell in row.locator("td").all_inner_texts()]
        for row in rows
    }


def expected_numbers(picture):
    places = picture.series[0].x
    return {str(place): [float(f"{s.y[i]:.4g}") for s in picture.series] for i, place in enumerate(places)}


def test_sliders_move_by_keyboard_to_the_recorded_numbers(address, visit):
    page = visit().open(address, "book/sample.html")
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
    page = visit(PHONE).open(html.as_uri(), "book/sample.html")
    slider = page.get_by_label("Learning rate")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    after = lines({"rate": 1.0})
    explorer = page.locator("#rounds")
    assert shown_numbers(explorer) == expected_numbers(after)
    assert explorer.locator("[aria-live]").inner_text() == after.summary
    assert explorer.locator("svg[role=img] polyline").count() == 2


def test_recorded_pictures_are_drawn_to_scale(html, visit):
    page = visit().open(html.as_uri(), "book/sample.html")
    heights = [float(bar.get_attribute("height")) for bar in page.locator("#skew svg[role=img] rect").all()]
    values = [y for series in bars({"sites": 2, "alpha": 0.1}).series for y in series.y]
    scale = heights[1] / values[1]
    assert heights == pytest.approx([value * scale for value in values])


def test_plots_load_the_books_own_plotly_when_they_come_into_view(address, visit):
    seen = visit({"width": 1280, "height": 300})
    page = seen.open(address, "book/sample.html")
    page.wait_for_selector("mjx-container svg")
    assert not [url for url in seen.requests if "plotly" in url]
    page.locator("#recall-by-round").scroll_into_view_if_needed()
    page.wait_for_selector("#recall-by-round .main-svg .trace")
    assert page.locator("#recall-by-round .trace").count() >= 2
    assert [url for url in seen.requests if "plotly" in url] == [f"{address}/_static/vendor/plotly.min.js"]
    assert seen.complaints == []


def test_without_scripts_the_page_still_says_what_the_figures_show(html, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((html / "book" / "sample.html").as_uri())
    text = page.locator("article").inner_text()
    assert bars({"sites": 2, "alpha": 0.1}).summary in text
    assert "Recall rises over three rounds." in text
    context.close()


def test_the_first_page_leads_to_the_book(address, visit):
    page = visit().open(address, "index.html")
    page.wait_for_url("**/book/intro.html")
    assert "Federated learning" in page.title()


def test_stored_json_of_the_explorers_is_what_python_computed(html):
    content = (html / "book" / "sample.html").read_text(encoding="utf-8")
    script = re.search(r'id="rounds".*?<script type="application/json">(.*?)</script>', content, re.DOTALL)[1]
    stored = json.loads(script)
    assert stored["pictures"]["2"]["summary"] == lines({"rate": 1.0}).summary
