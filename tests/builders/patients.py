"""Small tables of patients in the layouts of the public ones, drawn by a rule and belonging to nobody."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hemafl_lib.data import survival_cohorts as cohorts

Grid = list[list[str]]
"""The cells of a file, row by row; the first row is the header."""

PATIENTS = 24


def spread(low: float, high: float, step: int = 7, digits: int = 0) -> list[str]:
    """Return one number for each patient between two bounds, in no order."""
    places = [(number * step) % PATIENTS / (PATIENTS - 1) for number in range(PATIENTS)]
    values = [low + place * (high - low) for place in places]
    return [f"{value:.{digits}f}" for value in values]


def turns(codes: Sequence[str], step: int = 1) -> list[str]:
    """Return the codes in turn, one for each patient."""
    return [codes[(number * step + number // 5) % len(codes)] for number in range(PATIENTS)]


def grid(columns: dict[str, list[str]]) -> Grid:
    """Return columns as rows below a header."""
    return [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]


def column_of(table: Grid, name: str) -> int:
    """Return the place of a column."""
    return table[0].index(name)


def replaced(
    table: Grid, column: str, change: Callable[[str], str], rows: Sequence[int] | None = None
) -> Grid:
    """Return a grid with the cells of a column changed, all or those of ``rows`` (the header is row 1)."""
    place = column_of(table, column)
    return [
        [
            change(cell) if at == place and row > 1 and (rows is None or row in rows) else cell
            for at, cell in enumerate(cells)
        ]
        for row, cells in enumerate(table, 1)
    ]


def write(path: Path, table: Grid, separator: str = ",", encoding: str = "utf-8", ends: str = "\n") -> Path:
    """Write a grid as a text file, no cell quoted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ends.join(separator.join(cells) for cells in table) + ends
    path.write_bytes(text.encode(encoding))
    return path


def bmt() -> Grid:
    """Return 24 transplants at four hospitals."""
    return grid(
        {
            "rownames": [str(number) for number in range(1, PATIENTS + 1)],
            "group": turns("123"),
            "t2": spread(20, 2500),
            "d3": turns("0110"),
            "z1": spread(10, 50, 5),
            "z2": spread(12, 48, 11),
            "z3": turns("01"),
            "z4": turns("011"),
            "z5": turns("0011"),
            "z6": turns("10"),
            "z7": spread(30, 390, 5),
            "z8": turns("001"),
            "z9": turns("1234"),
            "z10": turns("0101", 3),
        }
    )


def ipssm() -> dict[str, Grid]:
    """Return 24 patients in the three files of IPSS-M."""
    ids = [f"P{number}" for number in range(1, PATIENTS + 1)]
    clinical = {
        "ID": ids,
        "SEX": turns("MF"),
        "AGE": spread(40, 90, 5),
        "BM_BLAST": spread(0, 18, 5, 1),
        "ANC": spread(0.2, 6, 11, 2),
        "HB": spread(6, 13, 7, 1),
        "PLT": spread(10, 400, 5),
        "complex": turns(["complex", "non-complex", "non-complex"]),
        "OS_YEARS": spread(0.1, 9, 7, 2),
        "OS_STATUS": turns("0110"),
    }
    changes = {name: turns("0001", step) for step, name in enumerate(cohorts.IPSSM_CYTOGENETIC.values(), 1)}
    own = cohorts.IPSSM_OWN_NAMES
    names = [own.get(name, name) for name in (*cohorts.IPSSM_GENETIC, "FLT3_ITD")]
    genes = {name: turns("00100", step) for step, name in enumerate(names, 1)}
    return {
        "df_clinical.tsv": grid(clinical),
        "df_cna.tsv": grid({"ID": ids, **changes}),
        "df_mut.tsv": grid({"ID": ids, **genes}),
    }


def mutations() -> Grid:
    """Return a list of mutations of the patients of `write_amlsg`, two each."""
    rows = [
        [f"PD{number}", gene, "OK", "ONCOGENIC"]
        for number in range(1, PATIENTS + 1)
        for gene in ("DNMT3A", cohorts.AMLSG_LISTED_GENES[number % 20])
    ]
    return [["SAMPLE_NAME", "GENE", "FINAL_CALL", "Result"], *rows]


def write_bmt(root: Path, table: Grid | None = None, separator: str = ",", **how: str) -> Path:
    """Write ``bmt/bmt.csv``."""
    return write(root / "bmt" / "bmt.csv", bmt() if table is None else table, separator, **how)


def write_ipssm(root: Path, **changed: Grid) -> None:
    """Write the three files of ``ipssm``; ``changed`` replaces one of clinical, cna and mut."""
    tables = ipssm() | {f"df_{name}.tsv": table for name, table in changed.items()}
    for name, table in tables.items():
        write(root / "ipssm" / name, table, "\t")


def write_amlsg(root: Path, table: Grid | None = None, key: str = "PD{}") -> None:
    """Write 24 patients of three centres as the R file, and their list of mutations."""
    import rdata

    def numbers(codes: Sequence[str]) -> list[float]:
        return [float(code) for code in codes]

    clinical = {
        "PDID": [key.format(number) for number in range(1, PATIENTS + 1)],
        "Center": numbers(turns("123")),
        "gender": numbers(turns("12")),
        "TypeAML": turns(["AML", "sAML", "tAML"]),
        "CEBPA": numbers(turns("012")),
        "OS": numbers(spread(20, 3000)),
        "Status": numbers(turns("01")),
        "AOD": numbers(spread(20, 70)),
        "wbc": numbers(spread(1, 90)),
        "HB": numbers(spread(6, 13)),
        "platelet": numbers(spread(8, 300)),
        "LDH": numbers(spread(100, 2000)),
        "BM_Blasts": numbers(spread(20, 95)),
        "PB_Blasts": numbers(spread(2, 95)),
        "Performance_ECOG": numbers(turns("0123")),
        "Splenomegaly": numbers(turns("01")),
        **{name: numbers(turns("0001")) for name in cohorts.AMLSG_CYTOGENETIC.values()},
        **{name: numbers(turns("001")) for name in cohorts.AMLSG_CLINICAL_GENES.values()},
    }
    folder = root / "amlsg"
    folder.mkdir(parents=True, exist_ok=True)
    rdata.write_rda(folder / "AMLSG_Clinical_Anon.RData", {"clinicalData": pd.DataFrame(clinical)})
    write(folder / "AMLSG_Genetic.txt", mutations() if table is None else table, "\t")


def carriers(cohort: object, gene: str) -> int:
    """Return how many patients have a mutation of a gene."""
    names: tuple[str, ...] = cohort.feature_names  # type: ignore[attr-defined]
    return int(np.nansum(cohort.features[:, names.index(gene)].numpy()))  # type: ignore[attr-defined]
