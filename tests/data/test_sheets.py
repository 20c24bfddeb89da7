"""Tables as spreadsheets leave them: moved cells, other separators and encodings."""

import pytest
from builders import patients

from hemafl_lib import data
from hemafl_lib.data import sheets
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import DataError


def read(root, name="bmt") -> TableCohort:
    return data.load_table(name, root=root)


def refused(root, name="bmt") -> str:
    """Return the one sentence with which a table is refused, by `load` and by `check` alike."""
    with pytest.raises(DataError) as caught:
        read(root, name)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert str(root) in sentence
    (report,) = data.check(root / name)
    assert report.broken == (sentence,)
    assert not report.ok
    return sentence


def repaired(root, expected, name="bmt") -> tuple[str, ...]:
    """Return what was repaired in a table that is otherwise as expected; `check` is not content with it."""
    cohort = read(root, name)
    assert rows_of(cohort) == rows_of(expected)
    (report,) = data.check(root / name)
    assert report.repairs == cohort.provenance.repairs != ()
    assert not report.ok
    return cohort.provenance.repairs


def rows_of(cohort) -> set[tuple]:
    """Return the patients with all that is known of them, whatever their order."""
    values = zip(
        cohort.patient.tolist(),
        cohort.site.tolist(),
        cohort.time.tolist(),
        cohort.event.tolist(),
        (str(row) for row in cohort.features.tolist()),
        strict=True,
    )
    return set(values)


@pytest.fixture
def good(tmp_path_factory) -> TableCohort:
    root = tmp_path_factory.mktemp("good")
    patients.write_bmt(root)
    (report,) = data.check(root)
    assert report.ok
    assert report.repairs == ()
    return read(root)


SPOILT_ROWS = {
    "a separator at its end": lambda cells: [*cells, ""],
    "a cell too few": lambda cells: cells[:4] + cells[5:],
    "a cell inserted": lambda cells: [*cells[:4], "", *cells[4:]],
    "a separator inside a cell": lambda cells: [*cells[:6], "x", "y", *cells[7:]],
}


@pytest.mark.survives("A row of a table has a separator or a cell too many or too few", "the row is named")
@pytest.mark.parametrize("fault", SPOILT_ROWS)
@pytest.mark.parametrize("row", [2, 9])
def test_a_row_of_another_length_is_named(tmp_path, fault, row):
    table = patients.bmt()
    table[row - 1] = SPOILT_ROWS[fault](table[row - 1])
    patients.write_bmt(tmp_path, table)
    assert f"bmt.csv: row {row} has {len(table[row - 1])} cells and the header has 14" in refused(tmp_path)


@pytest.mark.survives(
    "The list of mutations has one tab too many, so that genes stand in other columns",
    "the row is named; nobody's genes become 0",
)
def test_a_trailing_tab_in_the_list_of_mutations_is_named(tmp_path):
    pytest.importorskip("rdata")
    patients.write_amlsg(tmp_path)
    assert patients.carriers(read(tmp_path, "amlsg"), "DNMT3A") == 24
    table = patients.mutations()
    table[1].append("")
    patients.write_amlsg(tmp_path, table)
    assert "AMLSG_Genetic.txt: row 2 has 5 cells and the header has 4" in refused(tmp_path, "amlsg")


@pytest.mark.survives("Every row ends with a separator, the header too", "it is left out and told")
def test_a_column_without_name_and_value_is_left_out(tmp_path, good):
    patients.write_bmt(tmp_path, [[*cells, ""] for cells in patients.bmt()])
    assert repaired(tmp_path, good) == ("A column of bmt.csv without name and value was left out.",)


@pytest.mark.survives("Every row ends with a separator, but not the header", "a sentence that names the rows")
def test_rows_longer_than_the_header_are_named(tmp_path):
    header, *rows = patients.bmt()
    patients.write_bmt(tmp_path, [header, *([*cells, ""] for cells in rows)])
    assert "row 2 has 15 cells and the header has 14 (likewise rows 3, 4" in refused(tmp_path)


@pytest.mark.survives("A cell was deleted and the rest of its row moved to the left", "the row is named")
@pytest.mark.parametrize("deleted", [1, 5, 11, 13])
def test_cells_moved_to_the_left_are_noticed(tmp_path, deleted):
    table = patients.bmt()
    table[6] = [*table[6][:deleted], *table[6][deleted + 1 :], ""]
    patients.write_bmt(tmp_path, table)
    assert "is empty in row 7 and no other cell is, as if cells had moved to the left" in refused(tmp_path)


def test_empty_cells_are_no_sign_of_a_move_where_they_are_usual(tmp_path):
    table = patients.bmt()
    table[6][-1] = table[8][4] = ""
    patients.write_bmt(tmp_path, table)
    cohort = read(tmp_path)
    assert int(cohort.features.isnan().sum()) == 2
    assert cohort.provenance.notes == ("Cells of bmt.csv that say 'not known': z1 1, z10 1.",)


@pytest.mark.survives("A column with values has no name", "a sentence that names column and row")
def test_a_value_below_no_name_is_refused(tmp_path):
    table = [[*cells, ""] for cells in patients.bmt()]
    table[4][-1] = "1"
    patients.write_bmt(tmp_path, table)
    assert "column 15 has no name but a value in row 5" in refused(tmp_path)


QUOTES = {
    "one that never closes": (4, '"46', "cannot be read"),
    "one that is not at the end": (4, '"46" or so', "row 5 cannot be read"),
}


@pytest.mark.survives("A quotation mark too many joins rows", "the row is named; no patient is lost")
@pytest.mark.parametrize("case", QUOTES)
def test_a_stray_quotation_mark_is_named(tmp_path, case):
    column, cell, sentence = QUOTES[case]
    table = patients.bmt()
    table[4][column] = cell
    patients.write_bmt(tmp_path, table)
    assert sentence in refused(tmp_path)


def test_a_cell_that_swallowed_rows_is_named(tmp_path):
    table = [[*cells, "-"] for cells in patients.bmt()]
    table[0][-1] = "comment"
    table[4][-1], table[6][-1] = '"moved', 'here"'
    patients.write_bmt(tmp_path, table)
    assert "a cell of row 5 holds further rows" in refused(tmp_path)


def test_a_quoted_cell_of_several_lines_counts_as_one_row(tmp_path):
    table = [[*cells, "-"] for cells in patients.bmt()]
    table[0][-1] = "comment"
    table[4][-1] = '"seen again,\nas agreed"'
    table[8][4] = "old"
    patients.write_bmt(tmp_path, table)
    assert "column z1 holds 'old' in row 9" in refused(tmp_path)


@pytest.mark.survives(
    "A table is separated by semicolons, tabs or bars", "it is read, and the separator is told"
)
@pytest.mark.parametrize(("separator", "kind"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_separator_is_read(tmp_path, good, separator, kind):
    patients.write_bmt(tmp_path, separator=separator)
    assert repaired(tmp_path, good) == (f"bmt.csv is separated by {kind}, not by commas.",)


def test_the_line_that_tells_excel_the_separator_is_no_row(tmp_path):
    path = patients.write_bmt(tmp_path, patients.replaced(patients.bmt(), "z7", lambda _: "x", [5]), ";")
    path.write_text("sep=;\n" + path.read_text())
    assert "column z7 holds 'x' in row 5" in refused(tmp_path)


@pytest.mark.survives("A table is in UTF-16, has a byte-order mark or Windows line ends", "it is read")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_with_a_mark_and_line_ends_are_read(tmp_path, good, encoding, ends):
    patients.write_bmt(tmp_path, encoding=encoding, ends=ends)
    assert rows_of(read(tmp_path)) == rows_of(good)
    assert read(tmp_path).provenance.repairs == ()


@pytest.mark.survives("A table is in Latin-1", "it is read, and the guess is told")
def test_latin_1_is_read_and_told(tmp_path, good):
    table = [[*cells, "Zürich"] for cells in patients.bmt()]
    table[0][-1] = "Wohnort Größe"
    patients.write_bmt(tmp_path, table, encoding="latin-1")
    assert repaired(tmp_path, good) == ("bmt.csv is not in UTF-8 and was read as Windows-1252 (Latin-1).",)


FOREIGN = {
    "an Excel workbook": (b"PK\x03\x04 and so on", "is an Excel workbook and no text table"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel workbook of the old kind"),
    "a web page": (b"\n<html><table>", "is a web page"),
    "a NUL byte": (b"rownames,group\n1,2\n3,\x00\n", "row 3 holds a NUL byte"),
    "UTF-16 without its mark": ("rownames,group\n".encode("utf-16-le"), "row 1 holds a NUL byte"),
    "nothing": (b"", "is empty"),
    "blank lines": (b"\n\n ,\n", "is empty"),
    "one column": (b"rownames\n1\n", "separated by none of tabs, commas, semicolons, bars"),
    "a header alone": (b"rownames,group\n", "a header and no row below it"),
    "damaged characters": (b"\xef\xbb\xbfrown\xff\xff", "no text in a known encoding"),
    "a cell without end": (b"rownames,group\n1," + b"x" * 10**6, "row 2 cannot be read"),
}


@pytest.mark.survives(
    "An Excel file, a web page or a damaged file is called .csv", "a sentence that says what it is"
)
@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_text_table_is_named(tmp_path, case):
    content, sentence = FOREIGN[case]
    patients.write_bmt(tmp_path).write_bytes(content)
    assert sentence in refused(tmp_path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    path = patients.write_bmt(tmp_path)

    def forbidden(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", forbidden)
    assert "bmt.csv cannot be read (Permission denied)" in refused(tmp_path)


@pytest.mark.survives("A table ends with blank lines, or with rows of separators only", "they are left out")
def test_rows_without_any_value_are_left_out(tmp_path, good):
    path = patients.write_bmt(tmp_path)
    path.write_text(path.read_text() + "\n\n")
    assert read(tmp_path).provenance.repairs == ()
    path.write_text(path.read_text() + "," * 13 + "\n")
    assert repaired(tmp_path, good) == ("1 row(s) of bmt.csv without any value were left out.",)


@pytest.mark.survives("A column's name has other capitals or blanks", "it is read, and told")
@pytest.mark.parametrize("name", ["T2", " t2 ", "t\u00a02", "\u200bt2", '"t2"'])
def test_a_column_is_found_whatever_its_capitals_and_blanks(tmp_path, good, name):
    table = patients.bmt()
    table[0][2] = name
    patients.write_bmt(tmp_path, table)
    if name == '"t2"':
        assert rows_of(read(tmp_path)) == rows_of(good)
    else:
        assert repaired(tmp_path, good)


@pytest.mark.survives("A column stands twice", "a sentence that names it")
@pytest.mark.parametrize("name", ["z1", "Z1 "])
def test_a_column_that_stands_twice_is_refused(tmp_path, name):
    table = [[*cells, "1"] for cells in patients.bmt()]
    table[0][-1] = name
    patients.write_bmt(tmp_path, table)
    assert "column z1 stands more than once (5, 15)" in refused(tmp_path)


def test_a_column_that_is_not_read_may_hold_anything(tmp_path, good):
    table = [[*cells, "#REF!", "1"] for cells in patients.bmt()]
    table[0][-2:] = ["note", "note"]
    patients.write_bmt(tmp_path, table)
    assert rows_of(read(tmp_path)) == rows_of(good)


def test_a_missing_column_is_named(tmp_path):
    patients.write_bmt(tmp_path, [cells[:-1] for cells in patients.bmt()])
    assert "lacks the column(s) z10" in refused(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("P1", "p 01", True),
        ("7", "7.0", True),
        ("007", "7", True),
        ("P1", "P1\u00a0", True),
        ("P1", "\ufeffP1", True),
        ("P1", "Ｐ１", True),
        ("P10", "P1", False),
        ("1.05", "1.5", False),
        ("P1-1", "P11", False),
    ],
)
def test_spellings_of_a_key(one, other, alike):
    assert (sheets.spelling(one) == sheets.spelling(other)) is alike


def test_a_folder_with_a_line_break_in_its_name_leaves_a_sentence_whole(tmp_path):
    patients.write_bmt(tmp_path / "two\nlines", patients.bmt()[:1])
    with pytest.raises(DataError, match=r"two lines/bmt/bmt.csv holds a header"):
        read(tmp_path / "two\nlines")


def test_a_sentence_quotes_a_cell_short_and_without_control_characters():
    assert sheets.quoted("a\tb\x07" + "c" * 100) == "'a b " + "c" * 26 + "...'"
