"""Firefox, as tests start it: spoken to by Marionette, its own protocol, which needs no driver beside it."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

FIREFOX = next((found for name in ("firefox-esr", "firefox") if (found := shutil.which(name))), "")
MISSING = "" if FIREFOX else "needs Firefox: neither `firefox-esr` nor `firefox` is installed"
"""Why there is no Firefox, or nothing."""

SETTINGS = {
    "marionette.port": 0,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.update.enabled": False,
    "extensions.update.enabled": False,
}
PATIENCE = 120
"""Seconds for it to start, and for each answer, on a busy machine."""

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""How WebDriver names the key of an element's number."""


class Firefox:
    """A browser window; `ask` sends a command of WebDriver."""

    def __init__(self, line: socket.socket) -> None:
        self.line, self.numbers = line.makefile("rwb"), count(1)
        self.receive()  # it greets first
        self.ask("WebDriver:NewSession")

    def receive(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self.line.read(1)
        return json.loads(self.line.read(int(length[:-1])))

    def ask(self, command: str, **settings: Any) -> Any:
        message = json.dumps([0, next(self.numbers), command, settings]).encode()
        self.line.write(b"%d:%s" % (len(message), message))
        self.line.flush()
        _, _, error, result = self.receive()
        assert error is None, error
        return result.get("value") if set(result) == {"value"} else result

    def open(self, address: str) -> None:
        self.ask("WebDriver:Navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """What a script returns; it sees the document, and nothing that the page's own scripts keep."""
        return self.ask("WebDriver:ExecuteScript", script=script, args=[])

    def wait_for(self, script: str) -> Any:
        """What a script returns as soon as that is true of anything."""
        ends = time.monotonic() + PATIENCE
        while not (found := self.evaluate(script)):
            assert time.monotonic() < ends, f"still not: {script}"
            time.sleep(0.1)
        return found

    def choose(self, selector: str, *paths: Path) -> None:
        """Give files to an input."""
        element = self.ask("WebDriver:FindElement", using="css selector", value=selector)
        self.ask("WebDriver:ElementSendKeys", id=element[ELEMENT], text="\n".join(map(str, paths)))


@contextmanager
def launched():
    """A Firefox that ends with the tests that use it."""
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in SETTINGS.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines))
        command = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", profile, "about:blank"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with socket.create_connection(("127.0.0.1", port_of(Path(profile), running)), PATIENCE) as line:
                yield Firefox(line)
        finally:
            running.terminate()
            running.wait(30)


def port_of(profile: Path, running: subprocess.Popen) -> int:
    """The port that it chose, which it writes into its profile."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and running.poll() is None:
        try:
            return int((profile / "MarionetteActivePort").read_text())
        except (OSError, ValueError):
            time.sleep(0.2)
    raise AssertionError("Firefox does not answer")
