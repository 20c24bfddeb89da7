"""What a reader may rely on: a standalone page is one file, and its policy lets it connect nowhere."""

import re

import pytest

from hemafl_book.build import apps
from hemafl_book.build.policy import digest
from hemafl_lib.errors import DataError

INDEX = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<style data-parts="look.css"></style>
</head>
<body>
<script type="application/json" id="cells" data-made="cells"></script>
<script type="text/plain" id="worker" data-parts="numbers.js worker.js"></script>
<script id="page" data-parts="numbers.js page.js"></script>
</body>
</html>"""
PARTS = {
    "index.html": INDEX,
    "look.css": "p { color: red; }",
    "numbers.js": "const one = 1;",
    "worker.js": "postMessage(one);",
    "page.js": "document.title = one;",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The root of a book with one small page."""
    folder = tmp_path / "book" / "_app" / "small"
    folder.mkdir(parents=True)
    for name, text in PARTS.items():
        (folder / name).write_text(text)
    monkeypatch.setitem(apps.APPS, "small", lambda root: {"cells": ["</script><b>"]})
    return tmp_path


def test_a_page_is_one_file_with_all_that_it_names(root, tmp_path):
    (path,) = apps.write_apps(tmp_path / "out", ["small"], root)
    page = path.read_text()
    assert path.name == "small.html"
    assert "<style>\np { color: red; }\n</style>" in page
    assert '<script id="page">\nconst one = 1;\ndocument.title = one;\n</script>' in page
    assert '<script type="text/plain" id="worker">\nconst one = 1;\npostMessage(one);\n</script>' in page
    assert not re.search(r"data-parts|data-made|\bsrc=|\bhref=", page)


def test_what_a_page_is_made_with_cannot_end_its_script(root):
    assert '["\\u003c/script>\\u003cb>"]' in apps.assemble("small", root)


@pytest.mark.survives(
    "A standalone page, or what a person drops on it, tries to send something away",
    "The browser refuses: the page may connect nowhere and runs only what it was built with",
)
def test_the_policy_allows_what_was_built_in_and_no_connection(root):
    page = apps.assemble("small", root)
    policy = re.search(r'<head>\n<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)[1]
    rules = {name: sources for name, *sources in (part.split() for part in policy.split("; "))}
    for name in ("default-src", "connect-src", "form-action", "base-uri"):
        assert rules[name] == ["'none'"]
    script = digest("\nconst one = 1;\ndocument.title = one;\n")
    assert rules["script-src"] == [f"'sha256-{script}'"]
    assert rules["style-src"] == [f"'sha256-{digest(chr(10) + PARTS['look.css'] + chr(10))}'"]
    assert rules["img-src"] == ["blob:", "data:"]
    assert rules["worker-src"] == ["blob:"]


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("page.js", None, r"page\.js cannot be read; restore it"),
        ("page.js", 'const end = "</script>";', r"holds </script; write it in another way"),
        ("index.html", INDEX.replace("cells", "smears"), r"asks for 'smears', which is none of: cells"),
    ],
)
def test_a_page_that_cannot_be_made_is_one_sentence(root, tmp_path, file, text, match):
    path = root / "book" / "_app" / "small" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=match):
        apps.write_apps(tmp_path / "out", ["small"], root)
    assert not (tmp_path / "out" / "small.html").exists()


def test_the_command_says_what_it_wrote_and_which_pages_there_are(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(apps.write_apps, "__defaults__", ((), root))
    assert apps.main([str(tmp_path / "out"), "small"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'out' / 'small.html'}: ")
    assert apps.main([str(tmp_path / "out"), "large"]) == 1
    assert "there is no page 'large'; choose from: clinic" in capsys.readouterr().err
