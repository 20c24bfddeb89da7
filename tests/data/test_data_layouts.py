"""Each public layout is read with the right classes, sites and patients, and never mistaken for another."""

import shutil

import numpy as np
import pytest
import torch
from builders import tiny_layouts

from hemafl_lib import data
from hemafl_lib.data.cards import CARDS
from hemafl_lib.data.cohort import same
from hemafl_lib.data.layouts import LAYOUTS
from hemafl_lib.data.survival_cohorts import TABLES
from hemafl_lib.errors import DataError

EMBEDDED = {"smear", "sickle-cell", "flchain"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HEMAFL_DATA", raising=False)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def present(cohort):
    counts = cohort.counts().tolist()
    return {name: count for name, count in zip(cohort.classes, counts, strict=True) if count}


EXPECTED = {
    "taleqani": {"benign": 1, "early": 1, "pre": 1, "pro": 2},
    "taleqani-v2": {"benign": 1, "early": 1, "pre": 1, "pro": 1},
    "barcelona": {
        "segmented_neutrophil": 1,
        "band_neutrophil": 1,
        "neutrophil": 1,
        "eosinophil": 1,
        "metamyelocyte": 1,
        "immature_granulocyte": 1,
    },
    "tecom": {"neutrophil": 1, "basophil": 1, "lymphocyte": 1},
    "cellavision": {"eosinophil": 1, "monocyte": 1},
    "bccd": {"neutrophil": 2, "basophil": 1},
    "lmu": {
        "segmented_neutrophil": 1,
        "band_neutrophil": 1,
        "basophil": 1,
        "atypical_lymphocyte": 1,
    },
    "mll23": {"basophil": 1, "erythroblast": 1},
    "bloodmnist": {
        "neutrophil": 1,
        "eosinophil": 1,
        "basophil": 1,
        "immature_granulocyte": 1,
        "erythroblast": 1,
        "platelet": 2,
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_layout_is_read(root, name):
    tiny_layouts.BUILDERS[name](root)
    cohort = data.load(name, size=16, root=root)
    assert present(cohort) == EXPECTED[name]
    assert cohort.images.dtype == torch.uint8
    assert cohort.images.shape == (sum(EXPECTED[name].values()), 3, 16, 16)
    assert cohort.images.is_contiguous()
    assert cohort.labels.dtype == torch.int64
    assert cohort.provenance.name == name
    assert not cohort.provenance.simulated
    assert len(cohort.provenance.checksum) == 64


@pytest.mark.parametrize("name", EXPECTED)
def test_layout_is_recognised_as_itself_only(root, name):
    tiny_layouts.BUILDERS[name](root)
    expected = {"tecom", "cellavision"} if name in {"tecom", "cellavision"} else {name}
    assert set(data.available(root)) == {*EMBEDDED, *expected}
    folder = root / LAYOUTS[name].folder
    assert {report.name for report in data.check(folder)} == expected


def test_all_layouts_live_side_by_side(root):
    for build in set(tiny_layouts.BUILDERS.values()):
        build(root)
    assert set(data.available(root)) == {*LAYOUTS, *EMBEDDED}
    for name, counts in EXPECTED.items():
        assert present(data.load(name, size=8, root=root)) == counts


def test_every_cohort_has_a_card_and_a_reader():
    assert set(CARDS) == {*LAYOUTS, *TABLES, "smear", "sickle-cell"}
    for card in CARDS.values():
        assert card.download is not None or card.by_hand


def test_order_is_that_of_the_sorted_paths(root):
    tiny_layouts.bccd(root)
    cohort = data.load("bccd", size=8, root=root)
    assert [cohort.classes[label] for label in cohort.labels] == ["basophil", "neutrophil", "neutrophil"]


def test_barcelona_second_batch_is_a_site_of_its_own(root):
    tiny_layouts.barcelona(root)
    cohort = data.load("barcelona", size=8, root=root)
    assert cohort.sites == ("barcelona", "barcelona-2")
    assert present(cohort.of_site("barcelona-2")) == {"neutrophil": 1, "immature_granulocyte": 1}


def test_crops_of_one_field_share_a_patient_and_other_images_do_not(root):
    tiny_layouts.bccd(root)
    tiny_layouts.taleqani(root)
    assert len(set(data.load("bccd", size=8, root=root).patient)) == 2
    assert len(set(data.load("taleqani", size=8, root=root).patient)) == 5


@pytest.mark.parametrize("name", ["tecom", "cellavision"])
def test_masks_come_with_the_images(root, name):
    tiny_layouts.segmentation(root)
    cohort = data.load(name, size=40, root=root)
    assert cohort.masks.dtype == torch.uint8
    for mask in cohort.masks:
        assert torch.bincount(mask.flatten().long()).tolist() == [1200, 300, 100]


@pytest.mark.survives("An image has no mask where all should have one", "a sentence that names it")
def test_missing_mask_is_named(root):
    tiny_layouts.segmentation(root)
    (root / "segmentation_WBC" / "Dataset 1" / "002.png").unlink()
    with pytest.raises(DataError, match=r"002\.png does not exist"):
        data.load("tecom", root=root)


def test_damaged_label_table_is_named(root):
    tiny_layouts.segmentation(root)
    (root / "segmentation_WBC" / "Class Labels of Dataset 1.csv").write_text("image,class\n1,2,3\n")
    with pytest.raises(
        DataError, match=r"Class Labels of Dataset 1\.csv: cannot be read \(it must hold two columns"
    ):
        data.load("tecom", root=root)


def test_transparent_parts_of_lmu_images_are_white(root):
    tiny_layouts.lmu(root)
    path = root / "AML-Cytomorphology_LMU" / "BAS" / "BAS_0001.tiff"
    tiny_layouts.Image.new("RGBA", (20, 20), (10, 20, 30, 0)).save(path)
    cohort = data.load("lmu", size=8, root=root)
    assert (cohort.images[0] == 255).all()


def test_the_largest_bloodmnist_is_read(root):
    tiny_layouts.bloodmnist(root)
    tiny_layouts.bloodmnist(root, 64, "bloodmnist_64.npz")
    (report,) = data.check(root / "bloodmnist")
    assert report.sizes == {"64x64": 7}
    assert report.ok
    assert "bloodmnist.npz" in report.notes[0]


@pytest.mark.parametrize("fault", ["bytes", "labels", "shape", "missing"])
def test_damaged_bloodmnist_is_named(root, fault):
    tiny_layouts.bloodmnist(root)
    path = root / "bloodmnist" / "bloodmnist.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    if fault == "bytes":
        path.write_bytes(path.read_bytes()[:100])
    else:
        if fault == "labels":
            arrays["val_labels"] = np.array([[9]])
        elif fault == "shape":
            arrays["val_images"] = arrays["val_images"][..., 0]
        else:
            del arrays["test_images"]
        np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"bloodmnist\.npz cannot be read as BloodMNIST"):
        data.load("bloodmnist", root=root)


@pytest.mark.survives(
    "An archive of arrays holds pickled Python objects", "it is refused and never unpickled"
)
def test_pickled_archive_is_never_opened(root):
    (root / "bloodmnist").mkdir()
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(root / "bloodmnist" / "bloodmnist.npz", train_images=objects)
    with pytest.raises(DataError, match="cannot be read as BloodMNIST"):
        data.load("bloodmnist", root=root)


@pytest.mark.survives("An image's class is not one of the data set's", "a sentence that names file and class")
def test_image_of_unknown_class_is_refused(root):
    tiny_layouts.taleqani(root)
    tiny_layouts.save(root / "taleqani" / "Original" / "Unsure" / "x.jpg")
    with pytest.raises(DataError, match=r"Unsure/x\.jpg: no known class"):
        data.load("taleqani", root=root)


def test_broken_image_is_refused_by_name(root):
    tiny_layouts.taleqani(root)
    (root / "taleqani" / "Original" / "Pro" / "WBC-Malignant-Pro-002.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"Pro-002\.jpg cannot be read"):
        data.load("taleqani", root=root)


def test_nested_class_folders_are_read(root):
    tiny_layouts.mll23(root)
    nested = root / "MLL23" / "basophil" / "basophil"
    nested.mkdir()
    shutil.move(root / "MLL23" / "basophil" / "basophil_0001.TIF", nested)
    assert present(data.load("mll23", size=8, root=root)) == EXPECTED["mll23"]


def test_a_layout_unpacked_without_its_folder_is_found(root):
    tiny_layouts.taleqani(root)
    assert present(data.load("taleqani", size=8, root=root / "taleqani")) == EXPECTED["taleqani"]


@pytest.mark.survives(
    "A folder of one data set has class folders like another's",
    "it is taken for its own, and never for the other",
)
def test_a_folder_of_one_class_is_no_other_layout(root):
    tiny_layouts.taleqani(root)
    for name in ("Early", "Pre", "Pro"):
        shutil.rmtree(root / "taleqani" / "Original" / name)
    assert [report.name for report in data.check(root / "taleqani")] == ["taleqani"]
    with pytest.raises(DataError, match="'taleqani-v2' is not in"):
        data.load("taleqani-v2", root=root / "taleqani")


def test_smear_needs_no_files():
    cohort = data.load("smear", size=16)
    assert cohort.provenance.simulated
    assert cohort.size == 16


def test_images_and_tables_are_loaded_under_names_of_their_own(root):
    tiny_layouts.BUILDERS["tecom"](root)
    assert same(data.load_images("tecom", size=16, root=root), data.load("tecom", size=16, root=root))
    assert same(data.load_table("sickle-cell"), data.load("sickle-cell"))
    with pytest.raises(
        DataError, match="'sickle-cell' is a table and holds no images; load it with load_tab"
    ):
        data.load_images("sickle-cell")
    with pytest.raises(DataError, match="'smear' holds images and is no table; load it with load_images"):
        data.load_table("smear")


def test_environment_variable_names_the_folder(root, monkeypatch):
    tiny_layouts.bccd(root)
    monkeypatch.setenv("HEMAFL_DATA", str(root))
    assert set(data.available()) == {*EMBEDDED, "bccd"}
    assert len(data.load("bccd", size=8)) == 3


def test_bad_requests_are_refused_in_a_sentence(root):
    assert set(data.available()) == EMBEDDED
    with pytest.raises(DataError, match="HEMAFL_DATA"):
        data.load("bccd")
    with pytest.raises(DataError, match="'bccd' is not in"):
        data.load("bccd", root=root)
    with pytest.raises(DataError, match="'leukemia' is unknown; choose one of"):
        data.load("leukemia", root=root)
    with pytest.raises(DataError, match="does not exist"):
        data.load("bccd", root=root / "nowhere")
    for size in (0, 7, 1025, 64.0, "64"):
        with pytest.raises(DataError, match="size="):
            data.load("bccd", size=size, root=root)


def test_check_tells_broken_unknown_and_stray_files(root):
    tiny_layouts.taleqani(root)
    original = root / "taleqani" / "Original"
    (original / "Pro" / "WBC-Malignant-Pro-002.jpg").write_bytes(b"not an image")
    tiny_layouts.save(original / "Unsure" / "x.jpg")
    (original / "notes.txt").write_text("hello")
    (report,) = data.check(root / "taleqani")
    assert report.classes == {"benign": 1, "early": 1, "pre": 1, "pro": 1}
    assert report.sizes == {"40x40": 4}
    assert [sentence for sentence in report.broken if "Pro-002.jpg" in sentence]
    assert {(finding.kind, finding.file) for finding in report.findings} >= {
        ("unknown", "Original/Unsure/x.jpg"),
        ("suffix", "Original/notes.txt"),
    }
    assert not report.ok
    for word in ("Pro-002.jpg", "x.jpg", "notes.txt", "NOT READY"):
        assert word in report.text()
