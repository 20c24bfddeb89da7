"""Cohorts of patients with survival times: their files, their columns, and what each column means.

Each reader returns every patient whose outcome is known and every feature it can offer; ``groups`` names
the features that belong together. Nothing that was decided or measured after the diagnosis is a feature
(treatment, transplant, remission), and neither is a score computed from the features (IPSS-R, IPSS-M, ELN).
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hemafl_lib.data.layouts import Listing
from hemafl_lib.data.tables import (
    DAYS_PER_MONTH,
    MONTHS_PER_YEAR,
    CleanTable,
    Column,
    as_numbers,
    coded,
    count_from_one,
    flag,
    haemoglobin,
    indicators,
    matched,
    measured,
    one_row_a_patient,
    outcome,
    platelets,
    read_text,
    require,
    require_filled,
)
from hemafl_lib.errors import DataError


@dataclass(frozen=True)
class TableSource:
    """A public table: its usual folder, the files read of it, its groups of features, and its reader.

    ``package`` is the package that holds the table, for one that comes with a package and has no files.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    read: Callable[[Path], CleanTable]
    package: str | None = None

    def find(self, root: Path) -> Listing | None:
        """Look in ``root/folder``, then in ``root`` itself; None if neither holds every file."""
        for folder in (root / self.folder, root):
            if self.files and all(os.path.isfile(folder / file) for file in self.files):
                return Listing(folder, (), self.files)
        return None

    @property
    def installed(self) -> bool:
        """Whether the table comes with a package that is installed."""
        return self.package is not None and importlib.util.find_spec(self.package) is not None


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split())


IPSSM_MEASURED = (
    Column("age", "AGE", "years", 0, 120),
    Column("marrow_blasts", "BM_BLAST", "%", 0, 100),
    Column("neutrophils", "ANC", "10^9/l", 0, 200),
    haemoglobin("HB"),
    platelets("PLT"),
)
IPSSM_CYTOGENETIC = {
    "del5q": "del5q",
    "minus5": "del5",
    "minus7": "del7",
    "del7q": "del7q",
    "plus8": "plus8",
    "del9q": "del9q",
    "del11q": "del11q",
    "del12p": "del12p",
    "del13": "del13",
    "iso17q": "iso17q",
    "del17p": "del17p",
    "del20q": "del20q",
    "minusY": "delY",
}
"""Our name and the column of df_cna.tsv, the study's own reading of the karyotypes.

It also marks changes in patients whose karyotype text is missing from the clinical table.
"""

IPSSM_SCORE_GENES = _names(
    "ASXL1 CBL DNMT3A ETV6 EZH2 FLT3 IDH2 KMT2A_PTD KRAS NPM1 NRAS RUNX1 SF3B1 SRSF2 TP53 U2AF1 "
    "BCOR BCORL1 CEBPA ETNK1 GATA2 GNB1 IDH1 NF1 PHF6 PPM1D PRPF8 PTPN11 SETBP1 STAG2 WT1"
)
"""The 31 genes of the IPSS-M score (Bernard et al. 2022): 16 with a weight of their own, 15 counted."""

IPSSM_FREQUENT_GENES = _names(
    "TET2 ZRSR2 CUX1 DDX41 JAK2 MPL SH2B3 BRCC3 KMT2C CTCF ZBTB33 CSNK1A1 EP300 GNAS ARID2 KMT2D"
)
"""The 16 genes mutated most often (31 to 912 patients) beside those of the score; 47 genes in all."""

IPSSM_GENETIC = (*IPSSM_SCORE_GENES, "TP53_multi", *IPSSM_FREQUENT_GENES)
"""``TP53_multi``: TP53 hit more than once (two mutations, deletion, or loss of heterozygosity)."""

IPSSM_OWN_NAMES = {"KMT2A_PTD": "MLL_PTD", "TP53_multi": "TP53multi"}
"""Columns of df_mut.tsv that have another name than the feature; FLT3 is any of FLT3 and FLT3_ITD."""


def read_ipssm(folder: Path) -> CleanTable:
    """Read the cohort behind IPSS-M: myelodysplastic syndromes, overall survival.

    Source: Bernard et al. 2022, NEJM Evidence 1(7); its files name no centre, so all patients have one
    site. The 14 cytogenetic flags and 47 genes (plus ``TP53_multi``) are 0 or 1.

    Raises
    ------
    DataError
        If a file lacks a column or holds what cannot be (`hemafl_lib.data.tables`).
    """
    file = str(folder / "df_clinical.tsv")
    clinical = read_text(folder / "df_clinical.tsv", "\t")
    sources = [column.source for column in IPSSM_MEASURED]
    require(clinical, ["ID", "SEX", "complex", "OS_YEARS", "OS_STATUS", *sources], file)
    clinical, repairs = one_row_a_patient(clinical, "ID", file)
    columns, measured_repairs = _measured(clinical, IPSSM_MEASURED, file)
    columns["male"] = coded(clinical, "SEX", {"M": 1.0, "F": 0.0}, file)
    columns["complex"] = coded(clinical, "complex", {"complex": 1.0, "non-complex": 0.0}, file)
    times, lost = outcome(clinical, "OS_YEARS", "OS_STATUS", file, per_month=1 / MONTHS_PER_YEAR)

    changes, change_repairs = _flag_table(folder / "df_cna.tsv", IPSSM_CYTOGENETIC, clinical["ID"])
    sources_of_genes = {gene: IPSSM_OWN_NAMES.get(gene, gene) for gene in (*IPSSM_GENETIC, "FLT3_ITD")}
    genes, gene_repairs = _flag_table(folder / "df_mut.tsv", sources_of_genes, clinical["ID"])
    genes["FLT3"] = genes["FLT3"].mask(genes.pop("FLT3_ITD") == 1, 1.0)
    repairs += [*measured_repairs, *change_repairs, *gene_repairs]
    patients = _named("ipssm", clinical["ID"])
    return _joined(times, patients, "ipssm", {**columns, **changes, **genes}, lost, repairs)


def _flag_table(path: Path, names: Mapping[str, str], patients: pd.Series) -> tuple[pd.DataFrame, list[str]]:
    """Read 0/1 columns of a table with the key ID and put them beside the patients."""
    frame = read_text(path, "\t")
    require(frame, ["ID", *names.values()], str(path))
    frame, repairs = one_row_a_patient(frame, "ID", str(path))
    flags = pd.DataFrame({name: flag(frame, source, str(path)) for name, source in names.items()})
    beside, unmatched = matched(flags, frame["ID"], patients, str(path))
    return beside, [*repairs, *unmatched]


AMLSG_MEASURED = (
    Column("age", "AOD", "years", 0, 120),
    Column("white_cells", "wbc", "10^9/l", 0, 1500),
    haemoglobin("HB"),
    platelets("platelet"),
    Column("lactate_dehydrogenase", "LDH", "U/l", 1, 50_000),
    Column("marrow_blasts", "BM_Blasts", "%", 0, 100),
    Column("blood_blasts", "PB_Blasts", "%", 0, 100),
    Column("performance_status", "Performance_ECOG", "ECOG", 0, 4),
)
AMLSG_CYTOGENETIC = {
    "t_15_17": "t_15_17",
    "t_8_21": "t_8_21",
    "inv16": "inv16_t16_16",
    "t_6_9": "t_6_9",
    "inv3": "inv3_t3_3",
    "t_9_11": "t_9_11",
    "t_v_11": "t_v_11",
    "minus5_5q": "minus5_5q",
    "minus7": "minus7",
    "del7q": "minus7q",
    "plus8_8q": "plus8_8q",
    "del9q": "minus9q",
    "abn12p": "mono12_12p_abn12p",
    "abn17p": "mono17_17p_abn17p",
    "minus18_18q": "minus18_18q",
    "minus20_20q": "minus20_20q",
    "plus21": "plus21",
    "plus22": "plus22",
    "minusY": "minusY",
    "complex": "complex",
}
"""Our name and the column of the clinical table."""

AMLSG_CLINICAL_GENES = {
    "NPM1": "NPM1",
    "FLT3_ITD": "FLT3_ITD",
    "FLT3_TKD": "FLT3_TKD",
    "KMT2A_PTD": "MLL_PTD",
}
"""Genes that the clinical table knows better than the list of mutations does: it tells 0 from not tested."""

AMLSG_LISTED_GENES = _names(
    "ASXL1 BCOR CBL DNMT3A EP300 ETV6 EZH2 GATA2 IDH1 IDH2 KIT KRAS MYC NF1 NRAS PHF6 PTPN11 "
    "RAD21 RUNX1 SF3B1 SRSF2 STAG2 TET2 TP53 U2AF1 WT1"
)
"""The genes of the list of mutations that are mutated in at least 1 % of the patients."""

AMLSG_OWN_NAMES = {"SRSF2": "SFRS2"}


def read_amlsg(folder: Path) -> CleanTable:
    """Read three trials of the AML Study Group: overall survival from diagnosis, 45 treatment centres.

    Source: Papaemmanuil et al. 2016, NEJM 374(23); Gerstung et al. 2017, Nature Genetics 49(3). A gene is 1
    if the list holds a mutation of it that was called "OK" and is oncogenic or possibly so, as in the
    authors' code; a patient without any listed mutation has 0 throughout.

    Raises
    ------
    DataError
        If the package rdata is missing, or a file lacks a column or holds what cannot be
        (`hemafl_lib.data.tables`).
    """
    file, genetic_file = (str(folder / name) for name in ("AMLSG_Clinical_Anon.RData", "AMLSG_Genetic.txt"))
    clinical = _read_rdata(folder / "AMLSG_Clinical_Anon.RData", "clinicalData")
    sources = [column.source for column in AMLSG_MEASURED]
    flags = {**AMLSG_CYTOGENETIC, **AMLSG_CLINICAL_GENES, "splenomegaly": "Splenomegaly"}
    needed = ["PDID", "Center", "gender", "TypeAML", "CEBPA", "OS", "Status"]
    require(clinical, [*needed, *sources, *flags.values()], file)
    clinical, repairs = one_row_a_patient(clinical, "PDID", file)

    columns, measured_repairs = _measured(clinical, AMLSG_MEASURED, file)
    columns["male"] = coded(clinical, "gender", {1: 1.0, 2: 0.0}, file)
    kinds = {"secondary": "sAML", "therapy_related": "tAML"}
    columns |= indicators(clinical, "TypeAML", kinds, ["AML", "sAML", "tAML", "oAML"], file)
    columns |= indicators(clinical, "CEBPA", {"CEBPA_single": 1, "CEBPA_double": 2}, [0, 1, 2], file)
    for name, source in flags.items():
        columns[name] = flag(clinical, source, file)
    genes, gene_notes = _listed_genes(folder / "AMLSG_Genetic.txt", clinical["PDID"], genetic_file)
    times, lost = outcome(clinical, "OS", "Status", file, per_month=DAYS_PER_MONTH)
    require_filled(clinical, "Center", file)
    site = as_numbers(clinical, "Center", file).map(lambda number: f"centre-{number:02.0f}")
    repairs += measured_repairs
    patients = _named("amlsg", clinical["PDID"])
    return _joined(times, patients, site, {**columns, **genes}, [*gene_notes, *lost], repairs)


def _listed_genes(path: Path, patients: pd.Series, file: str) -> tuple[dict[str, pd.Series], list[str]]:
    """Return one 0/1 column a gene from a list of mutations, and what there is to note."""
    mutations = read_text(path, "\t")
    require(mutations, ["SAMPLE_NAME", "GENE", "FINAL_CALL", "Result"], file)
    sure = mutations[(mutations["FINAL_CALL"] == "OK") & mutations["Result"].isin(["ONCOGENIC", "POSSIBLE"])]
    strangers = sorted(set(mutations["SAMPLE_NAME"]) - set(patients))
    notes = (
        [f"{len(strangers)} sample(s) of {path.name} without a clinical record were left out."]
        if strangers
        else []
    )
    genes = {}
    for name in AMLSG_LISTED_GENES:
        carriers = sure.loc[sure["GENE"] == AMLSG_OWN_NAMES.get(name, name), "SAMPLE_NAME"]
        genes[name] = patients.isin(carriers).astype("float64")
    return genes, notes


def _read_rdata(path: Path, name: str) -> pd.DataFrame:
    """Read one data frame of a file of R, through the package rdata."""
    try:
        import rdata  # only this cohort needs it
    except ImportError:
        raise DataError(
            f"{path.name} is a file of R and needs the package rdata; install it with 'pip install rdata'."
        ) from None
    try:
        with warnings.catch_warnings():
            # A column of time differences has no counterpart in rdata; it is none that is read here.
            warnings.simplefilter("ignore", UserWarning)
            frame = rdata.read_rda(path)[name]
    except Exception as error:  # damaged bytes raise many kinds of error in its parser
        raise DataError(
            f"{path} cannot be read as '{name}' of R ({type(error).__name__}); restore the file."
        ) from None
    return count_from_one(frame)


BMT_HOSPITALS = {"1": "ohio-state", "2": "alfred", "3": "st-vincent", "4": "hahnemann"}
"""The hospitals of column z9, in the order of the source."""

BMT_MEASURED = (
    Column("age", "z1", "years", 0, 120),
    Column("donor_age", "z2", "years", 0, 120),
    Column("waiting_time", "z7", "days", 0, 20_000),
)
BMT_FLAGS = {
    "male": "z3",
    "donor_male": "z4",
    "cmv_positive": "z5",
    "donor_cmv_positive": "z6",
    "fab_4_or_5": "z8",
    "methotrexate": "z10",
}
"""Our name and the source's: sex, cytomegalovirus, FAB grade 4 or 5 with AML, methotrexate against GVHD."""


def read_bmt(folder: Path) -> CleanTable:
    """Read 137 bone-marrow transplants for acute leukaemia at four hospitals.

    The time runs from the transplant to relapse or death (``t2``, ``d3``: disease-free survival). Two of the
    hospitals gave methotrexate to everyone and two to nobody: its effect cannot be told from the hospital's.
    Source: Klein and Moeschberger 1997, Survival Analysis, section 1.3 (data set bmt of KMsurv).

    Raises
    ------
    DataError
        If the file lacks a column or holds what cannot be (`hemafl_lib.data.tables`).
    """
    file = str(folder / "bmt.csv")
    frame = read_text(folder / "bmt.csv", ",")
    sources = [column.source for column in BMT_MEASURED]
    require(frame, ["rownames", "group", "t2", "d3", "z9", *sources, *BMT_FLAGS.values()], file)
    frame, repairs = one_row_a_patient(frame, "rownames", file)
    columns, measured_repairs = _measured(frame, BMT_MEASURED, file)
    for name, source in BMT_FLAGS.items():
        columns[name] = flag(frame, source, file)
    columns |= indicators(frame, "group", {"aml_low_risk": "2", "aml_high_risk": "3"}, list("123"), file)
    require_filled(frame, "z9", file)
    coded(frame, "z9", dict.fromkeys(BMT_HOSPITALS, 0.0), file)  # refuses a hospital that is not known
    times, lost = outcome(frame, "t2", "d3", file, per_month=DAYS_PER_MONTH)
    repairs += measured_repairs
    patients, site = _named("bmt", frame["rownames"]), frame["z9"].map(BMT_HOSPITALS)
    return _joined(times, patients, site, columns, lost, repairs)


FLCHAIN_MEASURED = (
    Column("age", "age", "years", 0, 120),
    Column("creatinine", "creatinine", "mg/dl", 0, 50),
    Column("kappa", "kappa", "mg/dl", 0, 1000),
    Column("lambda", "lambda", "mg/dl", 0, 1000),
)


def read_flchain(_folder: Path) -> CleanTable:
    """Read the free light chain study: residents of Olmsted County aged 50 or more, overall survival.

    The table comes with scikit-survival. Its column ``chapter`` is the cause of death and is known of the
    dead only, so it would give the outcome away; ``flc.grp`` is computed from kappa and lambda, and
    ``sample.yr`` says how long somebody could be followed: all three are left out.
    Source: Dispenzieri et al. 2012, Mayo Clinic Proceedings 87(6).

    Raises
    ------
    DataError
        If scikit-survival is not installed.
    """
    try:
        from sksurv.datasets import load_flchain  # only this cohort needs it
    except ImportError:
        raise DataError(
            "the cohort 'flchain' comes with scikit-survival; install it with 'pip install scikit-survival'."
        ) from None
    features, survival = load_flchain()
    frame = count_from_one(features.assign(days=survival["futime"], dead=survival["death"].astype(float)))
    file = "scikit-survival's flchain"
    columns, repairs = _measured(frame, FLCHAIN_MEASURED, file)
    columns["male"] = coded(frame, "sex", {"M": 1.0, "F": 0.0}, file)
    columns["mgus"] = coded(frame, "mgus", {"yes": 1.0, "no": 0.0}, file)
    times, lost = outcome(frame, "days", "dead", file, per_month=DAYS_PER_MONTH)
    patients = _named("flchain", pd.Series(frame.index.astype(str), index=frame.index))
    return _joined(times, patients, "olmsted", columns, lost, repairs)


def _measured(
    frame: pd.DataFrame, columns: Sequence[Column], file: str
) -> tuple[dict[str, pd.Series], list[str]]:
    """Return measured columns by the names of their features, and what was repaired."""
    values, repairs = {}, []
    for column in columns:
        values[column.name], repaired = measured(frame, column, file)
        repairs += repaired
    return values, repairs


def _named(cohort: str, keys: pd.Series) -> pd.Series:
    """Return names of patients that are unique across cohorts."""
    return keys.map(lambda key: f"{cohort}/{key}")


def _joined(
    times: pd.DataFrame,
    patients: pd.Series,
    site: pd.Series | str,
    columns: Mapping[str, pd.Series],
    notes: Sequence[str],
    repairs: Sequence[str],
) -> CleanTable:
    """Put the columns of the patients with a known outcome side by side."""
    everyone = pd.DataFrame({"patient": patients, "site": site, **columns})
    return CleanTable(times.join(everyone), tuple(notes), tuple(repairs))


DEMOGRAPHIC = ("age", "male")

TABLES = {
    source.name: source
    for source in (
        TableSource(
            "ipssm",
            "ipssm",
            ("df_clinical.tsv", "df_cna.tsv", "df_mut.tsv"),
            {
                "demographic": DEMOGRAPHIC,
                "clinical": (*DEMOGRAPHIC, "marrow_blasts", "neutrophils", "haemoglobin", "platelets"),
                "cytogenetic": (*IPSSM_CYTOGENETIC, "complex"),
                "genetic": IPSSM_GENETIC,
            },
            read_ipssm,
        ),
        TableSource(
            "amlsg",
            "amlsg",
            ("AMLSG_Clinical_Anon.RData", "AMLSG_Genetic.txt"),
            {
                "demographic": DEMOGRAPHIC,
                "clinical": (
                    *DEMOGRAPHIC,
                    *(column.name for column in AMLSG_MEASURED[1:]),
                    "splenomegaly",
                    "secondary",
                    "therapy_related",
                ),
                "cytogenetic": tuple(AMLSG_CYTOGENETIC),
                "genetic": (*AMLSG_CLINICAL_GENES, "CEBPA_single", "CEBPA_double", *AMLSG_LISTED_GENES),
            },
            read_amlsg,
        ),
        TableSource(
            "bmt",
            "bmt",
            ("bmt.csv",),
            {
                "demographic": DEMOGRAPHIC,
                "clinical": (
                    *DEMOGRAPHIC,
                    "aml_low_risk",
                    "aml_high_risk",
                    "fab_4_or_5",
                    "waiting_time",
                    "methotrexate",
                    "cmv_positive",
                    "donor_age",
                    "donor_male",
                    "donor_cmv_positive",
                ),
            },
            read_bmt,
        ),
        TableSource(
            "flchain",
            "",
            (),
            {
                "demographic": DEMOGRAPHIC,
                "clinical": (*DEMOGRAPHIC, "creatinine", "kappa", "lambda", "mgus"),
            },
            read_flchain,
            package="sksurv",
        ),
    )
}
