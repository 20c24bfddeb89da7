"""What stands in the cells of a table: keys, units, times, events, and codes for what nobody knows."""

import pandas as pd
import pytest
import torch
from builders import patients
from builders.patients import replaced

from hemafl_lib import data
from hemafl_lib.data import sheets, tables
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import DataError


def read(root, name="bmt") -> TableCohort:
    return data.load_table(name, root=root)


def refused(root, name="bmt") -> str:
    with pytest.raises(DataError) as caught:
        read(root, name)
    assert str(caught.value).isprintable()
    return str(caught.value)


def values(cohort, name) -> list[float]:
    return cohort.features[:, cohort.feature_names.index(name)].tolist()


def equal(left, right) -> bool:
    return (
        torch.equal(left.features.nan_to_num(-1), right.features.nan_to_num(-1))
        and torch.equal(left.time, right.time)
        and torch.equal(left.event, right.event)
    )


@pytest.fixture
def good(tmp_path_factory) -> TableCohort:
    root = tmp_path_factory.mktemp("good")
    patients.write_bmt(root)
    return read(root)


@pytest.fixture
def good_ipssm(tmp_path_factory) -> TableCohort:
    root = tmp_path_factory.mktemp("good")
    patients.write_ipssm(root)
    assert read(root, "ipssm").provenance.repairs == ()
    return read(root, "ipssm")


# Keys


@pytest.mark.survives(
    "A patient stands twice, once with a blank, other capitals, leading zeros or '.0' in the key",
    "read once, and told",
)
@pytest.mark.parametrize("key", ["7", "7 ", "\u00a07", "7.0", "007"])
def test_a_row_that_repeats_another_under_a_second_spelling_is_read_once(tmp_path, good, key):
    table = patients.bmt()
    table.append([key, *table[7][1:]])
    patients.write_bmt(tmp_path, table)
    cohort = read(tmp_path)
    assert equal(cohort, good)
    assert "1 row(s) of bmt.csv that repeat another were left out." in cohort.provenance.repairs
    (report,) = data.check(tmp_path / "bmt")
    assert not report.ok


@pytest.mark.survives(
    "Two rows give one patient other values, under one key or two spellings", "both are named"
)
@pytest.mark.parametrize("key", ["7", "7 ", "007", "7_1", "7 (1)", "7.1"])
def test_two_rows_of_one_patient_that_differ_are_named(tmp_path, key):
    table = patients.bmt()
    table.append([key, *table[9][1:]])
    patients.write_bmt(tmp_path, table)
    assert "rows 8" in refused(tmp_path)
    assert "26" in refused(tmp_path)


@pytest.mark.survives("A key holds a line break, a tab or a blank that cannot be seen", "the row is named")
@pytest.mark.parametrize("hidden", ["\x07", "\u200b", '"'])
def test_a_key_with_a_hidden_character_is_named(tmp_path, hidden):
    key = '"x\ny"' if hidden == '"' else f"x{hidden}y"
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "rownames", lambda _: key, rows=[4]))
    assert "column rownames holds 'x y' in row 4, in which a character cannot be seen" in refused(tmp_path)


SPELLINGS = {
    "blanks behind them": lambda key: f"{key} ",
    "a non-breaking blank": lambda key: f"\u00a0{key}",
    "other capitals": str.lower,
    "a float's '.0'": lambda key: f"{key}.0",
    "leading zeros": lambda key: f"P0{key[1:]}",
}


@pytest.mark.survives(
    "The keys of a second table have blanks, capitals, zeros or '.0' of their own", "they match"
)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_keys_match_whatever_their_spelling(tmp_path, good_ipssm, spelling):
    table = replaced(patients.ipssm()["df_mut.tsv"], "ID", SPELLINGS[spelling])
    patients.write_ipssm(tmp_path, mut=table)
    cohort = read(tmp_path, "ipssm")
    assert equal(cohort, good_ipssm)
    assert cohort.provenance.repairs


@pytest.mark.survives("A key has a suffix that the clinical table does not know (P1_1)", "the row is named")
@pytest.mark.parametrize("suffix", ["_1", ".1", " (2)", "-1"])
def test_a_key_with_a_suffix_is_named(tmp_path, suffix):
    table = replaced(patients.ipssm()["df_mut.tsv"], "ID", lambda key: key + suffix, rows=[4])
    patients.write_ipssm(tmp_path, mut=table)
    assert f"df_mut.tsv: column ID holds 'P3{suffix}' in row 4" in refused(tmp_path, "ipssm")


@pytest.mark.survives(
    "Tables that hardly share a patient are joined", "refused, with the counts on both sides"
)
def test_a_join_that_matches_little_is_refused(tmp_path):
    table = replaced(patients.ipssm()["df_cna.tsv"], "ID", lambda key: f"X{key}Y")
    patients.write_ipssm(tmp_path, cna=table)
    sentence = refused(tmp_path, "ipssm")
    assert "df_cna.tsv: only 0 of 24 patients of df_cna.tsv match the 24 of the clinical table" in sentence
    assert "at least 75% of both should" in sentence


@pytest.mark.survives("Some patients stand in one table only", "read, with the counts on both sides")
def test_a_join_says_how_many_rows_matched(tmp_path):
    table = replaced(patients.ipssm()["df_mut.tsv"], "ID", lambda key: f"X{key}Y", rows=[4, 5])
    patients.write_ipssm(tmp_path, mut=table)
    cohort = read(tmp_path, "ipssm")
    told = cohort.provenance
    assert "22 of 24 patients of df_mut.tsv match the 24 of the clinical table." in told.notes
    assert "2 patient(s) of df_mut.tsv without a clinical record were left out." in told.repairs
    assert "2 patient(s) have no row in df_mut.tsv: its features are unknown." in told.repairs
    assert [number for number, value in enumerate(values(cohort, "TP53")) if value != value] == [2, 3]


@pytest.mark.survives(
    "A list of mutations names no patient of the clinical table", "refused; no gene becomes 0"
)
def test_mutations_of_strangers_are_refused(tmp_path):
    pytest.importorskip("rdata")
    patients.write_amlsg(tmp_path, replaced(patients.mutations(), "SAMPLE_NAME", lambda key: f"X{key}Y"))
    assert "only 0 of 24 patients of AMLSG_Genetic.txt match" in refused(tmp_path, "amlsg")


@pytest.mark.survives(
    "A gene or a call of a mutation is written otherwise", "the row is named; no carrier is lost"
)
@pytest.mark.parametrize(
    ("column", "word"),
    [("GENE", "dnmt3a"), ("GENE", "DNMT 3A"), ("FINAL_CALL", "ok"), ("Result", "oncogenic"), ("GENE", "")],
)
def test_a_word_of_a_mutation_that_is_not_known_is_named(tmp_path, column, word):
    pytest.importorskip("rdata")
    patients.write_amlsg(tmp_path, replaced(patients.mutations(), column, lambda _: word, rows=[2]))
    sentence = refused(tmp_path, "amlsg")
    assert f"column {column}" in sentence
    assert "row 2" in sentence


@pytest.mark.survives(
    "The list of mutations was cut short, or none of them is sure", "refused; no gene becomes 0"
)
def test_a_list_of_mutations_that_says_little_is_refused(tmp_path):
    pytest.importorskip("rdata")
    patients.write_amlsg(tmp_path, patients.mutations()[:9])
    assert "only 4 of 4 patients of AMLSG_Genetic.txt match the 24" in refused(tmp_path, "amlsg")
    patients.write_amlsg(tmp_path, replaced(patients.mutations(), "FINAL_CALL", lambda _: "Q"))
    assert "nobody has a sure mutation" in refused(tmp_path, "amlsg")


def test_blanks_around_the_keys_of_a_file_of_r_are_told(tmp_path):
    pytest.importorskip("rdata")
    patients.write_amlsg(tmp_path)
    good = read(tmp_path, "amlsg")
    patients.write_amlsg(tmp_path, key="PD{} ")
    cohort = read(tmp_path, "amlsg")
    assert equal(cohort, good)
    assert cohort.patient.tolist() == good.patient.tolist()
    assert cohort.provenance.repairs == (
        "24 cell(s) of PDID in AMLSG_Clinical_Anon.RData had blanks around their value.",
    )


def test_genes_that_nobody_has_are_told(tmp_path):
    pytest.importorskip("rdata")
    patients.write_amlsg(tmp_path, replaced(patients.mutations(), "GENE", lambda _: "DNMT3A"))
    assert "Nobody has a mutation of ASXL1, BCOR" in " ".join(read(tmp_path, "amlsg").provenance.notes)


# Units


def scaled(factor: float):
    return lambda cell: f"{float(cell) * factor:.6g}"


UNITS = [
    ("HB", "haemoglobin", 10, "g/l"),
    ("PLT", "platelets", 1000, "per microlitre"),
    ("ANC", "neutrophils", 1000, "per microlitre"),
    ("BM_BLAST", "marrow_blasts", 0.01, "shares of 1"),
    ("AGE", "age", 365.25, "days"),
]


@pytest.mark.survives(
    "A column is in another unit: g/l, per microlitre, shares of 1, days",
    "all of it is converted, the lowest values too, and told",
)
@pytest.mark.parametrize(("column", "feature", "factor", "unit"), UNITS)
def test_the_unit_of_a_column_is_told_by_the_column(tmp_path, good_ipssm, column, feature, factor, unit):
    table = replaced(patients.ipssm()["df_clinical.tsv"], column, scaled(factor))
    patients.write_ipssm(tmp_path, clinical=table)
    cohort = read(tmp_path, "ipssm")
    assert values(cohort, feature) == pytest.approx(values(good_ipssm, feature), rel=1e-4)
    (repair,) = cohort.provenance.repairs
    assert repair.startswith(f"{column} of df_clinical.tsv is in {unit} and was converted to")


@pytest.mark.survives("One column mixes two units", "the rows are named")
@pytest.mark.parametrize(
    ("column", "factor", "rows"),
    [("HB", 10, [5]), ("PLT", 1000, [6]), ("AGE", 365.25, [3]), ("ANC", 1000, [8])],
)
@pytest.mark.parametrize("most", [False, True])
def test_two_units_in_one_column_are_refused(tmp_path, column, factor, rows, most):
    if most and column == "ANC":
        pytest.skip("neutrophils of 1 per microlitre are possible")
    changed = [row for row in range(2, 26) if row not in rows] if most else rows
    table = replaced(patients.ipssm()["df_clinical.tsv"], column, scaled(factor), rows=changed)
    patients.write_ipssm(tmp_path, clinical=table)
    sentence = refused(tmp_path, "ipssm")
    assert f"column {column} holds" in sentence
    assert f"in row {rows[0]}" in sentence


@pytest.mark.survives("Some blasts are shares of 1 and others are percent", "the rows are named")
def test_shares_among_percent_are_refused(tmp_path):
    table = patients.ipssm()["df_clinical.tsv"]
    table = replaced(table, "BM_BLAST", scaled(0.01), rows=[10, 11, 12, 13])
    patients.write_ipssm(tmp_path, clinical=table)
    assert "as if in two units" in refused(tmp_path, "ipssm")


@pytest.mark.survives(
    "A whole column is in a unit that nobody uses, or in thousandths", "its median gives it away"
)
@pytest.mark.parametrize(
    ("column", "factor"), [("HB", 0.1), ("HB", 100), ("PLT", 0.01), ("AGE", 0.1), ("AGE", 12), ("ANC", 0.01)]
)
def test_a_median_that_no_cohort_has_is_refused(tmp_path, column, factor):
    table = replaced(patients.ipssm()["df_clinical.tsv"], column, scaled(factor))
    patients.write_ipssm(tmp_path, clinical=table)
    assert f"column {column}" in refused(tmp_path, "ipssm")


def test_platelets_of_few_patients_may_be_low():
    sheet = sheets.sheet_of(pd.DataFrame({"PLT": ["3", "2", "9"]}), "file")
    assert tables.measured(sheet, tables.platelets("PLT")).tolist() == [3, 2, 9]


def test_low_platelets_that_fit_two_units_are_refused():
    sheet = sheets.sheet_of(pd.DataFrame({"PLT": ["2000", "3000", "2500"] * 10}), "file")
    with pytest.raises(
        DataError, match=r"the median of column PLT, 2500, is not that of a cohort in 10.9/l or per"
    ):
        tables.measured(sheet, tables.platelets("PLT"))


@pytest.mark.survives("A score of whole numbers holds a fraction", "the row is named")
def test_a_fraction_of_a_score_is_refused():
    column = tables.Column("score", "ECOG", "points", 0, 4, whole=True)
    with pytest.raises(
        DataError, match=r"column ECOG holds '1.5' in row 2; write a whole number from 0 to 4"
    ):
        tables.measured(sheets.sheet_of(pd.DataFrame({"ECOG": ["1", "1.5"]}), "file"), column)


# Numbers


@pytest.mark.survives(
    "Numbers have decimal commas, and cells are separated by semicolons", "they are read, and told"
)
def test_decimal_commas_are_read(tmp_path, good):
    table = replaced(patients.bmt(), "z1", lambda cell: f"{cell},50")
    patients.write_bmt(tmp_path, table, separator=";")
    cohort = read(tmp_path)
    assert values(cohort, "age") == [value + 0.5 for value in values(good, "age")]
    assert cohort.provenance.repairs == (
        "bmt.csv is separated by semicolons, not by commas.",
        "bmt.csv has decimal commas, which were read as points.",
    )


THOUSANDS = {
    "a comma": lambda cell: f"{int(cell):,}",
    "a point": lambda cell: f"{int(cell):,}".replace(",", "."),
    "a blank": lambda cell: f"{int(cell):,}".replace(",", "\u00a0"),
    "an apostrophe": lambda cell: f"{int(cell):,}".replace(",", "'"),
}


@pytest.mark.survives("Thousands are marked by commas, points, blanks or apostrophes", "the row is named")
@pytest.mark.parametrize("mark", THOUSANDS)
def test_marks_of_thousands_are_refused(tmp_path, mark):
    table = replaced(patients.bmt(), "t2", THOUSANDS[mark])
    patients.write_bmt(tmp_path, table, separator=";")
    assert "column t2 holds" in refused(tmp_path)


@pytest.mark.survives("Some numbers have a decimal comma and others a point", "a cell of each is named")
def test_commas_and_points_together_are_refused(tmp_path):
    table = replaced(patients.bmt(), "z1", lambda cell: f"{cell},5", rows=[4])
    table = replaced(table, "z2", lambda cell: f"{cell}.5", rows=[6])
    patients.write_bmt(tmp_path, table, separator=";")
    assert "marked by ',' (column z1, row 4) and '.' (column z2, row 6)" in refused(tmp_path)


NO_NUMBERS = [
    "=A1",
    "#REF!",
    "#N/A",
    "inf",
    "1e999",
    "0x10",
    "1_000",
    "<0.5",
    "12.3.2020",
    "None",
    "３",
    "5 %",
]


@pytest.mark.survives(
    "A cell holds a formula, an error of a spreadsheet or other text", "row, column and cell are named"
)
@pytest.mark.parametrize("cell", NO_NUMBERS)
def test_what_is_no_number_is_named(tmp_path, cell):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "z7", lambda _: cell, rows=[8]))
    assert f"bmt.csv: column z7 holds '{cell}' in row 8" in refused(tmp_path)


@pytest.mark.survives("A cell says NA, N/A, n.a., NaN, -, unknown or nothing", "not known, and counted")
@pytest.mark.parametrize("code", ["NA", "N/A", "n.a.", "NaN", "-", "unknown", "Unknown", ""])
def test_codes_for_what_is_not_known_are_counted(tmp_path, code):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "z7", lambda _: code, rows=[8, 9]))
    cohort = read(tmp_path)
    assert [number for number, value in enumerate(values(cohort, "waiting_time")) if value != value] == [6, 7]
    assert cohort.provenance.notes == ("Cells of bmt.csv that say 'not known': z7 2.",)
    assert cohort.provenance.repairs == ()


def test_only_one_cell_of_a_patient_is_quoted(tmp_path):
    cell = "born 1.1.1950, " * 10
    table = replaced(patients.bmt(), "z7", lambda _: f'"{cell}"', rows=[8, 9, 12])
    patients.write_bmt(tmp_path, table)
    sentence = refused(tmp_path)
    assert "holds 'born 1.1.1950, born 1.1.1950, ...' in row 8 (likewise rows 9, 12)" in sentence
    assert len(sentence.removeprefix(str(tmp_path))) < 250


# Times and events


TIMES = {
    "seconds": lambda cell: str(int(cell) * 86400),
    "hours": lambda cell: str(int(cell) * 24),
    "dates as numbers": lambda cell: str(40_000 + int(cell)),
    "months": lambda cell: f"{int(cell) / 30.4375:.1f}",
    "years": lambda cell: f"{int(cell) / 365.25:.2f}",
}


@pytest.mark.survives(
    "Times are in another unit: seconds, hours, months, years, or dates as numbers",
    "refused, with the follow-up that it would mean, the plausible one and the unit expected",
)
@pytest.mark.parametrize("unit", TIMES)
def test_times_in_another_unit_are_refused(tmp_path, unit):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "t2", TIMES[unit]))
    sentence = refused(tmp_path)
    assert "column t2" in sentence
    assert "times are expected in days, from 0 to a longest follow-up of 1 to 30 years" in sentence


@pytest.mark.survives("Times of a column of years are days or months", "refused, with the unit expected")
@pytest.mark.parametrize("per_year", [12, 365.25])
def test_days_or_months_in_a_column_of_years_are_refused(tmp_path, per_year):
    table = replaced(patients.ipssm()["df_clinical.tsv"], "OS_YEARS", scaled(per_year))
    patients.write_ipssm(tmp_path, clinical=table)
    assert "times are expected in years" in refused(tmp_path, "ipssm")


@pytest.mark.survives("One time is negative, infinite, in another unit or a date", "the row is named")
@pytest.mark.parametrize("cell", ["-1", "inf", "16502400", "40179", "2010-01-05"])
def test_one_time_that_cannot_be_is_named(tmp_path, cell):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "t2", lambda _: cell, rows=[5]))
    assert f"bmt.csv: column t2 holds '{cell}' in row 5" in refused(tmp_path)


@pytest.mark.survives("Events are words, or codes other than 0 and 1", "the row is named, and what to write")
@pytest.mark.parametrize("cell", ["True", "yes", "2", "dead", "-1", "0.5"])
def test_events_other_than_0_and_1_are_named(tmp_path, cell):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "d3", lambda _: cell, rows=[5]), separator=";")
    assert f"column d3 holds '{cell}' in row 5; write one of 0, 1" in refused(tmp_path)


@pytest.mark.survives("Time and event are swapped", "a sentence that says so")
def test_time_and_event_swapped_are_noticed(tmp_path):
    table = patients.bmt()
    table[0][2:4] = ["d3", "t2"]
    patients.write_bmt(tmp_path, table)
    assert "columns t2 and d3 look swapped" in refused(tmp_path)


@pytest.mark.survives("Nobody had the event, or all times are the same", "refused: nothing can be learnt")
@pytest.mark.parametrize(
    ("column", "cell", "sentence"),
    [
        ("d3", "0", "column d3 is 0 for all 24 patients"),
        ("t2", "700", "column t2 is the same for every patient"),
    ],
)
def test_outcomes_that_tell_nothing_are_refused(tmp_path, column, cell, sentence):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), column, lambda _: cell))
    assert sentence in refused(tmp_path)


def test_a_cohort_without_censoring_is_told(tmp_path):
    patients.write_bmt(tmp_path, replaced(patients.bmt(), "d3", lambda _: "1"))
    assert read(tmp_path).provenance.notes == ("Every patient of bmt.csv had the event.",)


@pytest.mark.survives("Most patients have no outcome", "refused, with the share that is known")
def test_few_outcomes_are_refused(tmp_path):
    rows = range(2, 16)
    table = replaced(replaced(patients.bmt(), "d3", lambda _: "NA", rows), "t2", lambda _: "NA", rows)
    patients.write_bmt(tmp_path, table)
    assert "10 of 24 patients have a t2 and a d3, and at least 50% should" in refused(tmp_path)


def test_one_patient_is_a_cohort(tmp_path):
    table = replaced(replaced(patients.bmt(), "d3", lambda _: "1"), "t2", lambda _: "700")
    patients.write_bmt(tmp_path, table[:2])
    assert len(read(tmp_path)) == 1
