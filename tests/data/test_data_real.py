"""The readers on the real cohorts, where these are present."""

import os

import numpy as np
import pytest
import torch

from hemafl_lib import data
from hemafl_lib.data.cohort import same

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("HEMAFL_DATA" not in os.environ, reason="HEMAFL_DATA does not name a data folder"),
]

COUNTS = {
    "taleqani": {"taleqani": {"benign": 504, "early": 985, "pre": 963, "pro": 804}},
    "barcelona": {
        "barcelona": dict.fromkeys(
            (
                "segmented_neutrophil",
                "band_neutrophil",
                "eosinophil",
                "basophil",
                "lymphocyte",
                "monocyte",
                "metamyelocyte",
                "myelocyte",
                "promyelocyte",
                "erythroblast",
                "platelet",
            ),
            250,
        ),
        "barcelona-2": {
            "neutrophil": 50,
            "eosinophil": 50,
            "basophil": 50,
            "lymphocyte": 50,
            "monocyte": 50,
            "erythroblast": 52,
            "immature_granulocyte": 151,
        },
    },
    "tecom": {
        "tecom": {"neutrophil": 176, "lymphocyte": 53, "monocyte": 48, "eosinophil": 22, "basophil": 1}
    },
    "cellavision": {
        "cellavision": {"neutrophil": 33, "lymphocyte": 37, "monocyte": 15, "eosinophil": 12, "basophil": 3}
    },
    "bccd": {"bccd": {"basophil": 3, "eosinophil": 88, "lymphocyte": 33, "monocyte": 20, "neutrophil": 207}},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_sources(name):
    if name not in data.available():
        pytest.skip(f"HEMAFL_DATA does not hold '{name}'")
    cohort = data.load(name, size=32)
    found = {}
    for site in cohort.sites:
        part = cohort.of_site(site)
        pairs = zip(part.classes, part.counts().tolist(), strict=True)
        found[site] = {label: count for label, count in pairs if count}
    assert found == COUNTS[name]
    assert same(data.load(name, size=32), cohort)


@pytest.mark.parametrize("name", ["tecom", "cellavision"])
def test_nuclei_are_darker_than_what_surrounds_the_cell(name):
    if name not in data.available():
        pytest.skip(f"HEMAFL_DATA does not hold '{name}'")
    cohort = data.load(name, size=32)
    grey = cohort.images.float().mean(dim=1)
    darker = [
        grey[i][cohort.masks[i] == 2].mean() < grey[i][cohort.masks[i] == 0].mean()
        for i in range(len(cohort))
    ]
    assert np.mean(darker) > 0.98
    assert torch.equal(cohort.masks.unique(), torch.tensor([0, 1, 2], dtype=torch.uint8))


def test_second_batch_has_a_neutral_background():
    if "barcelona" not in data.available():
        pytest.skip("HEMAFL_DATA does not hold 'barcelona'")
    cohort = data.load("barcelona", size=32)
    red_minus_blue = (cohort.images[:, 0].float() - cohort.images[:, 2].float()).mean(dim=(1, 2)).numpy()
    second = cohort.site == "barcelona-2"
    assert np.percentile(red_minus_blue[second], 99) < np.percentile(red_minus_blue[~second], 1)


def test_the_check_is_content_with_the_public_data():
    """What the public releases have beside their images, and their known copies, stand on their cards."""
    reports = data.check(os.environ["HEMAFL_DATA"])
    assert [report.text() for report in reports if not report.ok] == []
