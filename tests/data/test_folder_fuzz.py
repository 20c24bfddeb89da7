"""Folders of images made by chance: a right cohort with every file accounted for, or one sentence."""

import io
import os
from collections import Counter

import pytest
from builders.tiny_layouts import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib import data
from hemafl_lib.data.findings import shown
from hemafl_lib.errors import DataError

CLASSES = ("Benign", "Early", "Pre", "Pro")

FOLDERS = st.sampled_from([*CLASSES, *CLASSES, "pro", "Other", "", "Pro/Early", ".hidden", "__MACOSX"])
STEMS = st.sampled_from(
    ["a", "b", "WBC-Benign-001", "WBC-Malignant-Pro-2", ".c", "d\n", "ä", "caf\udce9", " ", "x.y"]
)
SUFFIXES = st.sampled_from([".jpg", ".jpg", ".jpg", ".JPEG", ".png", ".txt", "", ".db"])
FORMATS = st.sampled_from(["JPEG", "JPEG", "JPEG", "PNG", "BMP", "TIFF"])
MODES = st.sampled_from(["RGB", "RGB", "RGB", "L", "CMYK", "1"])
SIDES = st.sampled_from([(40, 40), (40, 40), (8, 90), (1, 1)])


@st.composite
def contents(draw):
    """The bytes of a file: mostly a small picture, sometimes nothing, noise, or a picture cut short."""
    kind = draw(st.sampled_from(["picture"] * 12 + ["noise", "empty", "cut"]))
    if kind == "noise":
        return draw(st.binary(max_size=64))
    if kind == "empty":
        return b""
    mode, file_format = draw(MODES), draw(FORMATS)
    if (mode, file_format) in {("CMYK", "PNG"), ("CMYK", "BMP")}:
        mode = "RGB"
    buffer = io.BytesIO()
    picture(draw(st.integers(0, 30)), draw(SIDES), mode).save(buffer, format=file_format)
    return buffer.getvalue()[: -20 if kind == "cut" else None]


FILES = st.dictionaries(st.tuples(FOLDERS, STEMS, SUFFIXES), contents(), min_size=1, max_size=8)
LINKS = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from(["/", "..", "nowhere", "a.jpg"])), max_size=1
)


def build(folder, files, links):
    """Write the files of an example; return the paths that were written, as they are shown."""
    written = set()
    for (inner, stem, suffix), content in files.items():
        path = folder / inner / f"{stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.add(shown(path.relative_to(folder)))
    for inner, target in links:
        (folder / inner).mkdir(parents=True, exist_ok=True)
        os.symlink(target, folder / inner / "link.jpg")
        written.add(f"{inner}/link.jpg")
    return written


def result_or_sentence(work):
    try:
        return work()
    except DataError as error:
        return str(error)


def named(report, written):
    """The files that a report names, alone or by the folder they lie in."""
    told = {finding.file.removeprefix("Original/") for finding in report.findings}
    told |= {path for path in written for sentence in report.broken if f"{path} " in sentence}
    return {path for path in written if path in told or any(path.startswith(f"{name}/") for name in told)}


@pytest.mark.survives(
    "Hundreds of folders made by chance: noise for images, odd names, links, copies, other formats",
    "every file is loaded or named; `hemafl data check` is content exactly when `load` uses all as they lie",
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(files=FILES, links=LINKS)
def test_every_file_is_loaded_or_named(tmp_path_factory, files, links):
    root = tmp_path_factory.mktemp("chance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEMAFL_CACHE", str(root / "cache"))
        written = build(root / "taleqani" / "Original", files, links)
        (report,) = data.check(root / "taleqani")
        cohort = result_or_sentence(lambda: data.load("taleqani", size=8, root=root))
    report.text().encode()
    if isinstance(cohort, str):
        assert len(cohort.splitlines()) == 1
        assert report.broken or any(finding.refused for finding in report.findings)
        return
    read = sum(report.classes.values())
    loaded = {shown(name).removeprefix("taleqani/Original/") for name in cohort.patient}
    assert len(loaded) == len(cohort) == read
    assert loaded | named(report, written) == written
    assert report.ok == (loaded == written and not cohort.provenance.repairs)
    assert Counter(cohort.classes[label] for label in cohort.labels) == report.classes
    for place, name in enumerate(cohort.patient):
        assert cohort.classes[cohort.labels[place]] == name.split("/")[-2].lower()


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "02", "3", " 4", "x", ""]), st.sampled_from(["1", "2", "5", "9", "", "2,3"])
    ),
    max_size=5,
)
NAMES = st.sampled_from(["001", "2", "03", "4"])
PICTURES = st.dictionaries(
    st.tuples(NAMES, st.sampled_from([".bmp", ".bmp", ".BMP", ".png", ".jpg"])), contents(), max_size=5
)


@pytest.mark.survives(
    "A table of labels made by chance, beside pictures and masks made by chance",
    "each picture, mask and row is used or named, or a sentence",
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=ROWS, pictures=PICTURES, whole=st.lists(NAMES, unique=True, max_size=3))
def test_every_row_picture_and_mask_is_used_or_named(tmp_path_factory, rows, pictures, whole):
    root = tmp_path_factory.mktemp("chance")
    folder = root / "segmentation_WBC" / "Dataset 1"
    folder.mkdir(parents=True)
    table = ["image,label", *(f"{number},{label}" for number, label in rows)]
    (folder.parent / "Class Labels of Dataset 1.csv").write_text("\n".join(table))
    for (name, suffix), content in pictures.items():
        (folder / f"{name}{suffix}").write_bytes(content)
    for name in whole:
        picture(int(name)).save(folder / f"{name}.bmp")
        picture(0).convert("L").save(folder / f"{name}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEMAFL_CACHE", str(root / "cache"))
        (report,) = data.check(folder.parent)
        cohort = result_or_sentence(lambda: data.load("tecom", size=8, root=root))
    if isinstance(cohort, str):
        assert len(cohort.splitlines()) == 1
        assert not report.ok
        return
    assert len(cohort) == sum(report.classes.values())
    assert report.ok == (not cohort.provenance.repairs)
    told = " ".join(finding.file for finding in report.findings)
    loaded = {name.removeprefix("tecom/") for name in cohort.patient}
    for path in folder.iterdir():
        assert path.stem in loaded or path.name in told
    for number, _ in rows:
        assert number.strip().lstrip("0") in told + " ".join(loaded)
