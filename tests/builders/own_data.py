"""Three hospitals' own tables and images: other names, units, codes and folders for the same things."""

from pathlib import Path

import numpy as np

from builders import tiny_layouts
from hemafl_lib.seeds import numpy_generator

NORTH = """
smallest_count = 1

[table]
file = "patienten.csv"
patient = "PatNr"
missing = ["-9", "k.A."]

[table.outcome]
kind = "survival"
event = "Verstorben"
codes = { ja = 1, nein = 0 }
origin = "Diagnose"
last = "Zuletzt"
dates = "%d.%m.%Y"

[table.features.age]
column = "Alter"
unit = "years"

[table.features.male]
column = "Geschlecht"
codes = { m = 1, w = 0 }

[table.features.haemoglobin]
column = "Hb"
unit = "g/l"

[images]
suffixes = [".png"]
patient = "prefix"

[images.classes]
Segmentkernige = "segmented_neutrophil"
Lymphozyten = "lymphocyte"
"""

SOUTH = """
smallest_count = 1

[table]
file = "cohort.csv"
patient = "id"

[table.outcome]
kind = "survival"
event = "status"
codes = { dead = 1, alive = 0 }
time = "months"
unit = "months"

[table.features.haemoglobin]
column = "HGB"
unit = "g/dl"

[table.features.age]
column = "age_days"
unit = "days"

[table.features.male]
column = "sex"
codes = { "1" = 1, "2" = 0 }

[images]
folder = "cells"
suffixes = [".jpg"]

[images.classes]
SNE = "segmented_neutrophil"
LY = "lymphocyte"
"""

WEST = """
smallest_count = 1

[table]
file = "registry.csv"
patient = "pid"

[table.outcome]
kind = "survival"
event = "dead"
codes = { "1" = 1, "0" = 0 }
time = "followup"
unit = "days"

[table.features.male]
column = "gender"
codes = { male = 1, female = 0 }

[table.features.haemoglobin]
column = "hb"
unit = "mmol/l"

[table.features.age]
column = "AGE"
unit = "years"

[images]
suffixes = [".png"]

[images.classes]
neutro = "segmented_neutrophil"
lympho = "lymphocyte"
"""

MAPPINGS = {"north": NORTH, "south": SOUTH, "west": WEST}


def patients(count: int, seed: int) -> list[tuple]:
    """Return age (years), male, haemoglobin (g/dl), days and event; low haemoglobin dies earlier."""
    draw = numpy_generator(seed, "own patients")
    rows = []
    for _ in range(count):
        age, male, blood = int(draw.integers(40, 85)), int(draw.integers(2)), round(draw.normal(10, 1.5), 1)
        days = int(1 + draw.exponential(200 * blood))
        rows.append((age, male, blood, min(days, 2900), int(days < 2900 and draw.random() < 0.8)))
    return rows


def north_table(count: int = 40, seed: int = 1) -> list[list[str]]:
    """Return the rows of the north's table: semicolons, decimal commas, g/l, dates, words in German."""
    rows = [["PatNr", "Name", "Alter", "Geschlecht", "Hb", "Diagnose", "Zuletzt", "Verstorben"]]
    start = np.datetime64("2010-03-01")
    for number, (age, male, blood, days, event) in enumerate(patients(count, seed)):
        grams = f"{blood * 10:.1f}".replace(".", ",")
        ends = [german(start), german(start + days), ("nein", "ja")[event]]
        rows.append([f"N{number}", "Mustermann", f"{age}", "wm"[male], grams, *ends])
    return rows


def german(date: np.datetime64) -> str:
    """Return a date as 31.12.2021."""
    year, month, day = str(date).split("-")
    return f"{day}.{month}.{year}"


def south_table(count: int = 40, seed: int = 2) -> list[list[str]]:
    """Return the rows of the south's table: commas, g/dl, ages in days, months of follow-up."""
    rows = [["id", "status", "months", "HGB", "sex", "age_days"]]
    for number, (age, male, blood, days, event) in enumerate(patients(count, seed)):
        ends = [("alive", "dead")[event], f"{days * 12 / 365.25:.3f}"]
        rows.append([f"{number}", *ends, f"{blood}", "21"[male], f"{age * 365.25:.0f}"])
    return rows


def write_table(path: Path, rows: list[list[str]], separator: str) -> None:
    """Write rows as a text table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n", encoding="utf-8")


def north(folder: Path, count: int = 40, pictures: int = 24) -> Path:
    """Write the north's table, images and mapping; return the mapping's path."""
    write_table(folder / "patienten.csv", north_table(count), ";")
    for number in range(pictures):
        kind = ("Segmentkernige", "Lymphozyten")[number % 2]
        tiny_layouts.save(folder / kind / f"p{number // 2}_{number}.png", number)
    (folder / "mapping.toml").write_text(NORTH, encoding="utf-8")
    return folder / "mapping.toml"


def south(folder: Path, count: int = 40, pictures: int = 24) -> Path:
    """Write the south's table, images and mapping; return the mapping's path."""
    write_table(folder / "cohort.csv", south_table(count), ",")
    for number in range(pictures):
        kind = ("SNE", "LY")[number % 2]
        tiny_layouts.save(folder / "cells" / kind / f"{number}.jpg", 100 + number)
    (folder / "mapping.toml").write_text(SOUTH, encoding="utf-8")
    return folder / "mapping.toml"


def west_table(count: int = 40, seed: int = 3) -> list[list[str]]:
    """Return the rows of the west's table: mmol/l, days of follow-up, English words."""
    rows = [["pid", "AGE", "gender", "hb", "followup", "dead"]]
    for number, (age, male, blood, days, event) in enumerate(patients(count, seed)):
        kind = ("female", "male")[male]
        rows.append([f"W{number}", f"{age}", kind, f"{blood / 1.6114:.3f}", f"{days}", f"{event}"])
    return rows


def west(folder: Path, count: int = 40, pictures: int = 24) -> Path:
    """Write the west's table, images and mapping; return the mapping's path."""
    write_table(folder / "registry.csv", west_table(count), ",")
    for number in range(pictures):
        kind = ("neutro", "lympho")[number % 2]
        tiny_layouts.save(folder / kind / f"{number}.png", 200 + number)
    (folder / "mapping.toml").write_text(WEST, encoding="utf-8")
    return folder / "mapping.toml"
