"""A hospital's own tables and images: its mapping, what is wrong with its data, and what is read of it."""

import numpy as np
import pytest
import torch
from builders import own_data, tiny_layouts
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_lib.data import own
from hemafl_lib.errors import DataError

MAPPING = own.parse_mapping(own_data.NORTH, "north.toml")


def report(folder, mapping=MAPPING):
    """The report on the table of a folder."""
    return own.check_own(folder, mapping.model_copy(update={"images": None}))[0]


# --- the mapping -----------------------------------------------------------------------------------


@pytest.mark.survives(
    "A mapping file with a slip: a misspelt setting, an unknown unit or type of cell, two times",
    "one sentence that names the setting and says what is allowed",
)
@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('patient = "PatNr"', 'patiant = "PatNr"', r"'table.patient' is missing; add it"),
        ("missing =", "mising =", r"'table.mising' is no setting"),
        ('unit = "g/l"', 'unit = "mg/l"', r"the unit of 'haemoglobin' is 'mg/l', and it must be one of g/dl"),
        ('"lymphocyte"', '"lymphozyt"', r"'Lymphozyten' is said to hold 'lymphozyt', and it must be one of"),
        ('".png"', '".gif"', r"the suffix '.gif' must be one of .jpg"),
        ("nein = 0", "nein = 2", r"'table.outcome.codes.nein' is 2"),
        ("nein = 0", "nein = 1", r"'codes' must say which word means 1"),
        ('origin = "Diagnose"', 'time = "Monate"', r"give either 'time' with its 'unit', or 'origin'"),
        ('last = "Zuletzt"', 'time = "Monate"', r"give either 'time' with its 'unit', or 'origin'"),
        ("smallest_count = 1", "smallest_count = 0", r"'smallest_count' is 0"),
        (
            "smallest_count = 1",
            'smallest_count = "1"',
            r"'smallest_count' is '1'; it must be a valid integer",
        ),
        ('event = "Verstorben"', 'event = "?"', r"still holds '\?' for table.outcome.event; fill in"),
        ("[images]", "[images", r"is no TOML"),
        ('"patienten.csv"', '"/etc/passwd"', r"'table.file' will not do; it must lie in the data folder"),
        ('"patienten.csv"', '"a/../../b.csv"', r"'table.file' will not do; it must lie in the data folder"),
        ('"patienten.csv"', "'C:\\b.csv'", r"'table.file' will not do; it must lie in the data folder"),
        ('"patienten.csv"', "'..\\b.csv'", r"'table.file' will not do; it must lie in the data folder"),
        ('"patienten.csv"', '"a\\u0000b"', r"'table.file' will not do; it must lie in the data folder"),
        (
            "[images]",
            '[images]\nfolder = ".."',
            r"'images.folder' will not do; it must lie in the data folder",
        ),
        ("smallest_count = 1", f"x = {999 * '['}{999 * ']'}", r"has too many brackets in brackets"),
        ("smallest_count = 1", f"x{2000 * '.a'} = 1", r"has too many brackets in brackets"),
    ],
)
def test_a_slip_in_a_mapping_is_one_sentence(old, new, sentence):
    assert old in own_data.NORTH
    with pytest.raises(DataError, match=sentence):
        own.parse_mapping(own_data.NORTH.replace(old, new, 1), "north.toml")


def test_a_table_in_a_folder_of_the_data_folder_can_be_named():
    mapping = own.parse_mapping(own_data.NORTH.replace("patienten.csv", "tables/2024/patienten.csv"), "n")
    assert mapping.table.file == "tables/2024/patienten.csv"


def test_a_mapping_of_nothing_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"give '\[table\]' or '\[images\]'"):
        own.parse_mapping("smallest_count = 7", "empty.toml")
    with pytest.raises(DataError, match="cannot be read"):
        own.read_mapping(tmp_path / "nowhere.toml")


# --- the table -------------------------------------------------------------------------------------


def test_two_hospitals_with_other_names_and_units_are_read_alike(tmp_path):
    """The same patients in both forms give the same features, times and events."""
    own_data.write_table(tmp_path / "patienten.csv", own_data.north_table(30, 5), ";")
    own_data.write_table(tmp_path / "cohort.csv", own_data.south_table(30, 5), ",")
    south = own.parse_mapping(own_data.SOUTH, "south.toml")
    ours, theirs = (
        own.load_own_table(tmp_path, mapping, site) for mapping, site in ((MAPPING, "n"), (south, "s"))
    )
    assert ours.feature_names == ("age", "male", "haemoglobin")
    assert theirs.feature_names == ("haemoglobin", "age", "male")
    order = [theirs.feature_names.index(name) for name in ours.feature_names]
    torch.testing.assert_close(ours.features, theirs.features[:, order], rtol=0, atol=2e-3)
    torch.testing.assert_close(ours.time, theirs.time, rtol=0, atol=2e-3)
    assert torch.equal(ours.event, theirs.event)
    assert set(ours.site) == {"n"}


def test_own_codes_of_not_known_are_unknown_values(tmp_path):
    rows = own_data.north_table(20)
    rows[3][2], rows[4][4], rows[5][3] = "-9", "k.A.", ""
    own_data.write_table(tmp_path / "patienten.csv", rows, ";")
    cohort = own.load_own_table(tmp_path, MAPPING, "north")
    assert np.argwhere(cohort.features.isnan().numpy()).tolist() == [[2, 0], [3, 2], [4, 1]]


def test_a_patient_without_outcome_is_left_out_and_told(tmp_path):
    rows = own_data.north_table(20)
    rows[3][6] = rows[3][7] = "NA"
    own_data.write_table(tmp_path / "patienten.csv", rows, ";")
    checked = report(tmp_path)
    assert (checked.ok, checked.patients) == (True, 19)
    assert "1 patient(s) without a known outcome are left out." in checked.noted
    assert checked.unread == ("Name",)


@pytest.mark.survives(
    "A hospital's own table with several slips: words among numbers, unknown codes, dates that are none",
    "every one is named with its row and column before anything is trained, and loading is refused",
)
def test_every_problem_of_a_table_is_named_with_its_row(tmp_path):
    rows = own_data.north_table(30)
    rows[2][4], rows[3][3], rows[4][6], rows[5][2] = "hoch", "x", "31.02.2012", "190"
    rows[6][5], rows[7][7] = "01.01.2099", "NA"
    own_data.write_table(tmp_path / "patienten.csv", rows, ";")
    problems = report(tmp_path).problems
    for place in (
        "row 3, column Hb: 'hoch' is no number",
        "row 4, column Geschlecht: 'x' is none of the codes m, w",
        "row 5, column Zuletzt: '31.02.2012' is no date such as 31.12.2021",
        "row 6, column Alter: '190' is not what a patient can have in years (1 to 120)",
        "is before the time of origin",
        "row 8, column Verstorben: 'NA' stands beside a Zuletzt that does not fit",
    ):
        assert any(place in problem for problem in problems), (place, problems)
    assert len(problems) == 6
    with pytest.raises(DataError, match="names all 6 problems"):
        own.load_own_table(tmp_path, MAPPING, "north")


@pytest.mark.survives(
    "A mapping states g/dl for a column of haemoglobin that is in g/l",
    "`hemafl data check` says that the unit looks wrong and which one it looks like",
)
def test_a_unit_that_looks_wrong_is_told(tmp_path):
    own_data.north(tmp_path)
    wrong = own.parse_mapping(own_data.NORTH.replace('unit = "g/l"', 'unit = "g/dl"'), "north.toml")
    (problem,) = report(tmp_path, wrong).problems
    assert "is not usual for haemoglobin in g/dl (5 to 18); it looks like g/l" in problem


def test_unusual_patients_are_noted_where_no_other_unit_explains_them(tmp_path):
    """A hospital of children may take part: a median age of 8 years is none in days or months either."""
    head, *rows = own_data.north_table(120)
    ages = [
        [cell if at != 2 else str(4 + number % 9) for at, cell in enumerate(row)]
        for number, row in enumerate(rows)
    ]
    own_data.write_table(tmp_path / "patienten.csv", [head, *ages], ";")
    told = report(tmp_path)
    assert told.problems == ()
    assert any("median 8 is not usual for age in years" in line for line in told.noted), told.noted


@pytest.mark.parametrize(
    ("column", "change", "sentence"),
    [
        (7, lambda cell: "nein", "'event' is 0 for all"),
        (0, lambda cell: "N1", "give one patient"),
        (6, lambda cell: "02.03.2010", "the longest follow-up is"),
        (6, lambda cell: "", "stands beside a Zuletzt"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_a_problem(tmp_path, column, change, sentence):
    head, *rows = own_data.north_table(20)
    changed = [[change(cell) if at == column else cell for at, cell in enumerate(row)] for row in rows]
    own_data.write_table(tmp_path / "patienten.csv", [head, *changed], ";")
    assert any(sentence in problem for problem in report(tmp_path).problems)


def test_a_table_or_column_that_is_missing_is_named(tmp_path):
    assert "patienten.csv cannot be read" in report(tmp_path).problems[0]
    own_data.write_table(tmp_path / "patienten.csv", [row[:-1] for row in own_data.north_table()], ";")
    assert "lacks the column(s) Verstorben" in report(tmp_path).problems[0]


@pytest.mark.survives(
    "Columns, units or folders of a hospital's data have names that steer a terminal",
    "The report spells them out",
)
def test_no_name_in_a_report_steers_the_terminal(tmp_path):
    table = own_data.north_table(30, 5)
    table[0][1] = "Notiz\x1b[2J\u202e"
    own_data.write_table(tmp_path / "patienten.csv", table, ";")
    text = report(tmp_path).text()
    assert all(line.isprintable() for line in text.split("\n"))
    assert "no part of the mapping names" in text
    assert "Notiz\\x1b[2J\\u202e" in text


def test_a_label_may_be_the_outcome(tmp_path):
    text = own_data.NORTH.partition("[table.outcome]")[0] + (
        '[table.outcome]\nkind = "label"\nlabel = "Verstorben"\ncodes = { ja = 1, nein = 0 }\n'
        '[table.features.karnofsky]\ncolumn = "Alter"\nunit = "%"\nlow = 0\nhigh = 80\n'
    )
    own_data.north(tmp_path)
    mapping = own.parse_mapping(text, "north.toml")
    problems = report(tmp_path, mapping).problems
    assert problems
    assert all("is not in this column's own bounds (0 to 80)" in problem for problem in problems)
    loose = own.parse_mapping(text.replace("high = 80", "high = 100"), "north.toml")
    cohort = own.load_own_table(tmp_path, loose, "north")
    assert cohort.label.tolist() == [int(row[7] == "ja") for row in own_data.north_table()[1:]]
    assert cohort.time is None


# --- images ----------------------------------------------------------------------------------------


def test_images_of_other_class_folders_are_read_alike(tmp_path):
    own_data.north(tmp_path / "north")
    own_data.south(tmp_path / "south")
    south = own.parse_mapping(own_data.SOUTH, "south.toml")
    for folder, mapping, people in (("north", MAPPING, 12), ("south", south, 24)):
        cohort = own.load_own_images(tmp_path / folder, mapping, folder, size=16)
        assert cohort.images.shape == (24, 3, 16, 16)
        assert cohort.classes == ("segmented_neutrophil", "lymphocyte")
        assert cohort.counts().tolist() == [12, 12]
        assert len(set(cohort.patient)) == people
        assert [one.ok for one in own.check_own(tmp_path / folder, mapping)] == [True, True]


@pytest.mark.survives(
    "Own image folders with a damaged file, a folder of no stated class, or a picture beside the folders",
    "each is named with its file; what cannot be read is refused",
)
def test_every_problem_of_images_is_named_with_its_file(tmp_path):
    own_data.north(tmp_path)
    (tmp_path / "Lymphozyten" / "p9_99.png").write_bytes(b"no picture")
    tiny_layouts.save(tmp_path / "Unklar" / "a.png", 50)
    tiny_layouts.save(tmp_path / "b.png", 51)
    tiny_layouts.save(tmp_path / "Lymphozyten" / "c.jpg", 52)
    tiny_layouts.save(tmp_path / "Lymphozyten" / "p1_copy.png", 0)
    problems = own.check_own(tmp_path, MAPPING)[1].problems
    for place in ("p9_99.png cannot be read", "Unklar/a.png: no known class", "b.png: left out", "c.jpg"):
        assert any(place in problem for problem in problems), place
    assert any("the same picture as one of another class" in problem for problem in problems)
    assert len(problems) == 5
    with pytest.raises(DataError, match=r"p9_99\.png"):
        own.load_own_images(tmp_path, MAPPING, "north", size=16)
    left_out = own_data.NORTH.replace("[images]", '[images]\nleft_out = ["Unklar"]')
    listed = own.check_own(tmp_path, own.parse_mapping(left_out, "north.toml"))[1].problems
    assert not any("Unklar" in problem for problem in listed)


def test_a_class_folder_that_is_missing_and_folders_without_images_are_refused(tmp_path):
    (tmp_path / "Lymphozyten").mkdir()
    with pytest.raises(DataError, match="has no class folder 'Segmentkernige'"):
        own.load_own_images(tmp_path, MAPPING, "north", size=16)
    (tmp_path / "Segmentkernige").mkdir()
    with pytest.raises(DataError, match="no picture that can be read"):
        own.load_own_images(tmp_path, MAPPING, "north", size=16)


# --- the draft and the commands --------------------------------------------------------------------


def test_a_draft_says_what_can_be_told_from_the_data(tmp_path):
    rows = own_data.north_table()
    rows[3][2] = rows[8][2] = "-9"
    own_data.north(tmp_path)
    own_data.write_table(tmp_path / "patienten.csv", rows, ";")
    (tmp_path / "mapping.toml").unlink()
    draft = own.draft_mapping(tmp_path)
    mapping = own.parse_mapping(draft, "draft")
    table, images = mapping.table, mapping.images
    assert (table.file, table.patient, table.missing) == ("patienten.csv", "PatNr", ["-9"])
    assert table.outcome.codes == {"ja": 1, "nein": 0}
    assert table.outcome.dates == "%d.%m.%Y"
    assert {name: feature.unit for name, feature in table.features.items()} == {
        "age": "years",
        "male": None,
        "haemoglobin": "g/l",
    }
    assert images.classes == {"Segmentkernige": "segmented_neutrophil", "Lymphozyten": "lymphocyte"}
    assert all(one.ok for one in own.check_own(tmp_path, mapping))


def test_a_draft_asks_for_what_nobody_but_the_hospital_knows(tmp_path):
    own_data.write_table(tmp_path / "cohort.csv", own_data.south_table(), ",")
    tiny_layouts.save(tmp_path / "Klasse 7" / "a.png", 1)
    with pytest.raises(DataError, match=r"fill in what is true") as caught:
        own.parse_mapping(own.draft_mapping(tmp_path), "draft")
    for place in ("table.outcome.unit", "images.classes.Klasse 7"):
        assert place in str(caught.value)


def test_a_folder_of_nothing_or_of_several_tables_has_no_draft(tmp_path):
    with pytest.raises(DataError, match="holds no table"):
        own.draft_mapping(tmp_path)
    for name in ("a.csv", "b.csv"):
        own_data.write_table(tmp_path / name, own_data.south_table(), ",")
    with pytest.raises(DataError, match="holds several tables"):
        own.draft_mapping(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        own.draft_mapping(tmp_path / "nowhere")


def hemafl(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_the_commands_check_and_draft(tmp_path):
    mapping = own_data.north(tmp_path)
    done = hemafl("check", tmp_path, "--mapping", mapping)
    assert done.exit_code == 0, done.output
    assert "the table can be used" in done.output
    assert "What will leave the hospital:\n- The hospital's name and number" in done.output
    (tmp_path / "Lymphozyten" / "x.png").write_bytes(b"")
    assert hemafl("check", tmp_path, "--mapping", mapping).exit_code == 1
    draft = tmp_path / "draft.toml"
    assert hemafl("mapping", tmp_path, "--out", draft).exit_code == 0
    assert draft.read_text() == hemafl("mapping", tmp_path).output
    again = hemafl("mapping", tmp_path, "--out", draft)
    assert (again.exit_code, "name a new file" in again.output) == (1, True)
