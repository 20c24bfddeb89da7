"""Whatever lies in a folder of images is used, or named by `load`, by `check` and in the provenance."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from builders import tiny_layouts
from PIL import Image

from hemafl_lib import data
from hemafl_lib.data import cards, images
from hemafl_lib.errors import DataError


@pytest.fixture
def original(tmp_path, monkeypatch):
    """The class folders of a sound cohort of five images."""
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    tiny_layouts.taleqani(tmp_path / "root")
    return tmp_path / "root" / "taleqani" / "Original"


def load(original):
    return data.load("taleqani", size=16, root=original.parent.parent)


def check(original):
    (report,) = data.check(original.parent)
    return report


def test_a_sound_folder_is_used_as_it_lies(original):
    report = check(original)
    assert report.ok
    assert report.text().endswith("all files can be read")
    assert load(original).provenance.repairs == ()


def resave_as_png(original):
    Image.open(original / "Pro" / "WBC-Malignant-Pro-002.jpg").save(original / "Pro" / "two.png")


def add_finder_file(original):
    (original / "Pro" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def add_shadow_of_image(original):
    tiny_layouts.picture(9).save(original / "Pro" / "._x.jpg", format="JPEG")


def add_thumbnails(original):
    (original / "Pro" / "Thumbs.db").write_bytes(b"\xd0\xcf")


def add_link_to_image(original):
    tiny_layouts.save(original.parent.parent / "elsewhere.jpg", 9)
    (original / "Pro" / "link.jpg").symlink_to(original.parent.parent / "elsewhere.jpg")


def add_circle(original):
    (original / "Pro" / "around").symlink_to(original)


def add_pipe(original):
    os.mkfifo(original / "Pro" / "pipe.jpg")


def add_image_outside(original):
    tiny_layouts.save(original.parent / "Pro" / "x.jpg", 9)


def add_empty_folder(original):
    (original / "Empty").mkdir()


def spell_class_in_another_case(original):
    (original / "Pre").rename(original / "pre")


def copy_under_another_name(original):
    shutil.copy(original / "Benign" / "WBC-Benign-001.jpg", original / "Benign" / "again.jpg")


def copy_under_another_label(original):
    shutil.copy(original / "Benign" / "WBC-Benign-001.jpg", original / "Early" / "again.jpg")


def move_to_another_class(original):
    shutil.move(original / "Pro" / "WBC-Malignant-Pro-002.jpg", original / "Early")


def nest_classes(original):
    tiny_layouts.save(original / "Pro" / "Early" / "x.jpg", 9)


def turn(original):
    exif = Image.Exif()
    exif[0x0112] = 6
    tiny_layouts.picture(9).save(original / "Pro" / "turned.jpg", exif=exif)


def save_for_print(original):
    tiny_layouts.picture(9).convert("CMYK").save(original / "Pro" / "print.jpg")


def survives(fault):
    return pytest.mark.survives(fault, "the provenance counts it, and `hemafl data check` names it and fails")


@pytest.mark.parametrize(
    ("fault", "file", "said", "images_read"),
    [
        pytest.param(
            resave_as_png,
            "Pro/two.png",
            "Left out, because its suffix is none of this layout",
            5,
            marks=pytest.mark.survives(
                "Some images of a class are saved again as another kind of file",
                "the provenance counts them as left out; `hemafl data check` names each and fails",
            ),
        ),
        pytest.param(
            add_finder_file,
            "Pro/.DS_Store",
            "Left out, because it has the name of a hidden or system file",
            5,
            marks=pytest.mark.survives(
                "A system left its own files among the images (.DS_Store, ._x.jpg, Thumbs.db)",
                "they are left out and named in the provenance and by `hemafl data check`",
            ),
        ),
        (add_shadow_of_image, "Pro/._x.jpg", "Left out, because it has the name of a hidden", 5),
        (add_thumbnails, "Pro/Thumbs.db", "Left out, because its suffix", 5),
        pytest.param(
            add_link_to_image,
            "Pro/link.jpg",
            "Left out, because links are not followed",
            5,
            marks=pytest.mark.survives(
                "A link leads out of the folder of images, or around in a circle",
                "it is not followed; the provenance and `hemafl data check` name it",
            ),
        ),
        (add_circle, "Pro/around", "Left out, because links are not followed", 5),
        (add_pipe, "Pro/pipe.jpg", "Left out, because it is neither file nor folder", 5),
        (add_image_outside, "Pro/x.jpg", "Left out, because it lies outside the folders", 5),
        pytest.param(
            add_empty_folder,
            "Original/Empty",
            "An empty folder",
            5,
            marks=pytest.mark.survives(
                "The folder of a class is empty", "`hemafl data check` names the folder and fails"
            ),
        ),
        (spell_class_in_another_case, "pre/WBC-Malignant-Pre-001.jpg", "A class in another spelling", 5),
        pytest.param(
            copy_under_another_name,
            "Benign/again.jpg",
            "The same picture as another of its class",
            6,
            marks=pytest.mark.survives(
                "An image is there twice, under two names",
                "the provenance counts the copies; `hemafl data check` names both files and fails",
            ),
        ),
        pytest.param(
            copy_under_another_label,
            "Early/again.jpg",
            "The same picture as one of another class",
            6,
            marks=pytest.mark.survives(
                "One image lies in the folders of two classes",
                "the provenance counts it; `hemafl data check` names both files and both classes",
            ),
        ),
        pytest.param(
            move_to_another_class,
            "Early/WBC-Malignant-Pro-002.jpg",
            "In the place of one class and named like another",
            5,
            marks=pytest.mark.survives(
                "An image lies in the folder of another class than its name says",
                "it is read by its folder; the provenance and `hemafl data check` name it",
            ),
        ),
        (nest_classes, "Pro/Early/x.jpg", "In the place of one class and named like another", 6),
        pytest.param(
            turn,
            "Pro/turned.jpg",
            "Marked as turned by an orientation tag",
            6,
            marks=pytest.mark.survives(
                "An image is marked as turned, or in colours of print, or holds several pages",
                "it is read in the one way that is documented; the provenance counts it, the check names it",
            ),
        ),
        (save_for_print, "Pro/print.jpg", "In the four colours of print", 6),
    ],
)
def test_what_is_not_used_as_it_lies_is_named(original, fault, file, said, images_read):
    fault(original)
    cohort, report = load(original), check(original)
    assert len(cohort) == images_read == sum(report.classes.values())
    (sentence,) = cohort.provenance.repairs
    assert sentence.startswith(said)
    assert file in sentence
    assert sentence in cohort.provenance.banner()
    (finding,) = report.findings
    assert file in finding.line()
    assert "; " in finding.line(), "what to do"
    assert finding.line() in report.text()
    assert not report.ok
    assert "NOT AS IT SHOULD BE" in report.text()


def test_ten_images_left_out_are_ten_findings(original):
    for number in range(10):
        tiny_layouts.picture(number).save(original / "Pro" / f"{number}.png")
    assert "Original/Pro/0.png and 9 more" in load(original).provenance.repairs[0]
    assert len(check(original).findings) == 10


@pytest.mark.survives(
    "The name of an image is not UTF-8, or breaks a line", "the name is shown with escapes, in one line"
)
def test_names_of_any_bytes_are_shown_in_one_line(original):
    odd = os.fsencode(original / "Pro") + b"/caf\xe9.jpg"
    with open(odd, "wb") as file:
        tiny_layouts.picture(9).save(file, format="JPEG")
    with pytest.raises(DataError, match=r"Pro/caf\\udce9\.jpg: a name that is not UTF-8; rename it"):
        load(original)
    report = check(original)
    report.text().encode()
    assert not report.ok
    os.unlink(odd)
    (original / "Pro" / "new\nline.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(original)
    assert r"new\nline.jpg" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.survives(
    "The folder of a class may not be opened", "a sentence names the folder; its class is not dropped"
)
def test_a_folder_that_may_not_be_opened_is_named(original, monkeypatch):
    scan = os.scandir

    def guarded(folder):
        if os.fspath(folder).endswith("Pre"):
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(
        DataError, match=r"Original/Pre: a folder that cannot be opened \(Permission denied\)"
    ):
        load(original)
    assert "Original/Pre: a folder that cannot be opened" in check(original).text()


@pytest.mark.survives(
    "The folder of a data set, or of all data, may not be opened", "a sentence that names the folder"
)
@pytest.mark.parametrize("closed", ["root", "taleqani"])
def test_a_data_folder_that_may_not_be_opened_is_named(original, monkeypatch, closed):
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: os.path.basename(path) != closed and allowed(path, mode)
    )
    for work in (load, lambda place: data.check(place.parent.parent)):
        with pytest.raises(DataError, match=rf"{closed} may not be opened; give the user"):
            work(original)


@pytest.mark.survives("An image may not be opened", "a sentence that names the file and the right that lacks")
def test_a_file_that_may_not_be_opened_is_named(original, monkeypatch):
    def guarded(file, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Image, "open", guarded)
    with pytest.raises(DataError, match=r"may not be read; give the user of this program the right"):
        load(original)


@pytest.mark.survives(
    "A file called .jpg holds PostScript or anything else than JPEG",
    "a sentence names it; no other decoder, and no Ghostscript, ever sees it",
)
@pytest.mark.parametrize("content", ["eps", "gif", "png", "pdf"])
def test_only_the_format_of_the_suffix_is_decoded(original, content, monkeypatch):
    path = original / "Pro" / "disguised.jpg"
    picture = tiny_layouts.picture(1)
    (picture if content != "gif" else picture.convert("P")).save(path, format=content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with pytest.raises(DataError, match=r"disguised\.jpg cannot be read as an image \(it holds no JPEG"):
        load(original)
    assert any("disguised.jpg" in sentence for sentence in check(original).broken)


@pytest.mark.survives(
    "A 12-bit camera wrote its grey levels into 16 bits",
    "a sentence names the file and asks to scale it; it is not read as a black picture",
)
@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_twelve_bits_in_sixteen_are_refused(tmp_path, name):
    ramp = np.linspace(300, 4095, 400, dtype=np.uint16).reshape(20, 20)
    Image.fromarray(ramp).save(tmp_path / name)
    with pytest.raises(DataError, match="16 bits and uses less than a quarter of their range"):
        images.decode(tmp_path / name, 8)
    Image.fromarray(ramp * 16).save(tmp_path / name)
    assert images.decode(tmp_path / name, 8).pixels.max() > 200


@pytest.mark.survives(
    "An image has a single pixel", "a sentence names the file; nothing is blown up to a cell"
)
def test_a_picture_of_some_pixels_is_no_cell(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.jpg")
    with pytest.raises(DataError, match=r"dot\.jpg has 1x1 pixels, too few to show a cell"):
        images.decode(tmp_path / "dot.jpg", 8)


def test_more_than_one_page_and_transparency_are_remarked(tmp_path):
    pages = [tiny_layouts.picture(number) for number in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert [kind for kind, _ in images.decode(tmp_path / "pages.tif", 8).remarks] == ["pages"]
    Image.new("RGBA", (20, 20), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert [kind for kind, _ in images.decode(tmp_path / "clear.png", 8).remarks] == ["transparent"]
    Image.new("RGBA", (20, 20), (10, 20, 30, 255)).save(tmp_path / "opaque.png")
    assert images.decode(tmp_path / "opaque.png", 8).remarks == ()


@pytest.mark.survives(
    "A drawn mask has another size than its picture", "a sentence that names both sizes; nothing is stretched"
)
def test_a_mask_of_another_size_is_refused(tmp_path):
    tiny_layouts.segmentation(tmp_path)
    Image.new("L", (20, 20), 128).save(tmp_path / "segmentation_WBC" / "Dataset 1" / "001.png")
    with pytest.raises(DataError, match=r"001\.png has 20x20 pixels and its picture 40x40"):
        data.load("tecom", size=16, root=tmp_path)


@pytest.mark.survives(
    "A table of labels names an image twice, or one that is missing",
    "two classes for one image are refused; a row without an image is named",
)
def test_rows_of_a_label_table_are_accounted_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "cache"))
    tiny_layouts.segmentation(tmp_path)
    table = tmp_path / "segmentation_WBC" / "Class Labels of Dataset 1.csv"
    rows = table.read_text()
    table.write_text(rows + "17,2\n")
    assert "image 17" in data.load("tecom", size=16, root=tmp_path).provenance.repairs[0]
    table.write_text(rows + "1,5\n")
    with pytest.raises(DataError, match="it gives image 1 two classes"):
        data.load("tecom", size=16, root=tmp_path)


# The check as gatekeeper


@pytest.mark.survives(
    "A folder has the name of a data set but not its layout, or a slightly other name",
    "`hemafl data check` says which folder nobody would read, and fails",
)
def test_folders_that_nobody_reads_are_named(tmp_path):
    tiny_layouts.bccd(tmp_path)
    assert all(report.ok for report in data.check(tmp_path))
    (tmp_path / "Taleqani").mkdir()
    (tmp_path / "MLL23").mkdir()
    (tmp_path / "ipssm").mkdir()
    reports = {report.name: report for report in data.check(tmp_path)}
    assert set(reports) == {"bccd", "mll23", "ipssm", "no cohort"}
    assert [name for name, report in reports.items() if report.ok] == ["bccd"]
    assert "Taleqani: a folder of no cohort" in reports["no cohort"].text()
    assert "it lacks df_clinical.tsv, df_cna.tsv, df_mut.tsv" in reports["ipssm"].text()
    with pytest.raises(DataError, match=r"'mll23' is not in .*MLL23, because it holds no images"):
        data.load("mll23", root=tmp_path)


def test_what_a_public_release_holds_beside_its_images_is_no_fault(original, monkeypatch):
    copy_under_another_name(original)
    about = replace(cards.card("taleqani"), copies=("Original/Benign/again.jpg",))
    monkeypatch.setitem(cards.CARDS, "taleqani", about)
    report = check(original)
    assert report.ok
    assert "1 image(s) show the same picture as another of their class, as published" in report.text()
    assert "Beside what is read, as published: Segmented" in report.text()
    assert load(original).provenance.notes == report.notes
