"""What a reader may rely on: a page runs the scripts that it was built with, and asks no other host."""

import base64
import hashlib
import re

import pytest

from hemafl_book.build.policy import guard, policy

PAGE = """<!DOCTYPE html>
<html>
<head data-x="1">
<script>start("a & b");</script>
<script src="_static/book.js"></script>
<script type="application/json">{"name": "no code"}</script>
</head>
<body><button onclick="print(&quot;x&quot;)">Print</button></body>
</html>"""


def directives(text: str) -> dict[str, list[str]]:
    parts = [part.split() for part in text.split("; ")]
    return {name: values for name, *values in parts}


def hash_of(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


@pytest.mark.survives(
    "A page of the book holds a script, a picture or a form from elsewhere, however it came in",
    "The browser neither runs nor loads it: the policy of each page allows its own files and scripts only",
)
def test_only_what_was_in_the_page_may_run():
    rules = directives(policy(PAGE))
    assert rules["default-src"] == ["'none'"]
    assert "connect-src" not in rules
    assert rules["frame-src"] == ["'self'", "file:"]
    scripts = {hash_of('start("a & b");'), hash_of('print("x")')}
    assert set(rules["script-src"]) == {"'self'", "file:", "'unsafe-hashes'", *scripts}
    for name, sources in rules.items():
        assert not [source for source in sources if "//" in source or source in ("*", "https:", "http:")], (
            name
        )
    assert "'unsafe-inline'" not in rules["script-src"]
    assert "'unsafe-eval'" not in rules["script-src"]


def test_a_script_that_was_in_the_page_when_it_was_built_is_one_of_its_own():
    """Whoever put it there: the policy takes the place of no escaping."""
    foreign = PAGE.replace("</body>", "<script>odd()</script></body>")
    assert hash_of("odd()") in directives(policy(foreign))["script-src"]
    assert hash_of("odd()") not in directives(policy(PAGE))["script-src"]


def test_a_page_without_scripts_of_its_own_allows_none():
    assert directives(policy("<html><head></head></html>"))["script-src"] == ["'self'", "file:"]


def test_the_policy_comes_before_all_that_it_rules():
    guarded = guard(PAGE)
    assert guarded.index("Content-Security-Policy") < guarded.index("<script")
    assert re.sub(r"\n<meta http-equiv[^>]*>", "", guarded) == PAGE
