"""What a run leaves in its folder: a model or a table, its card, and a report that needs no network."""

import dataclasses
import html
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from hemafl_lib import clinic, data
from hemafl_lib.clinic import Card, Layered, SavedModel
from hemafl_lib.clinic.report import STYLE
from hemafl_lib.errors import one_line
from hemafl_lib.federation.exchange import exchanged_names, get_arrays, parameter_hash
from hemafl_lib.federation.hospital import RunSettings, Training
from hemafl_lib.files import write_json, write_text
from hemafl_lib.hospitals.settings import DeepSurvRun, Place, TableRun
from hemafl_lib.statistics import CoxFit, FederatedLogisticFit, Standardisation, SurvivalCurve

CARD, REPORT, TABLE = "card.json", "report.html", "result.csv"

METRICS = ("num-examples", "loss", "accuracy", "balanced-accuracy", "c-index", "comparable-pairs")
"""What a card says of an evaluation; a hospital may send more, of any name, which the report shows."""

LINE, MEASURED = 600, 1000
"""Characters of a card's line that names all hospitals, and of what they measured."""

NOT_A_DEVICE = "For research and teaching; not a medical device."

SUMMED = (
    "The server has read the sum of the hospitals' updates or statistics and no single one (secure "
    "aggregation); the numbers of an evaluation it reads singly."
)
READ = "The server has read each hospital's replies."


def write_images(folder: Path, place: Place, run: RunSettings, training: Training) -> None:
    """Write the card and report of a trained network of images; `hemafl predict` loads the folder.

    Nobody but the hospitals has judged the model: the card has no scores, no sets and no scope.
    """
    classes = tuple(data.classes.CLASS_SCHEMES[run.classes])
    card = Card(
        name=f"hospitals/{folder.name}"[:200],
        family="hospitals",
        arm=folder.name[:200],
        title=f"An attention CNN trained by {named(place)}",
        about=f"{about(place)} In the last round: {last_round(training)}. Validation images chose nothing.",
        simulated=False,
        classes=classes,
        sites=place.hospitals,
        scores=(),
        temperature=1.0,
        sets=None,
        scope=(),
        code=version("hemafl_lib"),
        data="the hospitals' own",
        made=today(),
        version=version("hemafl_lib"),
    )
    clinic.save(SavedModel(training.job.model, Layered(classes=len(classes), size=run.size), card), folder)
    write_text(folder / REPORT, training_page(place, dataclasses.asdict(run), training))


def write_survival(
    folder: Path, place: Place, run: DeepSurvRun, training: Training, standard: Standardisation
) -> None:
    """Write the card and report of DeepSurv; the card holds what its features are standardised by."""
    model = training.job.model
    write_json(
        folder / CARD,
        {
            "app": place.app,
            "about": f"{about(place)} In the last round: {last_round(training)}. {NOT_A_DEVICE}",
            "features": {
                name: {"mean": float(row["mean"]), "sd": float(row["sd"])}
                for name, row in standard.table.iterrows()
            },
            "hospitals": list(place.hospitals),
            "made": today(),
            "parameters": parameter_hash(get_arrays(model, exchanged_names(model))),
            "settings": dataclasses.asdict(run),
            "version": version("hemafl_lib"),
        },
    )
    write_text(folder / REPORT, training_page(place, dataclasses.asdict(run), training, standard.table))


def write_estimate(
    folder: Path,
    place: Place,
    run: TableRun,
    found: CoxFit | FederatedLogisticFit | SurvivalCurve,
    standard: Standardisation | None,
) -> None:
    """Write an exact estimate: its table, its card, and a report that says what each message reveals."""
    write_text(folder / TABLE, found.table.to_csv(float_format="%.17g"))
    settings = dataclasses.asdict(run)
    card: dict[str, Any] = {
        "app": place.app,
        "about": f"{about(place)} {NOT_A_DEVICE}",
        "hospitals": list(place.hospitals),
        "made": today(),
        "questions": found.account.rounds,
        "settings": settings,
        "version": version("hemafl_lib"),
    }
    write_json(folder / CARD, card)
    means = [] if standard is None else [section("Features over all hospitals", as_html(standard.table))]
    write_text(
        folder / REPORT,
        page(
            f"{place.app} over {', '.join(place.hospitals)}",
            [
                paragraph(about(place)),
                section("Result", as_html(found.table)),
                *means,
                section("What the server was told", as_html(found.account.reveals)),
                section("Settings", as_html(pd.Series(settings, name="value").to_frame())),
            ],
        ),
    )


def about(place: Place) -> str:
    """Return who took part and what the server could read."""
    return f"Hospitals: {named(place)}. {SUMMED if place.secure else READ}"


def named(place: Place) -> str:
    """Return the hospitals' names, cut where they are too many for a card."""
    return one_line(", ".join(place.hospitals), LINE)


def last_round(training: Training) -> str:
    """Return what each hospital measured in the last evaluation, cut where it is too much for a card."""
    table = measured(training)
    table = table[[name for name in table if name in METRICS]]
    if table.empty:
        return "nobody evaluated the model"
    last = table[table.index.get_level_values("round") == table.index.get_level_values("round").max()]
    said = [
        f"{site} " + ", ".join(f"{name} {value:.3g}" for name, value in row.dropna().items())
        for (_, site), row in last.iterrows()
    ]
    return one_line("; ".join(said), MEASURED)


def measured(training: Training) -> pd.DataFrame:
    """Return what was measured, one row a round and hospital, one column a metric."""
    rows = pd.DataFrame(training.strategy.history, columns=["round", "phase", "site", "metric", "value"])
    evaluated = rows[rows["phase"] == "evaluate"]
    return evaluated.pivot_table(index=["round", "site"], columns="metric", values="value", sort=False)


def training_page(
    place: Place, settings: Mapping[str, Any], training: Training, features: pd.DataFrame | None = None
) -> str:
    """Return the report on a training."""
    refused = pd.DataFrame(training.strategy.refused, columns=["round", "phase", "site", "reason"])
    return page(
        f"{place.app} over {', '.join(place.hospitals)}",
        [
            paragraph(about(place)),
            section("What each hospital measured", as_html(measured(training))),
            section("Replies that were not used", as_html(refused) if len(refused) else "<p>None.</p>"),
            *([] if features is None else [section("Features over all hospitals", as_html(features))]),
            section("Settings", as_html(pd.Series(dict(settings), name="value").to_frame())),
        ],
    )


def today() -> str:
    """Return the day, in universal time."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def as_html(table: pd.DataFrame) -> str:
    """Return a table as HTML, its text escaped."""
    return table.to_html(float_format=lambda value: f"{value:.4g}", border=0, na_rep="-")


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def section(title: str, content: str) -> str:
    """Return HTML under a heading."""
    return f"<h2>{html.escape(title)}</h2>\n{content}"


def page(title: str, sections: Sequence[str]) -> str:
    """Return a page that forbids itself every request."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n{paragraph(NOT_A_DEVICE)}\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )
