"""`make explorer`: the explorer is served to this machine only, and does there what the book says."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from builders.browser import MISSING, launched
from PIL import Image

from hemafl_book.clinic.explorer import reading_list, saving
from hemafl_book.clinic.explorer.looking import MOST
from hemafl_lib.data import smear

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

TOKEN = "known to this test"

PATIENCE = 120_000
"""Milliseconds for a kernel to start and answer on a busy machine."""

FETCH = """new Promise((tell) => {
  document.addEventListener("securitypolicyviolation", (event) => tell(event.effectiveDirective));
  fetch("https://example.org").then(() => tell("answered"), () => {});
})"""
"""What forbids the page to connect elsewhere."""


@dataclass(frozen=True)
class App:
    pid: int
    address: str


@pytest.fixture(scope="module")
def app(repository):
    """Where the explorer is served; it ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hemafl_book.build.explorer_app", "--no-browser", f"--port={port}"]
    command.append(f"--token={TOKEN}")
    environment = {name: value for name, value in os.environ.items() if name != "HEMAFL_DATA"}
    served = subprocess.Popen(
        command,
        cwd=repository,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    place = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if served.poll() is not None or answers(f"{place}/voila/static/voila.js"):
                break
            time.sleep(0.5)
        assert served.poll() is None, "the app ended before it answered"
        yield App(served.pid, place)
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait(30)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def page(app):
    """The explorer as it opens, and every address that the browser asked for."""
    with launched() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(PATIENCE)
        opened.reached, opened.failures = [], []
        opened.on("requestfinished", lambda request: opened.reached.append(request.url))
        opened.sockets = []
        opened.on("websocket", lambda socket: opened.sockets.append(socket.url))
        opened.on("pageerror", lambda error: opened.failures.append(str(error)))
        opened.goto(f"{app.address}/?token={quote(TOKEN)}", timeout=PATIENCE)
        opened.get_by_text("Cell 1 of 24.").wait_for(timeout=PATIENCE)
        yield opened


def choose(page, label, option):
    page.get_by_label(label, exact=True).select_option(option)


def unfold(page, title):
    page.locator("span", has_text=re.compile(f"^{re.escape(title)}$")).click()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A drawn cell as a file, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    cell = smear.simulate(1, size=96, classes=("lymphocyte",), sites=("north",), seed=3).images[0]
    Image.fromarray(np.ascontiguousarray(cell.permute(1, 2, 0).numpy())).save(folder / "my cell.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_it_opens_with_three_models_side_by_side_and_says_what_it_is_not(page):
    text = page.inner_text("body")
    assert "Not a medical device" in text
    for arm in ("one hospital", "federated", "centralised"):
        assert page.locator("figure").filter(has_text=f"white cells: {arm}").count() == 1
    assert page.locator("figure img:not([alt])").count() == 0
    assert not page.failures


def test_every_list_and_every_handle_of_a_slider_has_a_name(page):
    assert page.get_by_label("by", exact=True).count() == MOST
    unnamed = page.evaluate("""() => [...document.querySelectorAll("select, [role=slider]")]
        .filter((one) => !one.ariaLabel?.trim() && !one.labels?.[0]?.innerText.trim())
        .map((one) => one.outerHTML)""")
    assert unnamed == []
    assert page.get_by_role("slider", name="Opacity").count() == 1


def test_places_are_painted_out_with_the_keys_alone(page):
    unfold(page, "Paint places out")
    canvas = page.get_by_role("application")
    canvas.focus()
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowDown", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.get_by_text("Row 11, column 10: painted. 4 of 256 squares are painted.").wait_for()
    page.get_by_role("button", name="Paint it out and ask again").click()
    assert page.get_by_text(re.compile("goes from .* to")).first.inner_text()
    page.get_by_role("button", name="Wipe all").click()
    page.get_by_text("0 of 256 squares are painted.").wait_for()
    unfold(page, "Paint places out")


def test_it_is_served_to_this_machine_and_connects_nowhere_else(page, app):
    listening = [each for each in psutil.Process(app.pid).net_connections("inet") if each.status == "LISTEN"]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    assert all(url.startswith((app.address, "data:", "blob:")) for url in page.reached)
    assert page.evaluate(FETCH) == "connect-src"


def code(url, **headers):
    """The status that a program without a browser's cookies gets, its redirections not followed."""
    connection = http.client.HTTPConnection(url.removeprefix("http://").partition("/")[0], timeout=60)
    connection.request("GET", "/" + url.removeprefix("http://").partition("/")[2], headers=headers)
    return connection.getresponse().status


@pytest.mark.survives(
    "Another user, or a page of another site, opens the explorer that a reader has started",
    "It answers to nobody without the token of this start, nor by another name of the machine",
)
def test_it_opens_for_nobody_without_its_token(page, app):
    (kernel,) = {url.split("/")[5] for url in page.sockets if "/api/kernels/" in url}
    channels = f"{app.address}/api/kernels/{kernel}/channels"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    assert code(app.address) == 302
    assert code(channels, **upgrade) in (302, 403)
    known = f"token={quote(TOKEN)}"
    assert code(f"{app.address}/?{known}", Host="rebound.example") == 403
    assert (
        code(f"{channels}?{known}", **upgrade, Host="rebound.example", Origin="http://rebound.example") == 403
    )


def test_a_cell_is_uploaded_a_model_changed_a_map_measured_and_a_report_saved(page, pictures, tmp_path):
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Pictures of your own").click()
    chosen.value.set_files([pictures / "my cell.png", pictures / "broken.png"])
    page.get_by_text("1 pictures are open, 1 files are not").wait_for(timeout=PATIENCE)
    assert "broken.png" in page.inner_text("body")

    choose(page, "1. model", "white cells: centralised")
    choose(page, "3. model", "-")
    choose(page, "2. model", "-")
    first = "document.querySelector('.hemafl-desk:has(figure)')"  # further down are cells of each class
    page.wait_for_function(f"{first}.querySelectorAll('figure').length === 2", timeout=PATIENCE)
    shown = page.locator("figure").filter(has_text="white cells: centralised")
    said = shown.inner_text()
    assert re.search(r"\d+%|Out of scope", said)

    unfold(page, "How far to trust a map")
    page.get_by_role("button", name="Measure this map").click()
    page.get_by_text("The map is measured.").wait_for(timeout=PATIENCE)
    assert "Does it lie on the nucleus?" in page.inner_text("body")

    unfold(page, "Reading list")
    page.get_by_role("button", name="unsure").click()
    page.get_by_label("Folder of the list").fill(str(tmp_path))
    page.get_by_role("button", name="Keep on the reading list").click()
    page.get_by_text("1 on the list").wait_for(timeout=PATIENCE)
    kept = json.loads((tmp_path / reading_list.FILE).read_text())["entries"]
    assert [(each["cell"], each["mark"]) for each in kept] == [("my cell.png", "unsure")]

    unfold(page, "Save a report")
    page.get_by_label("Folder of the report").fill(str(tmp_path))
    page.get_by_role("button", name="Save report and table").click()
    page.get_by_text(f"Saved {saving.REPORT}").wait_for(timeout=PATIENCE)
    report = (tmp_path / saving.REPORT).read_text()
    assert "my cell.png" in report
    assert "Does it lie on the nucleus?" in report
    assert "Not a medical device" in (tmp_path / saving.TABLE).read_text()
