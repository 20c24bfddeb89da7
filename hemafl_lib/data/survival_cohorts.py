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
from hemafl_lib.data.sheets import Sheet, found_in, read_sheet, require, sheet_of, spelling
from hemafl_lib.data.tables import (
    CleanTable,
    Column,
    OtherUnit,
    age,
    beside,
    blasts,
    coded,
    flag,
    haemoglobin,
    indicators,
    joined,
    match,
    measured,
    one_row_a_patient,
    outcome,
    platelets,
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


PER_MICROLITRE = (OtherUnit("per microlitre", 1e-3),)

IPSSM_MEASURED = (
    age("AGE"),
    blasts("marrow_blasts", "BM_BLAST", (0.5, 30)),
    Column("neutrophils", "ANC", "10^9/l", 0, 200, (0.3, 10), PER_MICROLITRE),
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
    sources = [column.source for column in IPSSM_MEASURED]
    needed = ["ID", "SEX", "complex", "OS_YEARS", "OS_STATUS", *sources]
    clinical = one_row_a_patient(require(read_sheet(folder / "df_clinical.tsv", "\t"), needed), "ID")
    columns = _measured(clinical, IPSSM_MEASURED)
    columns["male"] = coded(clinical, "SEX", {"M": 1.0, "F": 0.0})
    columns["complex"] = coded(clinical, "complex", {"complex": 1.0, "non-complex": 0.0})
    times = outcome(clinical, "OS_YEARS", "OS_STATUS", unit="years")

    keys = clinical.rows["ID"]
    changes, of_changes = _flag_table(folder / "df_cna.tsv", IPSSM_CYTOGENETIC, keys)
    sources_of_genes = {gene: IPSSM_OWN_NAMES.get(gene, gene) for gene in (*IPSSM_GENETIC, "FLT3_ITD")}
    genes, of_genes = _flag_table(folder / "df_mut.tsv", sources_of_genes, keys)
    genes["FLT3"] = genes["FLT3"].mask(genes.pop("FLT3_ITD") == 1, 1.0)
    features = {**columns, **changes, **genes}
    return joined(times, _named("ipssm", keys), "ipssm", features, clinical, of_changes, of_genes)


def _flag_table(
    path: Path, names: Mapping[str, str], patients: pd.Series
) -> tuple[dict[str, pd.Series], Sheet]:
    """Read 0/1 columns of a table with the key ID and put them beside the patients."""
    sheet = one_row_a_patient(require(read_sheet(path, "\t"), ["ID", *names.values()]), "ID")
    flags = {name: flag(sheet, source) for name, source in names.items()}
    return beside(flags, match(sheet, "ID", patients), patients), sheet


AMLSG_MEASURED = (
    age("AOD"),
    Column("white_cells", "wbc", "10^9/l", 0, 1500, (2, 120), PER_MICROLITRE),
    haemoglobin("HB"),
    platelets("platelet", (10, 400)),
    Column("lactate_dehydrogenase", "LDH", "U/l", 1, 50_000, (100, 3000)),
    blasts("marrow_blasts", "BM_Blasts", (10, 100)),
    blasts("blood_blasts", "PB_Blasts", (5, 100)),
    Column("performance_status", "Performance_ECOG", "ECOG", 0, 4, whole=True),
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

AMLSG_CALLS = {"OK": 1.0, "OK_": 0.0, "Q": 0.0}
AMLSG_MEANINGS = {"ONCOGENIC": 1.0, "POSSIBLE": 1.0}
"""Words of FINAL_CALL and Result, and whether a mutation so called is sure; one of unknown meaning is not."""

AMLSG_STRANGERS = 33
"""Samples of the published list of mutations whose patients are not in the clinical table."""


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
    sources = [column.source for column in AMLSG_MEASURED]
    flags = {**AMLSG_CYTOGENETIC, **AMLSG_CLINICAL_GENES, "splenomegaly": "Splenomegaly"}
    needed = ["PDID", "Center", "gender", "TypeAML", "CEBPA", "OS", "Status"]
    clinical = _read_rdata(folder / "AMLSG_Clinical_Anon.RData", "clinicalData")
    clinical = one_row_a_patient(require(clinical, [*needed, *sources, *flags.values()]), "PDID")

    columns = _measured(clinical, AMLSG_MEASURED)
    columns["male"] = coded(clinical, "gender", {1: 1.0, 2: 0.0})
    kinds = {"secondary": "sAML", "therapy_related": "tAML"}
    columns |= indicators(clinical, "TypeAML", kinds, ["AML", "sAML", "tAML", "oAML"])
    columns |= indicators(clinical, "CEBPA", {"CEBPA_single": 1, "CEBPA_double": 2}, [0, 1, 2])
    for name, source in flags.items():
        columns[name] = flag(clinical, source)
    patients = clinical.rows["PDID"]
    genes, mutations = _listed_genes(folder / "AMLSG_Genetic.txt", patients)
    times = outcome(clinical, "OS", "Status", unit="days")
    require_filled(clinical, "Center")
    site = measured(clinical, Column("centre", "Center", "centre numbers", 1, 999, whole=True)).map(
        "centre-{:02.0f}".format
    )
    return joined(times, _named("amlsg", patients), site, {**columns, **genes}, clinical, mutations)


def _listed_genes(path: Path, patients: pd.Series) -> tuple[dict[str, pd.Series], Sheet]:
    """Return one 0/1 column a gene from a list of mutations, and the list."""
    mutations = require(read_sheet(path, "\t"), ["SAMPLE_NAME", "GENE", "FINAL_CALL", "Result"])
    require_filled(mutations, "GENE")
    require_filled(mutations, "FINAL_CALL")
    rows = match(mutations, "SAMPLE_NAME", patients, all_patients=False, strangers=AMLSG_STRANGERS)
    sure = (coded(mutations, "FINAL_CALL", AMLSG_CALLS) * coded(mutations, "Result", AMLSG_MEANINGS)) == 1
    sources = {name: AMLSG_OWN_NAMES.get(name, name) for name in AMLSG_LISTED_GENES}
    listed = mutations.rows["GENE"]
    _refuse_other_spellings(mutations, listed, tuple(sources.values()))
    genes = {
        name: patients.index.to_series().isin(rows[sure & (listed == source)]).astype("float64")
        for name, source in sources.items()
    }
    absent = [name for name, carriers in genes.items() if not carriers.any()]
    if len(absent) == len(genes):
        raise DataError(
            f"{mutations.file}: nobody has a sure mutation of a gene that is read; restore the list."
        )
    if absent:
        mutations.notes.append(f"Nobody has a mutation of {', '.join(absent)} in {path.name}.")
    return genes, mutations


def _refuse_other_spellings(sheet: Sheet, listed: pd.Series, known: Sequence[str]) -> None:
    """Raise `DataError` if a gene is one of those ``known`` but for capitals or blanks."""
    other = listed.map(spelling).isin([spelling(name) for name in known]) & ~listed.isin(known)
    if other.any():
        raise DataError(
            f"{sheet.file}: column {listed.name} holds {found_in(listed, other)}, which is another spelling "
            "of a gene; write it in capitals and without blanks."
        )


def _read_rdata(path: Path, name: str) -> Sheet:
    """Read one data frame of a file of R, through the package rdata; rows count from 1, as in R."""
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
            frame = pd.DataFrame(rdata.read_rda(path)[name])
    except Exception as error:  # damaged bytes raise many kinds of error in its parser
        raise DataError(
            f"{path} cannot be read as '{name}' of R ({type(error).__name__}); restore the file."
        ) from None
    return sheet_of(frame, str(path))


BMT_HOSPITALS = {1: "ohio-state", 2: "alfred", 3: "st-vincent", 4: "hahnemann"}
"""The hospitals of column z9, in the order of the source."""

BMT_MEASURED = (
    age("z1"),
    age("z2", "donor_age"),
    Column("waiting_time", "z7", "days", 0, 20_000, (30, 1500)),
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
    sources = [column.source for column in BMT_MEASURED]
    needed = ["rownames", "group", "t2", "d3", "z9", *sources, *BMT_FLAGS.values()]
    sheet = one_row_a_patient(require(read_sheet(folder / "bmt.csv", ","), needed), "rownames")
    columns = _measured(sheet, BMT_MEASURED)
    for name, source in BMT_FLAGS.items():
        columns[name] = flag(sheet, source)
    columns |= indicators(sheet, "group", {"aml_low_risk": 2, "aml_high_risk": 3}, [1, 2, 3])
    require_filled(sheet, "z9")
    site = coded(sheet, "z9", {number: float(number) for number in BMT_HOSPITALS}).map(BMT_HOSPITALS)
    times = outcome(sheet, "t2", "d3", unit="days")
    return joined(times, _named("bmt", sheet.rows["rownames"]), site, columns, sheet)


FLCHAIN_MEASURED = (
    age("age"),
    Column("creatinine", "creatinine", "mg/dl", 0, 50, (0.4, 5)),
    Column("kappa", "kappa", "mg/dl", 0, 1000, (0.3, 10)),
    Column("lambda", "lambda", "mg/dl", 0, 1000, (0.3, 10)),
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
    frame = features.assign(days=survival["futime"], dead=survival["death"].astype(float))
    sheet = sheet_of(frame, "scikit-survival's flchain")
    columns = _measured(sheet, FLCHAIN_MEASURED)
    columns["male"] = coded(sheet, "sex", {"M": 1.0, "F": 0.0})
    columns["mgus"] = coded(sheet, "mgus", {"yes": 1.0, "no": 0.0})
    times = outcome(sheet, "days", "dead", unit="days")
    patients = _named("flchain", pd.Series(sheet.rows.index.astype(str), index=sheet.rows.index))
    return joined(times, patients, "olmsted", columns, sheet)


def _measured(sheet: Sheet, columns: Sequence[Column]) -> dict[str, pd.Series]:
    """Return measured columns by the names of their features."""
    return {column.name: measured(sheet, column) for column in columns}


def _named(cohort: str, keys: pd.Series) -> pd.Series:
    """Return names of patients that are unique across cohorts."""
    return keys.map(lambda key: f"{cohort}/{key}")


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
