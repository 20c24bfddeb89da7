"""One table gives every source the same class names."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hemafl_lib.data import classes
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.errors import DataError


def cohort(labels, names=classes.CELL_TYPES):
    count = len(labels)
    return ImageCohort(
        images=torch.arange(count, dtype=torch.uint8)[:, None, None, None]
        .expand(count, 3, 4, 4)
        .contiguous(),
        labels=torch.tensor(labels, dtype=torch.int64),
        classes=tuple(names),
        site=np.array(["a"] * count),
        patient=np.array([str(i) for i in range(count)]),
        masks=torch.zeros(count, 4, 4, dtype=torch.uint8),
        provenance=Provenance("test", "Drawn.", "none", True, "0"),
    )


def test_every_own_name_means_a_known_cell_type():
    for source, names in classes.OWN_NAMES.items():
        assert set(names.values()) <= set(classes.CELL_TYPES), source
        assert len(set(names.values())) == len(names), source
    for scheme in classes.CLASS_SCHEMES.values():
        assert {name for types in scheme.values() for name in types} <= set(classes.CELL_TYPES)


def test_schemes_are_those_of_the_paper():
    assert tuple(classes.CLASS_SCHEMES["four"]) == ("neutrophil", "lymphocyte", "monocyte", "eosinophil")
    assert len(classes.CLASS_SCHEMES["eleven"]) == 11
    assert set(classes.CLASS_SCHEMES["eleven"]) - set(classes.CLASS_SCHEMES["nine"]) == {
        "erythroblast",
        "platelet",
    }
    assert tuple(classes.CLASS_SCHEMES["leukaemia"]) == ("benign", "early", "pre", "pro")


def test_table_shows_own_names_and_schemes():
    table = classes.table()
    assert table.loc["segmented_neutrophil", "barcelona"] == "SNE"
    assert table.loc["segmented_neutrophil", "four"] == "neutrophil"
    assert table.loc["neutrophil", "eleven"] == ""
    assert table.loc["erythroblast", "mll23"] == "normoblast"


@given(
    labels=st.lists(st.integers(0, len(classes.CELL_TYPES) - 1), min_size=1, max_size=30),
    scheme=st.sampled_from(sorted(classes.CLASS_SCHEMES)),
)
def test_every_cell_is_kept_under_its_class_or_counted_as_dropped(labels, scheme):
    before = cohort(labels)
    dropped = classes.dropped(before, scheme)
    if sum(dropped.values()) == len(labels):
        with pytest.raises(DataError, match=f"scheme '{scheme}'"):
            classes.harmonise(before, scheme)
        return
    after = classes.harmonise(before, scheme)
    assert after.classes == tuple(classes.CLASS_SCHEMES[scheme])
    assert len(after) + sum(dropped.values()) == len(before)
    rows = [int(patient) for patient in after.patient]
    assert all(left < right for left, right in pairwise(rows))
    for row, label, image in zip(rows, after.labels, after.images, strict=True):
        assert before.classes[labels[row]] in classes.CLASS_SCHEMES[scheme][after.classes[label]]
        assert (image == row).all()
    for name, count in dropped.items():
        assert f"{count} {name}" in after.provenance.source
    assert after.provenance.checksum == before.provenance.checksum


def test_harmonising_twice_changes_nothing():
    once = classes.harmonise(cohort([0, 1, 2, 3, 4]), "four")
    twice = classes.harmonise(once, "four")
    assert torch.equal(once.labels, twice.labels)
    assert once.provenance == twice.provenance


def test_unknown_scheme_is_refused():
    with pytest.raises(DataError, match="scheme 'five' is unknown; choose one of: four"):
        classes.harmonise(cohort([0]), "five")
