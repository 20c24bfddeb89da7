"""What the page of faults relies on: every mark of a test becomes one row, and none is lost."""

import pytest

from hemafl_book.build.faults import read_faults

TESTS = """
import pytest

@pytest.mark.survives("A node dies", "the others go on")
def test_one(): ...

@pytest.mark.parametrize("value", [
    pytest.param(1, marks=pytest.mark.survives("One", "a sentence")),
    pytest.param(2, marks=pytest.mark.survives("Two", "another " "sentence")),
])
def test_several(value): ...

class TestGroup:
    @pytest.mark.slow
    @pytest.mark.survives("In a class", "found")
    def test_three(self): ...
"""


def test_every_mark_becomes_a_row(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    rows = [(row.fault, row.happens, row.test) for row in read_faults(tmp_path)]
    assert sorted(rows) == [
        ("A node dies", "the others go on", "test_one"),
        ("In a class", "found", "test_three"),
        ("One", "a sentence", "test_several"),
        ("Two", "another sentence", "test_several"),
    ]


@pytest.mark.parametrize("words", ['"only one"', "FAULT, HAPPENS", '"a", "b", "c"'])
def test_a_mark_without_two_plain_texts_names_its_line(tmp_path, words):
    (tmp_path / "test_it.py").write_text(f"@pytest.mark.survives({words})\ndef test_it(): ...\n")
    with pytest.raises(ValueError, match=r"test_it\.py, line 1"):
        read_faults(tmp_path)


def test_every_row_can_be_read(repository):
    for row in read_faults(repository / "tests"):
        for text in (row.fault, row.happens):
            assert len(text.split()) <= 30, f"{row.test}: '{text}' is too long for a row"
            assert not text.endswith("."), f"{row.test}: '{text}' ends with a full stop"
        assert row.fault[0].isupper() or not row.fault[0].isalpha(), f"{row.test}: '{row.fault}' begins small"


def test_every_room_with_faults_stands_on_the_page(repository):
    page = (repository / "book" / "reference" / "what_it_survives.md").read_text()
    rooms = {row.file.relative_to(repository / "tests").parts[0] for row in read_faults(repository / "tests")}
    missing = {room for room in rooms if f"```{{faults}} {room}\n" not in page}
    assert not missing, f"add a table for {missing} to the page"
