"""Every public layout in miniature: simple pictures drawn on the fly, in the folders of the real thing."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def picture(number: int, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> Image.Image:
    """A disc whose colour and place depend on ``number``."""
    image = Image.new("RGB", size, (230, 220, 210))
    left, top = 4 + number % 7, 3 + number % 5
    colour = (90 + 11 * number % 90, 40 + 7 * number % 80, 130)
    ImageDraw.Draw(image).ellipse((left, top, left + 24, top + 26), fill=colour)
    return image.convert(mode)


def save(path: Path, number: int = 0, **settings: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number, **settings).save(path)
    return path


def taleqani(root: Path) -> None:
    for number, (folder, name) in enumerate(
        [("Benign", "Benign-001"), ("Early", "Malignant-Early-001"), ("Pre", "Malignant-Pre-001")]
        + [("Pro", f"Malignant-Pro-{i:03}") for i in (1, 2)]
    ):
        save(root / "taleqani" / "Original" / folder / f"WBC-{name}.jpg", number)
        save(root / "taleqani" / "Segmented" / folder / f"WBC-{name}.jpg", number)


def taleqani_v2(root: Path) -> None:
    folders = ["Benign", "[Malignant] early Pre-B", "[Malignant] Pre-B", "[Malignant] Pro-B"]
    for number, folder in enumerate(folders):
        save(root / "Blood cell Cancer [ALL]" / folder / f"Snap_{number:03} (1).jpg", number)


def barcelona(root: Path) -> None:
    top = root / "PBC_dataset_normal_DIB"
    save(top / "neutrophil" / "SNE_1.jpg", 1, size=(360, 363))
    save(top / "neutrophil" / "BNE_2.jpg", 2, size=(360, 363))
    save(top / "neutrophil" / "NEUTROPHIL_3.jpg", 3, size=(366, 369))
    save(top / "ig" / "MMY_4.jpg", 4, size=(360, 363))
    save(top / "ig" / "IG_5.jpg", 5, size=(360, 360))
    save(top / "eosinophil" / "EO_6.jpg", 6, size=(360, 363))
    (top / ".DS_Store").write_bytes(b"\0")
    (top / "neutrophil" / ".DS_169665.jpg").write_bytes(b"\0")
    leftover = top / "__MACOSX" / "neutrophil" / "._SNE_1.jpg"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"\0")


def segmentation(root: Path) -> None:
    top = root / "segmentation_WBC"
    for dataset, labels in ((1, {1: 2, 2: 1, 3: 5}), (2, {1: 3, 2: 4})):
        folder = top / f"Dataset {dataset}"
        for number in labels:
            save(folder / f"{number:03}.bmp", number)
            mask = Image.new("L", (40, 40), 3)
            draw = ImageDraw.Draw(mask)
            draw.rectangle((10, 10, 29, 29), fill=128)
            draw.rectangle((15, 15, 24, 24), fill=255)
            mask.save(folder / f"{number:03}.png")
        with (top / f"Class Labels of Dataset {dataset}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image ID", "class label"), *labels.items()])
    (top / "LICENSE").write_text("GPL-3")


def bccd(root: Path) -> None:
    top = root / "BCCD_cropped"
    save(top / "Neutrophil" / "BloodImage_00001_1.jpg", 1)
    save(top / "Neutrophil" / "BloodImage_00001_2.jpg", 2, size=(50, 30))
    save(top / "Basophil" / "BloodImage_00002_1.jpg", 3)


def lmu(root: Path) -> None:
    top = root / "AML-Cytomorphology_LMU"
    for number, code in enumerate(["BAS", "NGS", "NGB", "LYA"]):
        save(top / code / f"{code}_0001.tiff", number, mode="RGBA")
    (top / "abbreviations.txt").write_text("BAS Basophil")


def mll23(root: Path) -> None:
    save(root / "MLL23" / "basophil" / "basophil_0001.TIF", 1)
    save(root / "MLL23" / "normoblast" / "normoblast_0001.TIF", 2)


def bloodmnist(root: Path, side: int = 28, name: str = "bloodmnist.npz") -> None:
    (root / "bloodmnist").mkdir(exist_ok=True)
    arrays = {}
    for split, labels in (("train", [0, 1, 2, 3]), ("val", [6]), ("test", [7, 7])):
        arrays[f"{split}_images"] = np.stack(
            [np.asarray(picture(8 * place + n, (side, side))) for place, n in enumerate(labels)]
        )
        arrays[f"{split}_labels"] = np.array(labels, dtype=np.uint8)[:, None]
    np.savez_compressed(root / "bloodmnist" / name, **arrays)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "taleqani": taleqani,
    "taleqani-v2": taleqani_v2,
    "barcelona": barcelona,
    "tecom": segmentation,
    "cellavision": segmentation,
    "bccd": bccd,
    "lmu": lmu,
    "mll23": mll23,
    "bloodmnist": bloodmnist,
}
