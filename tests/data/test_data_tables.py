"""Tables of patients: what the readers promise, what they repair, and what they refuse in a sentence."""

import builtins
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.linear_model import LogisticRegression

from hemafl_lib import data
from hemafl_lib.data import sheets, sickle_cell, store, survival_cohorts, tables
from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.data.loading import data_root
from hemafl_lib.data.survival_cohorts import TABLES
from hemafl_lib.errors import DataError

PATIENTS = 6


def write_ipssm(root, **changed):
    """Write six patients in the three files of IPSS-M; ``changed`` replaces columns of the clinical one."""
    folder = root / "ipssm"
    folder.mkdir(exist_ok=True)
    ids = [f"P{number}" for number in range(1, PATIENTS + 1)]
    clinical = {
        "ID": ids,
        "SEX": ["M", "F", "F", "M", "M", "F"],
        "AGE": ["71", "66.5", "80", "59", "77", "NA"],
        "BM_BLAST": ["14", "1", "0", "3", "NA", "9"],
        "ANC": ["0.2", "2.4", "1.1", "5", "0.9", "3"],
        "HB": ["7.6", "11.6", "9", "10.1", "8.8", "12"],
        "PLT": ["119", "42", "200", "310", "15", "88"],
        "complex": ["complex", *["non-complex"] * 5],
        "OS_YEARS": ["1.5", "4", "0", "NA", "2", "0.5"],
        "OS_STATUS": ["1", "0", "1", "NA", "0", "1"],
        **changed,
    }
    pd.DataFrame(clinical).to_csv(folder / "df_clinical.tsv", sep="\t", index=False)
    changes = {name: ["0"] * PATIENTS for name in survival_cohorts.IPSSM_CYTOGENETIC.values()}
    changes["del5q"] = ["1", "0", "0", "0", "0", "1"]
    # The other tables list the patients in another order.
    pd.DataFrame({"ID": ids, **changes})[::-1].to_csv(folder / "df_cna.tsv", sep="\t", index=False)
    own = survival_cohorts.IPSSM_OWN_NAMES
    genes = {own.get(name, name): ["0"] * PATIENTS for name in survival_cohorts.IPSSM_GENETIC}
    genes |= {"FLT3": ["1", *"00000"], "FLT3_ITD": ["0", "1", *"0000"], "MLL_PTD": [*"00000", "1"]}
    pd.DataFrame({"ID": ids, **genes})[::-1].to_csv(folder / "df_mut.tsv", sep="\t", index=False)
    return folder


def write_bmt(root, **changed):
    """Write four patients of four hospitals."""
    folder = root / "bmt"
    folder.mkdir(exist_ok=True)
    columns = {
        "rownames": list("1234"),
        "group": list("1231"),
        "t2": ["2081", "1602", "30.4375", "1"],
        "d3": list("0011"),
        "z1": ["26", "21", "44", "7"],
        "z2": ["33", "37", "40", "12"],
        **{name: list("0101") for name in ("z3", "z4", "z5", "z6", "z8", "z10")},
        "z7": ["98", "1720", "24", "110"],
        "z9": list("1234"),
        **changed,
    }
    pd.DataFrame(columns).to_csv(folder / "bmt.csv", index=False)
    return folder


def write_amlsg(root, **changed):
    """Write three patients of two centres, as the R file and the list of mutations."""
    rdata = pytest.importorskip("rdata")
    folder = root / "amlsg"
    folder.mkdir(exist_ok=True)
    clinical = {
        "PDID": ["PD1", "PD2", "PD3"],
        "Center": [7.0, 12.0, 7.0],
        "gender": [1.0, 2.0, 1.0],
        "TypeAML": ["AML", "sAML", "tAML"],
        "CEBPA": [0.0, 1.0, 2.0],
        "OS": [30.4375, 609.0, 1085.0],
        "Status": [1.0, 0.0, 1.0],
        "Splenomegaly": [0.0, 1.0, np.nan],
        **{column.source: [15.0, np.nan, 17.0] for column in survival_cohorts.AMLSG_MEASURED},
        **{name: [0.0, 1.0, np.nan] for name in survival_cohorts.AMLSG_CYTOGENETIC.values()},
        **{name: [1.0, 0.0, 0.0] for name in survival_cohorts.AMLSG_CLINICAL_GENES.values()},
        **{"Performance_ECOG": [0.0, 1.0, np.nan]},
        **changed,
    }
    rdata.write_rda(folder / "AMLSG_Clinical_Anon.RData", {"clinicalData": pd.DataFrame(clinical)})
    mutations = pd.DataFrame(
        [
            ("PD1", "SFRS2", "OK", "ONCOGENIC"),
            ("PD1", "SFRS2", "OK", "ONCOGENIC"),
            ("PD2", "TP53", "OK", "POSSIBLE"),
            ("PD3", "TP53", "Q", "ONCOGENIC"),
            ("PD3", "KRAS", "OK", "UNKNOWN"),
            ("PD9", "TP53", "OK", "ONCOGENIC"),
        ],
        columns=["SAMPLE_NAME", "GENE", "FINAL_CALL", "Result"],
    )
    mutations.to_csv(folder / "AMLSG_Genetic.txt", sep="\t", index=False)
    return folder


def same(left, right):
    """Whether two tables hold the same patients; a value unknown in both counts as the same."""
    tensors = ("features", "time", "event", "label")
    for name in tensors:
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=0, atol=0, equal_nan=True)
    names = ("feature_names", "provenance")
    rows = left.site.tolist() == right.site.tolist() and left.patient.tolist() == right.patient.tolist()
    return rows and all(getattr(left, name) == getattr(right, name) for name in names)


def values(cohort, name):
    return cohort.features[:, cohort.feature_names.index(name)]


@pytest.fixture(autouse=True)
def _no_data_folder(request, monkeypatch):
    if "real" not in request.keywords:
        monkeypatch.delenv("HEMAFL_DATA", raising=False)


# What the readers promise


def test_ipssm_is_read_from_its_three_files(tmp_path):
    write_ipssm(tmp_path)
    cohort = data.load("ipssm", root=tmp_path)
    assert cohort.patient.tolist() == ["ipssm/P1", "ipssm/P2", "ipssm/P3", "ipssm/P5", "ipssm/P6"]
    assert cohort.time.tolist() == [18, 48, 0, 24, 6]
    assert cohort.event.tolist() == [True, False, True, False, True]
    assert cohort.features.dtype == torch.float32
    assert cohort.time.dtype == torch.float32
    assert cohort.targets.shape == (5, 2)
    assert values(cohort, "male").tolist() == [1, 0, 0, 1, 0]
    assert values(cohort, "complex").tolist() == [1, 0, 0, 0, 0]
    assert values(cohort, "del5q").tolist() == [1, 0, 0, 0, 1]
    assert values(cohort, "FLT3").tolist() == [1, 1, 0, 0, 0]
    assert values(cohort, "KMT2A_PTD").tolist() == [0, 0, 0, 0, 1]
    assert "1 patient(s) without a known outcome" in " ".join(
        (*cohort.provenance.notes, *cohort.provenance.repairs)
    )
    assert not cohort.provenance.simulated
    assert len(cohort.provenance.checksum) == 64


def test_unknown_values_stay_unknown(tmp_path):
    write_ipssm(tmp_path)
    cohort = data.load("ipssm", root=tmp_path)
    assert int(cohort.features.isnan().sum()) == 2
    assert values(cohort, "age").isnan().tolist() == [False, False, False, False, True]


def test_checksum_changes_with_any_file(tmp_path):
    folder = write_ipssm(tmp_path)
    before = data.load("ipssm", root=tmp_path).provenance.checksum
    (folder / "df_mut.tsv").write_text((folder / "df_mut.tsv").read_text() + "\n")
    assert data.load("ipssm", root=tmp_path).provenance.checksum != before


def test_groups_of_features_are_chosen_and_joined(tmp_path):
    write_ipssm(tmp_path)

    def names(features):
        return data.load("ipssm", features=features, root=tmp_path).feature_names

    clinical = ("age", "male", "marrow_blasts", "neutrophils", "haemoglobin", "platelets")
    assert names("demographic") == ("age", "male")
    assert names("clinical") == clinical
    assert names("clinical+demographic") == clinical
    assert names("clinical+genetic") == (*clinical, *survival_cohorts.IPSSM_GENETIC)
    assert len(names("genetic")) == 48
    assert len(names("cytogenetic")) == 14
    assert names(None) == names("clinical+cytogenetic+genetic")


def test_bmt_has_four_hospitals_and_months(tmp_path):
    write_bmt(tmp_path)
    cohort = data.load("bmt", root=tmp_path)
    assert cohort.sites == ("alfred", "hahnemann", "ohio-state", "st-vincent")
    assert cohort.time[2] == 1
    assert cohort.event.tolist() == [False, False, True, True]
    assert values(cohort, "aml_high_risk").tolist() == [0, 0, 1, 0]
    assert values(cohort, "waiting_time").tolist() == [98, 1720, 24, 110]


def test_amlsg_has_its_centres_and_its_sure_mutations(tmp_path):
    write_amlsg(tmp_path)
    cohort = data.load("amlsg", root=tmp_path)
    assert cohort.site.tolist() == ["centre-07", "centre-12", "centre-07"]
    assert cohort.time[0] == 1
    assert values(cohort, "SRSF2").tolist() == [1, 0, 0]
    assert values(cohort, "TP53").tolist() == [0, 1, 0]
    assert values(cohort, "KRAS").tolist() == [0, 0, 0]
    assert values(cohort, "secondary").tolist() == [0, 1, 0]
    assert values(cohort, "therapy_related").tolist() == [0, 0, 1]
    assert values(cohort, "CEBPA_double").tolist() == [0, 0, 1]
    assert values(cohort, "male").tolist() == [1, 0, 1]
    assert values(cohort, "minus7").isnan().tolist() == [False, False, True]
    assert "3 of 4 patients of AMLSG_Genetic.txt match" in cohort.provenance.notes[1]


def test_flchain_is_that_of_scikit_survival_without_what_gives_the_outcome_away():
    datasets = pytest.importorskip("sksurv.datasets")
    features, survival = datasets.load_flchain()
    cohort = data.load("flchain")
    assert cohort.feature_names == ("age", "male", "creatinine", "kappa", "lambda", "mgus")
    assert cohort.sites == ("olmsted",)
    for name in ("age", "creatinine", "kappa", "lambda"):
        np.testing.assert_array_equal(values(cohort, name).numpy(), features[name].to_numpy(np.float32))
    np.testing.assert_array_equal(values(cohort, "male").numpy(), features["sex"] == "M")
    np.testing.assert_array_equal(cohort.event.numpy(), survival["death"])
    np.testing.assert_allclose(cohort.time.numpy() * 365.25 / 12, survival["futime"], rtol=1e-6)
    assert same(data.load("flchain"), cohort)


def test_the_data_room_works_without_the_packages_of_survival():
    code = (
        "import sys; sys.modules['sksurv'] = sys.modules['rdata'] = None; from hemafl_lib import data; "
        "assert len(data.load('sickle-cell')) == 65; assert 'sksurv.datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    write_amlsg(tmp_path)
    importing = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] in {"sksurv", "rdata"}:
            raise ImportError(name)
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match="pip install scikit-survival"):
        data.load("flchain")
    with pytest.raises(DataError, match="pip install rdata"):
        data.load("amlsg", root=tmp_path)


def test_a_table_survives_a_file(tmp_path):
    write_bmt(tmp_path)
    cohort = data.load("bmt", root=tmp_path)
    store.save_cohort(cohort, tmp_path / "bmt.safetensors")
    assert same(store.read_cohort(tmp_path / "bmt.safetensors"), cohort)


# What is repaired, and told


@pytest.mark.survives(
    "Haemoglobin is given in grams per litre", "it is converted, and the provenance counts the rows"
)
def test_haemoglobin_in_grams_per_litre_is_converted_and_counted(tmp_path):
    write_ipssm(tmp_path)
    expected = data.load("ipssm", root=tmp_path)
    write_ipssm(tmp_path, HB=["76", "116", "90", "101", "88", "120"])
    repaired = data.load("ipssm", root=tmp_path)
    torch.testing.assert_close(repaired.features, expected.features, equal_nan=True)
    assert repaired.provenance.repairs == (
        "HB of df_clinical.tsv is in g/l and was converted to g/dl, all 6 values.",
    )


def test_a_row_given_twice_is_read_once(tmp_path):
    folder = write_ipssm(tmp_path)
    expected = data.load("ipssm", root=tmp_path)
    for name in ("df_clinical.tsv", "df_mut.tsv"):
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([*lines, lines[2], lines[2]]) + "\n")
    cohort = data.load("ipssm", root=tmp_path)
    assert torch.equal(cohort.time, expected.time)
    torch.testing.assert_close(cohort.features, expected.features, equal_nan=True)
    assert "2 row(s) of df_clinical.tsv that repeat another" in " ".join(
        (*cohort.provenance.notes, *cohort.provenance.repairs)
    )
    assert "2 row(s) of df_mut.tsv that repeat another" in " ".join(
        (*cohort.provenance.notes, *cohort.provenance.repairs)
    )


def test_patients_of_one_table_only_are_told(tmp_path):
    folder = write_ipssm(tmp_path)
    text = (folder / "df_mut.tsv").read_text().replace("P2\t", "P77\t")
    (folder / "df_mut.tsv").write_text(text)
    cohort = data.load("ipssm", root=tmp_path)
    assert values(cohort, "TP53").isnan().tolist() == [False, True, False, False, False]
    assert cohort.provenance.repairs == (
        "1 patient(s) of df_mut.tsv without a clinical record were left out.",
        "1 patient(s) have no row in df_mut.tsv: its features are unknown.",
    )


def test_check_reports_a_table(tmp_path):
    write_ipssm(tmp_path)
    write_bmt(tmp_path)
    reports = {report.name: report for report in data.check(tmp_path)}
    assert set(reports) == {"ipssm", "bmt"}
    assert all(report.ok for report in reports.values())
    assert reports["bmt"].sites == {"ohio-state": 1, "alfred": 1, "st-vincent": 1, "hahnemann": 1}
    ipssm = reports["ipssm"]
    assert (ipssm.patients, ipssm.events) == (5, 3)
    assert ipssm.missing == {"age": 1, "marrow_blasts": 1}
    assert "ipssm: 5 patients, 3 events" in ipssm.text()
    assert "1 patient(s) without a known outcome were left out." in ipssm.text()


def test_check_of_a_table_that_cannot_be_loaded_says_so(tmp_path):
    write_ipssm(tmp_path, AGE=["old", "66", "80", "59", "77", "54"])
    (report,) = data.check(tmp_path / "ipssm")
    assert not report.ok
    assert "column AGE holds 'old' in row 2" in report.text()
    assert "NOT READY TO LOAD" in report.text()


# What is refused

REFUSED = {
    "text": (
        {"ANC": ["0.2", "n.d.", "1", "5", "<0.5", "3"]},
        r"ANC holds 'n.d.' in row 3 \(likewise row 6\), which is no number",
    ),
    "comma": (
        {"HB": ["7,6", "11", "9", "10", "8", "12"]},
        r"decimals are marked by '.' \(column AGE, row 3\) and ',' \(column HB, row 2\)",
    ),
    "infinite": ({"PLT": ["inf", "1", "2", "3", "4", "5"]}, "PLT holds 'inf' in row 2"),
    "impossible": (
        {"HB": ["7", "30", "9", "10", "8", "12"]},
        r"HB holds '30' in row 3, outside 2 to 25 g/dl",
    ),
    "age": ({"AGE": ["-1", "30", "9", "10", "8", "130"]}, r"AGE holds '-1' in row 2 \(likewise row 7\)"),
    "negative time": ({"OS_YEARS": ["1", "2", "-0.1", "NA", "2", "3"]}, "OS_YEARS holds '-0.1' in row 4"),
    "event without time": ({"OS_YEARS": ["1", "NA", "1", "NA", "2", "3"]}, "row 3 .*only one of OS_YEARS"),
    "time without event": ({"OS_STATUS": ["1", "0", "1", "NA", "NA", "1"]}, "row 6 .*only one of OS_YEARS"),
    "event": (
        {"OS_STATUS": ["1", "0", "2", "NA", "0", "1"]},
        "OS_STATUS holds '2' in row 4; write one of 0, 1",
    ),
    "no outcome": (
        {"OS_STATUS": ["NA"] * 6, "OS_YEARS": ["NA"] * 6},
        "0 of 6 patients have a OS_YEARS and a OS_STATUS",
    ),
    "sex": ({"SEX": ["M", "F", "x", "M", "F", "F"]}, r"SEX holds 'x' in row 4; write one of M, F"),
    "two rows": (
        {"ID": ["P1", "P2", "P2", "P4", "P5", "P6"]},
        r"rows 3, 4 give one patient \('P2'\) different",
    ),
    "nameless": ({"ID": ["P1", "NA", "P3", "P4", "P5", "P6"]}, "column ID is empty in row 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_file_column_and_rows(tmp_path, case):
    changed, sentence = REFUSED[case]
    write_ipssm(tmp_path, **changed)
    with pytest.raises(DataError, match=sentence) as caught:
        data.load("ipssm", root=tmp_path)
    assert "df_clinical.tsv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_of_the_table_that_is_wrong_are_counted(tmp_path):
    folder = write_ipssm(tmp_path)
    frame = pd.read_csv(folder / "df_cna.tsv", sep="\t", dtype=str)
    frame.loc[1, "del5q"] = "2"
    frame.to_csv(folder / "df_cna.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match=r"df_cna.tsv: column del5q holds '2' in row 3"):
        data.load("ipssm", root=tmp_path)


@pytest.mark.survives("A column of a table is missing", "a sentence that names it")
@pytest.mark.parametrize(
    ("file", "column"), [("df_clinical.tsv", "HB"), ("df_mut.tsv", "TP53"), ("df_cna.tsv", "del5q")]
)
def test_a_missing_column_is_named(tmp_path, file, column):
    path = write_ipssm(tmp_path) / file
    pd.read_csv(path, sep="\t", dtype=str).drop(columns=column).to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError, match=rf"{file} lacks the column\(s\) {column}"):
        data.load("ipssm", root=tmp_path)


def test_many_rows_are_counted_not_listed():
    sheet = sheets.sheet_of(pd.DataFrame({"x": ["a"] * 20}), "file")
    with pytest.raises(DataError, match=r"'a' in row 1 .likewise rows 2, 3, 4, 5, 6, 7, 8, 9 and 11 more"):
        tables.as_numbers(sheet, "x")


@pytest.mark.survives("A file in a table's place is none", "a sentence that names it")
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n1,2,3\n", b"\xff\xfe\x00x"])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    (write_bmt(tmp_path) / "bmt.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"bmt\.csv") as caught:
        data.load("bmt", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_r_is_named(tmp_path):
    (write_amlsg(tmp_path) / "AMLSG_Clinical_Anon.RData").write_bytes(b"not R")
    with pytest.raises(DataError, match=r"AMLSG_Clinical_Anon\.RData cannot be read as 'clinicalData'"):
        data.load("amlsg", root=tmp_path)


def test_an_unknown_hospital_is_refused(tmp_path):
    write_bmt(tmp_path, z9=list("1235"))
    with pytest.raises(DataError, match="z9 holds '5' in row 5"):
        data.load("bmt", root=tmp_path)
    write_bmt(tmp_path, z9=["1", "NA", "3", "4"])
    with pytest.raises(DataError, match="z9 is empty in row 3"):
        data.load("bmt", root=tmp_path)


def test_bad_requests_are_refused_in_a_sentence(tmp_path):
    write_bmt(tmp_path)
    with pytest.raises(DataError, match="group 'genetic' is unknown; join some of demographic, clinical"):
        data.load("bmt", features="clinical+genetic", root=tmp_path)
    with pytest.raises(DataError, match="'smear' has no groups of features"):
        data.load("smear", features="clinical")
    with pytest.raises(DataError, match="'ipssm' is not in"):
        data.load("ipssm", root=tmp_path)
    with pytest.raises(DataError, match="HEMAFL_DATA"):
        data.load("bmt")
    with pytest.raises(DataError, match="kind='nothing'"):
        data.catalogue("nothing")


# Cards and names


def test_every_table_has_a_card_and_a_reader():
    names = list(data.catalogue("tables").index)
    assert set(names) == {*TABLES, "sickle-cell"}
    assert not set(names) & set(data.catalogue("images").index)
    for name in names:
        card = data.card(name)
        assert card.by_hand
        assert card.outcome in card.text()
        assert "images" not in card.text()


def test_what_is_here_is_listed(tmp_path):
    embedded = {"smear", "sickle-cell", "flchain"}
    assert set(data.available()) == embedded
    write_bmt(tmp_path)
    assert set(data.available(tmp_path)) == {*embedded, "bmt"}
    assert set(data.available(tmp_path / "bmt")) == {*embedded, "bmt"}


# Features that are not known


def cohort_of(features):
    """Return a table of the given features, everyone alive after a month."""
    rows = len(features)
    return TableCohort(
        features=torch.tensor(features, dtype=torch.float32),
        feature_names=tuple(f"x{number}" for number in range(features.shape[1])),
        time=torch.ones(rows),
        event=torch.zeros(rows, dtype=torch.bool),
        site=np.array(["a"] * rows),
        patient=np.array([str(row) for row in range(rows)]),
        provenance=Provenance("test", "", "", True, ""),
    )


@given(
    arrays.arrays(np.float32, (7, 3), elements=st.floats(-1e3, 1e3, width=32)),
    arrays.arrays(np.bool_, (6, 3)),
)
def test_imputation_fills_what_is_unknown_and_nothing_else(features, unknown):
    features[:6][unknown] = np.nan
    cohort = cohort_of(features)
    means = data.known_means(cohort)
    np.testing.assert_allclose(
        means.numpy(), np.nanmean(features.astype(float), axis=0), rtol=1e-5, atol=1e-4
    )
    filled = data.impute(cohort, means)
    known = ~np.isnan(features)
    np.testing.assert_array_equal(filled.features.numpy()[known], features[known])
    assert torch.equal(
        filled.features[~torch.from_numpy(known)], means.expand(7, 3)[~torch.from_numpy(known)]
    )
    assert same(data.impute(filled, means), filled)


def test_bad_imputation_is_refused():
    cohort = cohort_of(np.array([[1.0, np.nan], [2.0, np.nan]]))
    with pytest.raises(DataError, match="no patient has a known value of x1"):
        data.known_means(cohort)
    for wrong in (torch.zeros(3), torch.tensor([0.0, float("nan")])):
        with pytest.raises(DataError, match="give one number for each of the 2 features"):
            data.impute(cohort, wrong)
    assert data.known_means(data.select(cohort, ["x0"])).tolist() == [1.5]
    for names in (["x0", "age"], []):
        with pytest.raises(DataError, match="choose of"):
            data.select(cohort, names)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(4)), litres=st.booleans())
def test_rows_in_any_order_and_unit_give_the_same_patients(order, litres):
    grams = [7.6, 11.6, 9.0, 13.5]
    given_values = [str(round(g * 10, 1)) if litres else str(g) for g in grams]
    sheet = sheets.sheet_of(pd.DataFrame({"HB": [given_values[i] for i in order]}), "file")
    values = tables.measured(sheet, tables.haemoglobin("HB"))
    np.testing.assert_allclose(values, [grams[i] for i in order], rtol=1e-12)
    assert len(sheet.repairs) == litres


# The simulated cohort


def test_sickle_cell_is_labelled_as_simulated():
    cohort = data.load("sickle-cell")
    assert len(cohort) == 65
    assert cohort.provenance.simulated
    assert "SIMULATED" in cohort.provenance.banner()
    assert cohort.label.dtype == torch.int64
    assert torch.equal(cohort.targets, cohort.label)
    assert cohort.time is None
    assert torch.isfinite(cohort.features).all()
    assert cohort.feature_names == tuple(sickle_cell.RISK) == tuple(sickle_cell.TYPICAL)
    assert 10 < int(cohort.label.sum()) < 30


@given(st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_sickle_cell_is_a_function_of_the_seed(patients, seed):
    small, large = sickle_cell.simulate(patients, seed=seed), sickle_cell.simulate(25, seed=seed)
    assert torch.equal(small.features, large.features[:patients])
    assert torch.equal(small.label, large.label[:patients])
    assert same(sickle_cell.simulate(patients, seed=seed), small)
    assert not torch.equal(sickle_cell.simulate(patients, seed=seed + 1).features, small.features)


def test_a_large_draw_has_the_published_prevalence_and_the_written_odds():
    cohort = sickle_cell.simulate(60_000, seed=1)
    assert float(cohort.label.float().mean()) == pytest.approx(sickle_cell.PREVALENCE, abs=0.006)
    means = dict(zip(cohort.feature_names, cohort.features.mean(dim=0).tolist(), strict=True))
    assert means == pytest.approx(dict(sickle_cell.TYPICAL), rel=0.01)
    spread = cohort.features.std(dim=0)
    scaled = ((cohort.features - cohort.features.mean(dim=0)) / spread).numpy()
    fitted = LogisticRegression(C=np.inf, max_iter=200).fit(scaled, cohort.label.numpy()).coef_[0]
    written = np.array(list(sickle_cell.RISK.values())) * spread.numpy()
    # Four standard errors of a log odds ratio per standard deviation.
    np.testing.assert_allclose(fitted, written, atol=4 / np.sqrt(60_000 * 0.295 * 0.705))


@pytest.mark.parametrize("patients", [0, -3, 6.5, "65", True, 10**9])
def test_a_bad_number_of_patients_is_refused(patients):
    with pytest.raises(DataError, match="patients="):
        sickle_cell.simulate(patients)


# The real cohorts


def loaded(name, **settings):
    if name not in data.available():
        pytest.skip(f"HEMAFL_DATA does not hold '{name}'")
    return data.load(name, **settings)


@pytest.mark.real
@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(
    ("name", "patients", "events", "sites", "features"),
    [("ipssm", 2811, 1354, 1, 68), ("amlsg", 1540, 904, 45, 64), ("bmt", 137, 83, 4, 11)],
)
def test_counts_are_those_of_the_sources(name, patients, events, sites, features):
    cohort = loaded(name)
    assert (len(cohort), int(cohort.event.sum()), len(cohort.sites)) == (patients, events, sites)
    assert cohort.features.shape == (patients, features)
    assert torch.isfinite(cohort.time).all()
    assert (cohort.time >= 0).all()
    assert len(set(cohort.patient)) == patients
    assert same(data.load(name), cohort)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("ipssm", "61903216167f6b8bc59a072f4980ac36f683468708e1fa6fbbd662cd9ba7b733"),
        ("amlsg", "4c258a61cb51f93f0dbd51fd26510fbec9c5899fb41f7353782eb5e786bded76"),
        ("bmt", "a7d773e6029272a9b28304f1e87a98683c6630844b1076ab9bc3df7316f8afb3"),
    ],
)
def test_the_published_files_need_no_repair_and_give_the_same_bits(name, digest, real_data):
    cohort = loaded(name)
    (report,) = data.check(real_data / name)
    assert report.ok
    assert report.repairs == cohort.provenance.repairs == ()
    found = hashlib.sha256()
    for part in (cohort.features, cohort.time, cohort.event):
        found.update(str((part.dtype, tuple(part.shape))).encode() + part.numpy().tobytes())
    found.update(json.dumps([cohort.feature_names, cohort.site.tolist(), cohort.patient.tolist()]).encode())
    assert found.hexdigest() == digest


@pytest.mark.real
@pytest.mark.usefixtures("real_data")
def test_events_of_the_risk_groups_are_those_of_the_textbook():
    cohort = loaded("bmt")
    low, high = values(cohort, "aml_low_risk") == 1, values(cohort, "aml_high_risk") == 1
    groups = (~low & ~high, low, high)
    assert [(int(group.sum()), int(cohort.event[group].sum())) for group in groups] == [
        (38, 24),
        (54, 25),
        (45, 34),
    ]
    sizes = [int((cohort.site == name).sum()) for name in survival_cohorts.BMT_HOSPITALS.values()]
    assert sizes == [76, 17, 23, 21]


@pytest.mark.real
@pytest.mark.usefixtures("real_data")
def test_centres_of_amlsg_are_as_described():
    cohort = loaded("amlsg")
    sizes = pd.Series(cohort.site).value_counts()
    assert (sizes >= 20).sum() == 25
    assert values(cohort, "minusY")[values(cohort, "male") == 0].nansum() == 0


@pytest.mark.real
@pytest.mark.usefixtures("real_data")
def test_cytogenetic_flags_agree_with_the_karyotype_as_text():
    cohort = loaded("ipssm")
    clinical = pd.read_csv(data_root() / "ipssm" / "df_clinical.tsv", sep="\t").set_index("ID")
    text = clinical["CYTOGENETICS"].reindex([name.removeprefix("ipssm/") for name in cohort.patient])
    written = text.str.lower()
    for name, pattern in {"del5q": r"del\(5\)\(q", "plus8": r"\+8[,\[/]", "del20q": r"del\(20\)\(q"}.items():
        flags = values(cohort, name).numpy()[text.notna()] == 1
        found = written[text.notna()].str.contains(pattern).to_numpy()
        # What the text says is nearly always in the flag; the flag also knows derivatives and sequencing.
        assert flags[found].mean() > 0.95
        assert found[flags].mean() > 0.6


@pytest.mark.real
@pytest.mark.usefixtures("real_data")
def test_a_cox_model_of_the_clinical_features_discriminates_as_described():
    linear_model = pytest.importorskip("sksurv.linear_model")
    concordance = {}
    for features in ("demographic", "clinical", "clinical+cytogenetic+genetic"):
        cohort = loaded("ipssm", features=features)
        inputs = data.impute(cohort, data.known_means(cohort)).features.double().numpy()
        inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
        outcome = np.rec.fromarrays([cohort.event.numpy(), cohort.time.numpy()], names="event,time")
        model = linear_model.CoxPHSurvivalAnalysis(alpha=0.1).fit(inputs, outcome)
        concordance[features] = model.score(inputs, outcome)
    assert concordance["demographic"] == pytest.approx(0.57, abs=0.02)
    assert concordance["clinical"] == pytest.approx(0.71, abs=0.02)
    assert concordance["clinical+cytogenetic+genetic"] > 0.75
