"""What a user may rely on: text that comes from a hospital or a file is shown as text, everywhere."""

import json

import pandas as pd
import plotly.graph_objects as go
import pytest
from builders.federated import linear, sites, table
from flwr.app import ConfigRecord, Context, Message, MetricRecord
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hemafl_book.show import plots
from hemafl_book.show.explorer import Control, Explorer
from hemafl_book.show.figures import script_json
from hemafl_book.show.live_face import LiveFace
from hemafl_book.show.pictures import Chart, Series
from hemafl_book.show.static_face import static_face
from hemafl_lib import federation
from hemafl_lib.errors import DataError, FederationError, PartitionError, one_line, quote
from hemafl_lib.files import read_json
from hemafl_lib.partition import Site

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07<script>alert('x')</script>\u202egnp.exe\r\n\x00\x85\u2028</table>|a|$\\evil$"
    + "x" * 9000
)
"""Escapes of a terminal, markup, a turned direction of writing, line ends, NUL, and far too much of it."""


def harmless(text: str, longest: int) -> bool:
    """One line of printable characters, not over-long."""
    return text.isprintable() and len(text) <= longest


@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=300) | st.text(alphabet="\x1b\u202e\n a<\u0301", max_size=300))
def test_shown_text_is_one_plain_line(text):
    plain = one_line(text, 50)
    assert harmless(plain, 50)
    assert one_line(plain, 50) == plain
    assert harmless(quote(text), 600)


@pytest.mark.parametrize(
    "name", ["Hôpital Saint-Louis", "北京协和医院", "بیمارستان طالقانی", "site 1", "<5 %"]
)
def test_honest_names_are_shown_as_they_are(name):
    assert one_line(name) == name


def hostile_replies(message: Message, context: Context, call_next) -> Message:
    """A mod that renames the first hospital and a metric; the second fails with the same text."""
    number = context.node_config["partition-id"]
    if number == 1:
        raise RuntimeError(HOSTILE)
    reply = call_next(message, context)
    if number == 2:
        return reply
    reply.content["site"] = ConfigRecord({"name": HOSTILE})
    reply.content["metrics"] = MetricRecord({**reply.content["metrics"], HOSTILE[:60]: 1.0})
    return reply


@pytest.fixture(scope="module")
def run():
    return federation.run(sites(3), model=linear(), rounds=1, mods=[hostile_replies], progress=False)


@pytest.mark.survives(
    "A hospital whose name or error holds terminal escapes, line ends, markup or 9,000 characters",
    "History, refused replies and errors show one printable line; a notebook's tables escape the markup",
)
def test_what_a_hospital_writes_is_shown_as_text(run):
    assert set(run.history["site"]) == {"site 2"}
    assert len(run.refused) == 4
    for frame in (run.history, run.refused):
        for column in frame.select_dtypes(exclude="number"):
            assert all(harmless(str(value), 800) for value in frame[column])
        page = frame.to_html() + frame._repr_html_()
        assert "<script" not in page
        assert "</table>|" not in page
    assert any("evil" in reason for reason in run.refused["reason"])
    assert all(line.isprintable() for line in run.refused.to_string().split("\n"))


@pytest.mark.survives(
    "All hospitals fail, and the first of their errors was written to deceive whoever reads it",
    "The sentence that ends the run quotes it as one printable line",
)
def test_the_sentence_that_ends_a_run_is_one_line():
    def fail(message, context, call_next):
        raise RuntimeError(HOSTILE)

    with pytest.raises(FederationError) as raised:
        federation.run(sites(2), model=linear(), rounds=1, mods=[fail], progress=False)
    assert harmless(str(raised.value), 2000)
    assert "evil" in str(raised.value)


@pytest.mark.survives(
    "A file name, column or label that would steer the terminal when an error names it",
    "Every error of the library is one printable line",
)
def test_every_error_is_one_printable_line(tmp_path):
    with pytest.raises(DataError) as raised:
        read_json(tmp_path / "a\x1b[31m\nb.json")
    assert str(raised.value).isprintable()
    assert harmless(str(FederationError(HOSTILE)), 2000)


@pytest.mark.parametrize("name", ["", " ", HOSTILE, "two\nlines", "north\u202e", "n" * 81])
def test_a_site_has_a_name_that_can_be_shown(name):
    with pytest.raises(PartitionError, match="give it another"):
        Site(name, table(5, 0), table(5, 1), table(5, 2))


def explorer() -> Explorer:
    chart = Chart(
        kind="lines",
        series=[Series(HOSTILE[:80], [0, 1], [0.5, 0.6])],
        x_title="round",
        y_title=HOSTILE[:90],
        x_range=(0, 1),
        y_range=(0, 1),
        summary=HOSTILE[:200],
    )
    return Explorer(
        name="hostile",
        controls=(Control("alpha", "<b>alpha</b>", ("<i>1</i>", "2")),),
        alt="What a hospital wrote, shown as text <b>and</b> as nothing else",
        recorded={("<i>1</i>",): chart, ("2",): chart},
    )


@pytest.mark.survives(
    "A class or hospital named like a script appears in a figure or an explorer",
    "The page and the notebook hold it as text: no element comes of it, and no data ends early",
)
def test_markup_in_a_picture_stays_text():
    face = explorer()
    figure = go.Figure().add_scatter(x=[1], y=[HOSTILE], name=HOSTILE, hovertext=[HOSTILE])
    plot = plots.show(figure, "hostile", "A hostile <img src=x> name")._repr_mimebundle_()["text/html"]
    for page in (static_face(face), LiveFace(face).markup, plot):
        assert not [tag for tag in ("<script>alert", "<img", "<b>", "<i>") if tag in page]
        assert page.count("<script") == page.count("</script>") <= 1
    content = script_json({"name": HOSTILE})
    assert json.loads(content)["name"] == HOSTILE
    assert "</" not in content


def test_titles_of_pictures_are_not_mathematics():
    image = pd.DataFrame([[0]]).to_numpy("uint8").reshape(1, 1, 1, 1).repeat(3, 1)
    assert plots.montage(image, ["$\\evil$"], alt="one pixel with an odd title").png
