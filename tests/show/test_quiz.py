"""The quizzes: ten questions a chapter, one right answer each, every answer explained."""

import re

import nbformat
import pytest
import yaml
from builders.browser import MISSING, launched

from hemafl_book.build import quiz
from hemafl_book.papers.claims import CHAPTERS
from hemafl_lib.errors import DataError

NAMES = [chapter.page.removeprefix("papers/") for chapter in CHAPTERS.values()]


@pytest.fixture(scope="module")
def folder(repository):
    return repository / "book" / "course" / "quizzes"


def test_every_chapter_has_its_quiz_and_the_page_shows_it(folder):
    assert sorted(NAMES) == sorted(file.stem for file in folder.iterdir())
    page = folder.with_suffix(".md").read_text()
    assert re.findall(r"^```\{quiz\} (\w+)$", page, re.MULTILINE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_question_has_one_right_answer_and_says_why_of_all(folder, name, repository):
    questions = quiz.read(folder / f"{name}.yml")
    chapter = (repository / "book" / "papers" / f"{name}.ipynb").read_text()
    assert len({question.ask for question in questions}) == quiz.QUESTIONS
    for question in questions:
        assert f"({question.see})=" in chapter, "the chapter itself answers"
        reasons = {answer.because for answer in question.answers}
        assert len(reasons) == len(question.answers) == 3
        assert all(len(reason) > 20 for reason in reasons), question.ask


def exercises(file):
    """The titles of a notebook's exercises, and for each whether it needs no code."""
    cells = nbformat.read(file, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    found = re.findall(r"^```\{exercise\} (.+?)\n:label: \S+\n\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    return {title: "*Without code.*" in asked for title, asked in found}


COURSE = [*(f"papers/{name}" for name in NAMES), "start/federated_from_scratch", "start/cells_stains_sites",
          "clinic/reading_a_map"]  # fmt: skip


@pytest.mark.parametrize("page", COURSE)
def test_a_chapter_has_five_exercises_one_without_code_and_each_belongs_to_a_goal(repository, page):
    found = exercises(repository / "book" / f"{page}.ipynb")
    assert len(found) >= 5
    assert any(found.values())
    goals = (repository / "book" / "course" / "instructor_guide.md").read_text().split("(course-goals)=")[1]
    assert [title for title in found if f"*{title}*" not in goals] == []


@pytest.mark.parametrize("page", COURSE)
def test_each_take_away_leads_to_the_paragraph_that_earns_it(repository, page):
    text = (repository / "book" / f"{page}.ipynb").read_text()
    points = re.search(r'"## Take-aways\\n",(.*?)"(?:## |Go on)', text, re.DOTALL)[1]
    for point in re.findall(r'"- (.+?)(?:\\n)?",?$', points, re.MULTILINE):
        labels = re.findall(r"\]\(#([\w-]+)\)", point)
        assert labels, point
        assert all(f"({label})=" in text for label in labels), point


def test_each_chapter_leads_to_its_quiz(repository):
    page = (repository / "book" / "course" / "quizzes.md").read_text()
    found = re.findall(r"^\(([\w-]+)\)=\n## .+?\{quiz\} (\w+)$", page, re.MULTILINE | re.DOTALL)
    assert [name for _, name in found] == NAMES
    for label, name in found:
        assert f"(#{label})" in (repository / "book" / "papers" / f"{name}.ipynb").read_text()


def test_no_place_is_right_by_habit(folder):
    places = [
        [answer.right for answer in question.answers].index(True)
        for name in NAMES
        for question in quiz.read(folder / f"{name}.yml")
    ]
    assert all(places.count(place) >= len(places) / 5 for place in range(3)), places


GOOD = {"says": "yes", "because": "It is so.", "right": True}
BAD = [{"says": word, "because": "It is not so."} for word in ("no", "perhaps")]


@pytest.mark.parametrize(
    ("questions", "match"),
    [
        ([{"ask": "Why?", "see": "x", "answers": [GOOD, *BAD]}] * 9, "has 9 questions; give it 10"),
        ([{"ask": "Why?", "see": "x", "answers": [*BAD, *BAD]}] * 10, "'Why\\?' needs three answers"),
        ([{"ask": "Why?", "see": "x", "answers": [GOOD, GOOD, *BAD]}] * 10, "of which one is right"),
        ([{"ask": "Why?", "answers": [GOOD, *BAD]}] * 10, "is no quiz"),
        ([{"ask": "Why?", "see": "x", "answers": [{"says": "yes"}, *BAD]}] * 10, "is no quiz"),
    ],
)
def test_a_quiz_that_is_none_is_one_sentence(tmp_path, questions, match):
    file = tmp_path / "some.yml"
    file.write_text(yaml.safe_dump(questions))
    with pytest.raises(DataError, match=match):
        quiz.read(file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.yml is no quiz"):
        quiz.read(tmp_path / "none.yml")


PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Quiz</title>
<style>{style}</style></head>
<body><form class="hemafl-quiz">{questions}</form><script>{script}</script></body></html>"""


@pytest.fixture(scope="module")
def page(folder, repository, tmp_path_factory):
    """The first three questions of a chapter as the built page has them, beside their links."""
    questions = quiz.read(folder / "attention_cnn.yml")[:3]
    shown = "".join(
        f"<fieldset><legend>{question.ask}</legend>"
        + "".join(quiz.choice(f"q{number}", place, answer) for place, answer in enumerate(question.answers))
        + "</fieldset>"
        for number, question in enumerate(questions)
    )
    charts = (repository / "hemafl_book" / "show" / "assets" / "charts.js").read_text()
    assets = repository / "book" / "_assets"
    file = tmp_path_factory.mktemp("quiz") / "quiz.html"
    script = charts + (assets / "quiz.js").read_text()
    style = (assets / "front.css").read_text()
    file.write_text(PAGE.format(style=style, questions=shown, script=script))
    return file, questions


def place_of(question, *, right):
    return next(place for place, answer in enumerate(question.answers) if answer.right == right)


@pytest.mark.browser
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_an_answer_is_explained_at_once_and_the_first_try_counts(page):
    file, questions = page
    with launched() as browser:
        shown = browser.new_page()
        shown.goto(file.as_uri())
        score = shown.locator("output")
        for number, right in enumerate((False, True, True)):
            answer = questions[number].answers[place_of(questions[number], right=right)]
            shown.get_by_label(answer.says, exact=True).check()
            assert shown.get_by_text(answer.because).first.is_visible()
            others = [one for one in questions[number].answers if one is not answer]
            assert not any(shown.get_by_text(one.because).first.is_visible() for one in others)
        assert score.inner_text().endswith("All answered, 2 right at the first try.")
        shown.get_by_label(questions[0].answers[place_of(questions[0], right=True)].says, exact=True).check()
        assert score.inner_text().endswith("2 right at the first try.")


@pytest.mark.browser
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_without_scripts_an_answer_is_explained_all_the_same(page):
    file, questions = page
    with launched() as browser:
        shown = browser.new_context(java_script_enabled=False).new_page()
        shown.goto(file.as_uri())
        answer = questions[0].answers[0]
        shown.get_by_label(answer.says, exact=True).check()
        assert shown.get_by_text(answer.because).is_visible()
