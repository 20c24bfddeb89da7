"""The data cards: what each cohort is, who made it, and what nobody knows about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from hemafl_lib.errors import DataError


@dataclass(frozen=True)
class Download:
    """A file that may be downloaded without an account.

    ``checksum`` is ``sha256:...`` or ``md5:...`` as its publisher states it, or None where none is
    published.
    """

    url: str
    file: str
    checksum: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the file is unpacked after the download."""
        return self.file.endswith(".zip")


@dataclass(frozen=True)
class Card:
    """One cohort in plain words.

    ``images`` counts the images of the full public release; a cohort without images is a table, whose
    ``patients`` it counts. ``outcome`` says what is known of each of them in the end. ``comes`` says whether
    the cohort is read from files, or needs none. ``beside`` holds patterns of what the public release has
    beside what is read, and ``copies`` its images that show the same picture as another of their class, both
    as paths in the folder: they are no fault of a reader's copy.
    """

    name: str
    title: str
    source: str
    licence: str
    layout: str
    known: str
    unknown: str
    images: int = 0
    patients: int = 0
    outcome: str = ""
    by_hand: str = ""
    download: Download | None = None
    comes: Literal["in files", "with a package", "drawn"] = "in files"
    beside: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``"images"`` or ``"tables"``."""
        return "tables" if self.outcome else "images"

    def rows(self) -> dict[str, str]:
        """Return what the card says, by heading."""
        count = self.patients if self.kind == "tables" else self.images
        rows = {
            "title": self.title,
            "source": self.source,
            "licence": self.licence,
            "patients" if self.kind == "tables" else "images": f"{count:,}"
            if count
            else "as many as asked for",
            **({"outcome": self.outcome} if self.outcome else {}),
            "layout": self.layout,
            "known": self.known,
            "not known": self.unknown,
            **({"not read": ", ".join(self.beside)} if self.beside else {}),
            **(
                {"copies": f"{len(self.copies)} image(s) show the same picture as another of their class"}
                if self.copies
                else {}
            ),
            "how to get it": self.by_hand,
        }
        if self.download:
            trust = "" if self.download.checksum else " --trust"
            rows["how to get it"] = f"hemafl data fetch {self.name}{trust} (from {self.download.url})"
            rows["checksum"] = (
                self.download.checksum or "none published: --trust accepts any, or give --sha256"
            )
        return rows

    def text(self) -> str:
        """Return the card as lines of text."""
        return "\n".join([self.name, *(f"  {name:14} {value}" for name, value in self.rows().items())])


NO_PATIENTS = "Patients: every image counts as a patient of its own, so no split can be made by patient."

_SEGMENTATION_ARCHIVE = Download(
    "https://github.com/zxaoyou/segmentation_WBC/archive/refs/heads/master.zip", "segmentation_WBC.zip"
)

_TALEQANI_COPIES = (
    "012 018 020 022 027 030 038 051 062 075 078 080 084 090 092 096 098 103 105 107 113 115 118 123 129 131 "
    "133 135 137 143 146 152 155 158 169 171 173 178 182 189"
)

CARDS = {
    card.name: card
    for card in (
        Card(
            name="smear",
            title="Simulated blood smears of invented hospitals",
            source="Drawn by this library from morphology parameters.",
            licence="Apache-2.0",
            images=0,
            layout="No files: the images are drawn when they are asked for.",
            known="Class, site, patient, nucleus and cell of every image, by construction.",
            unknown="How far results on drawings carry over to real cells; measure it on a real cohort.",
            by_hand="Nothing to get: it comes with the library.",
            comes="drawn",
        ),
        Card(
            name="taleqani",
            title="Acute lymphoblastic leukaemia, Taleqani Hospital, Tehran (version 1)",
            source="Aria et al. 2021, Kaggle mehradaria/leukemia, doi:10.34740/KAGGLE/DSV/2175623.",
            licence="not verified; ask the authors before you share images",
            images=3256,
            layout="taleqani/Original/{Benign,Early,Pre,Pro}/*.jpg; the tree Segmented/ is not read",
            known="Four classes (504/985/963/804) of 89 patients; one microscope, one camera.",
            unknown=f"{NO_PATIENTS} Neighbouring file numbers may show one patient.",
            by_hand="Download it from Kaggle (mehradaria/leukemia, free account) and unpack it as taleqani/.",
            beside=("Segmented",),
            copies=tuple(f"Original/Pro/WBC-Malignant-Pro-{n}.jpg" for n in _TALEQANI_COPIES.split()),
        ),
        Card(
            name="taleqani-v2",
            title="Acute lymphoblastic leukaemia, Taleqani Hospital, Tehran (version 2)",
            source="Kaggle mohammadamireshraghi/blood-cell-cancer-all-4class.",
            licence="not verified; ask the authors before you share images",
            images=3242,
            layout="Blood cell Cancer [ALL]/{Benign,[Malignant] early Pre-B,...}/*.jpg",
            known="Four classes (512/979/955/796).",
            unknown=NO_PATIENTS,
            by_hand=(
                "Download it from Kaggle (mohammadamireshraghi/blood-cell-cancer-all-4class, free account) "
                "and unpack it as 'Blood cell Cancer [ALL]/'."
            ),
        ),
        Card(
            name="barcelona",
            title="Normal peripheral blood cells, Hospital Clinic Barcelona, CellaVision DM96",
            source="Acevedo et al. 2020, Mendeley Data snkd93bnjr, doi:10.17632/snkd93bnjr.1.",
            licence="CC BY 4.0 (stated by its derivative BloodMNIST)",
            images=17092,
            layout="PBC_dataset_normal_DIB/CLASS/CODE_NUMBER.jpg; the code gives the finer class",
            known=(
                "Thirteen codes; two acquisition batches, told by size: 360x363 is site 'barcelona', "
                "every other size is site 'barcelona-2' (neutral instead of cream background)."
            ),
            unknown=NO_PATIENTS,
            download=Download(
                "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/"
                "2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
                "PBC_dataset_normal_DIB.zip",
            ),
            beside=(".DS_Store", "*/.DS_Store", "__MACOSX", "neutrophil/.DS_169665.jpg"),
            copies=("ig/PMY_225787.jpg", "ig/PMY_753076.jpg"),
        ),
        Card(
            name="tecom",
            title="White cells with drawn masks, Jiangxi Tecom, rapid stain",
            source="Zheng et al. 2018, Dataset 1 of github.com/zxaoyou/segmentation_WBC.",
            licence="GPL-3.0",
            images=300,
            layout="segmentation_WBC/Dataset 1/NNN.bmp, mask NNN.png, Class Labels of Dataset 1.csv",
            known="Five classes; nucleus and cytoplasm drawn by experts.",
            unknown=NO_PATIENTS,
            download=_SEGMENTATION_ARCHIVE,
            beside=("LICENSE", "README*", "Dataset 2", "Class Labels of Dataset 2.csv"),
            copies=("Dataset 1/139.bmp",),
        ),
        Card(
            name="cellavision",
            title="White cells with drawn masks, CellaVision blog",
            source="Zheng et al. 2018, Dataset 2 of github.com/zxaoyou/segmentation_WBC.",
            licence="GPL-3.0",
            images=100,
            layout="segmentation_WBC/Dataset 2/NNN.bmp, mask NNN.png, Class Labels of Dataset 2.csv",
            known="Five classes; nucleus and cytoplasm drawn by experts.",
            unknown=f"{NO_PATIENTS} Hospitals and stains behind the blog are mixed.",
            download=_SEGMENTATION_ARCHIVE,
            beside=("LICENSE", "README*", "Dataset 1", "Class Labels of Dataset 1.csv"),
        ),
        Card(
            name="bccd",
            title="White cells cropped from the BCCD fields",
            source="Fields: github.com/Shenggan/BCCD_Dataset. Crops: github.com/apple2373/BCCD.",
            licence="fields MIT; crops without a stated licence",
            images=351,
            layout="BCCD_cropped/{Basophil,Eosinophil,Lymphocyte,Monocyte,Neutrophil}/*.jpg",
            known="Five classes (3/88/33/20/207); crops of one photographed field share a patient name here.",
            unknown="Patients: fields of one patient are not marked as such.",
            download=Download(
                "https://github.com/apple2373/BCCD/archive/73e268a747db2f39d21850e71baceb94d058f8af.zip",
                "BCCD.zip",
            ),
        ),
        Card(
            name="lmu",
            title="Acute myeloid leukaemia and controls, LMU Munich",
            source="Matek et al. 2019, TCIA AML-Cytomorphology_LMU, doi:10.7937/tcia.2019.36f5o9ld.",
            licence="as stated by TCIA",
            images=18365,
            layout="AML-Cytomorphology_LMU/CODE/CODE_NUMBER.tiff",
            known="Fifteen codes; 100 patients with leukaemia and 100 without.",
            unknown=NO_PATIENTS,
            by_hand=(
                "Download it from The Cancer Imaging Archive (collection AML-Cytomorphology_LMU) "
                "and unpack it as AML-Cytomorphology_LMU/."
            ),
            beside=("abbreviations.txt", "annotations.dat"),
        ),
        Card(
            name="mll23",
            title="Peripheral blood cells, Munich Leukemia Laboratory",
            source="Shetab Boushehri et al. 2025, Zenodo, doi:10.5281/zenodo.14277609.",
            licence="as stated by the Zenodo record",
            images=41621,
            layout="MLL23/CLASS/CLASS_NUMBER.TIF",
            known="Eighteen classes.",
            unknown=NO_PATIENTS,
            by_hand="Download the 18 archives of Zenodo record 14277609 and unpack them under MLL23/.",
        ),
        Card(
            name="bloodmnist",
            title="BloodMNIST: Barcelona's cells, cropped, small and in eight classes",
            source="Yang et al. 2023, MedMNIST v2, Zenodo, doi:10.5281/zenodo.10519652.",
            licence="CC BY 4.0",
            images=17092,
            layout="bloodmnist/bloodmnist_64.npz (or bloodmnist.npz, _128, _224: the largest is read)",
            known="Eight classes; centre crops of the Barcelona images.",
            unknown=f"{NO_PATIENTS} The two acquisition batches cannot be told apart any more.",
            download=Download(
                "https://zenodo.org/records/10519652/files/bloodmnist_64.npz?download=1",
                "bloodmnist_64.npz",
                "md5:2b94928a2ae4916078ca51e05b6b800b",
            ),
        ),
        Card(
            name="flchain",
            title="Serum free light chains and survival, Olmsted County, Minnesota",
            source="Dispenzieri et al. 2012, Mayo Clinic Proceedings 87(6); R package survival.",
            licence="as distributed with scikit-survival (GPL-3.0)",
            patients=7874,
            outcome="overall survival (2,169 deaths)",
            layout="No files: the table comes with the package scikit-survival.",
            known="Age, sex, creatinine, kappa and lambda light chains, MGUS, of residents aged 50 or more.",
            unknown="Centres: one county, one site. Creatinine of 1,350. The cause of death is not read.",
            by_hand="Nothing to get: it comes with scikit-survival ('pip install scikit-survival').",
            comes="with a package",
        ),
        Card(
            name="ipssm",
            title="Myelodysplastic syndromes, International Working Group for Prognosis in MDS",
            source="Bernard et al. 2022, NEJM Evidence 1(7); github.com/papaemmelab/IPSSMstudy.",
            licence="none stated in the repository; the cBioPortal release of the study is ODbL 1.0",
            patients=2957,
            outcome="overall survival of 2,811 (1,354 deaths)",
            layout="ipssm/{df_clinical,df_cna,df_mut}.tsv",
            known="Age, sex, blood counts, marrow blasts, 14 cytogenetic flags, 47 genes.",
            unknown="Centres: the files name none, so all patients have one site.",
            by_hand="Copy the three files of github.com/papaemmelab/IPSSMstudy (folder data) to ipssm/.",
        ),
        Card(
            name="amlsg",
            title="Acute myeloid leukaemia, three trials of the AML Study Group",
            source="Papaemmanuil et al. 2016, NEJM 374(23); Gerstung et al. 2017, Nature Genetics 49(3).",
            licence="GPL-3.0 (repository gerstung-lab/AML-multistage)",
            patients=1540,
            outcome="overall survival (904 deaths)",
            layout="amlsg/AMLSG_Clinical_Anon.RData, amlsg/AMLSG_Genetic.txt",
            known="45 real treatment centres as sites (25 of 20 or more patients); clinic, karyotype, genes.",
            unknown="Which centre is which. Treatment came after the diagnosis and is not read.",
            by_hand="Copy the two files of github.com/gerstung-lab/AML-multistage (folder data) to amlsg/.",
            beside=("AMLSG_Classification.txt", "AMLSG_FLT3ITD.txt", "AMLSG_Karyotypes.txt"),
        ),
        Card(
            name="bmt",
            title="Bone-marrow transplants for acute leukaemia at four hospitals",
            source="Klein and Moeschberger 1997, Survival Analysis, section 1.3; R package KMsurv.",
            licence="not stated; the copy is that of github.com/vincentarelbundock/Rdatasets",
            patients=137,
            outcome="disease-free survival (83 relapses or deaths)",
            layout="bmt/bmt.csv",
            known="Four real hospitals (76/17/23/21); age, sex and cytomegalovirus of patient and donor.",
            unknown="The effect of methotrexate apart from the hospital's: two gave it to all, two to none.",
            by_hand="Copy csv/KMsurv/bmt.csv of github.com/vincentarelbundock/Rdatasets to bmt/.",
        ),
        Card(
            name="sickle-cell",
            title="SIMULATED children with sickle cell anaemia",
            source="Drawn by this library from DeBaun et al. 2012 and Houwing et al. 2020.",
            licence="Apache-2.0",
            outcome="a silent cerebral infarct that is there on the day of the scan (29.5 % on average)",
            layout="No files: the patients are drawn when they are asked for (65 by default).",
            known="The model that drew every infarct: hemafl_lib.data.sickle_cell.RISK.",
            unknown="How far results on drawn patients carry over to real ones.",
            by_hand="Nothing to get: it comes with the library.",
            comes="drawn",
        ),
    )
}

BUILT_IN = tuple(name for name, card in CARDS.items() if card.comes != "in files")
"""The cohorts that need no files."""


def card(name: str) -> Card:
    """Return the card of a cohort; raise `DataError` if the name is unknown."""
    if name not in CARDS:
        raise DataError(f"cohort '{name}' is unknown; choose one of: {', '.join(CARDS)}.")
    return CARDS[name]


def catalogue(kind: str = "images") -> pd.DataFrame:
    """Return one row per cohort of ``kind``, "images" or "tables".

    The columns are the title, the count (images, or patients and their outcome), the licence, and whether
    `hemafl data fetch` can get it.

    Raises
    ------
    DataError
        If the kind is neither.
    """
    if kind not in {"images", "tables"}:
        raise DataError(f"kind='{kind}' is unknown; choose 'images' or 'tables'.")
    about = {name: c for name, c in CARDS.items() if c.kind == kind}
    counted = ("images",) if kind == "images" else ("patients", "outcome")
    rows = [
        {
            "title": c.title,
            **{column: getattr(c, column) for column in counted},
            "licence": c.licence,
            "fetch": c.download is not None,
        }
        for c in about.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(about, name="name"))
