"""A Sphinx extension with the directive ``{quiz} NAME``: questions that grade themselves in the page.

The questions stand in ``book/course/quizzes/NAME.yml``. Whoever chooses an answer sees at once why it is
right or wrong, which needs no script; a script of the page, `quiz.js`, counts. Each question links to the
paragraph of its chapter that answers it.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

from hemafl_lib.errors import DataError

QUESTIONS = 10
"""Of every quiz."""


@dataclass(frozen=True)
class Answer:
    """What it says, why it is right or wrong, and which of the two."""

    says: str
    because: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """What is asked, the label of the paragraph that answers it, and the answers to choose from."""

    ask: str
    see: str
    answers: Sequence[Answer]


def read(file: Path) -> list[Question]:
    """Return the questions of a quiz.

    Raises
    ------
    DataError
        If there are not `QUESTIONS` of them, or one has no single right answer, or says less than it should.
    """
    try:
        found = [
            Question(one["ask"], one["see"], in_order(Answer(**answer) for answer in one["answers"]))
            for one in yaml.safe_load(file.read_text(encoding="utf-8"))
        ]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(
            f"{file.name} is no quiz ({error}); write it like the others of its folder."
        ) from None
    if len(found) != QUESTIONS:
        raise DataError(f"{file.name} has {len(found)} questions; give it {QUESTIONS}.")
    for question in found:
        if sum(answer.right for answer in question.answers) != 1 or len(question.answers) < 3:
            raise DataError(f"{file.name}: '{question.ask}' needs three answers, of which one is right.")
    return found


def in_order(answers: Iterable[Answer]) -> list[Answer]:
    """Return answers by the alphabet, so that no place is right more often than another by habit."""
    return sorted(answers, key=lambda answer: answer.says)


class QuizDirective(SphinxDirective):
    """``{quiz} NAME``: a form of questions."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return it, and have the page built anew when the questions change."""
        name = self.arguments[0]
        file = Path(self.env.srcdir) / "book" / "course" / "quizzes" / f"{name}.yml"
        self.env.note_dependency(str(file))
        asked = enumerate(read(file), start=1)
        parts = [
            part for number, question in asked for part in self.show(f"{name}-{number}", number, question)
        ]
        return [raw(f'<form class="hemafl-quiz" id="quiz-{name}">'), *parts, raw("</form>")]

    def show(self, ident: str, number: int, question: Question) -> list[nodes.Node]:
        """Return a question with its answers and the link to what answers it."""
        legend = f"<legend>{number}. {html.escape(question.ask)}</legend>"
        answers = "".join(
            choice(ident, place, answer) for place, answer in enumerate(question.answers, start=1)
        )
        link = pending_xref(
            "",
            nodes.inline(text="Where the chapter says it"),
            refdoc=self.env.docname,
            refdomain="std",
            reftype="ref",
            reftarget=question.see,
            refexplicit=True,
            refwarn=True,
        )
        where = nodes.paragraph("", "", link, classes=["hemafl-where"])
        return [raw(f"<fieldset>{legend}{answers}"), where, raw("</fieldset>")]


def choice(ident: str, place: int, answer: Answer) -> str:
    """Return an answer as HTML: to choose, and what it is worth once chosen."""
    own = f"{ident}-{place}"
    verdict = "right" if answer.right else "wrong"
    return (
        f'<div class="hemafl-answer"><input type="radio" name="{ident}" id="{own}" value="{verdict}">'
        f'<label for="{own}">{html.escape(answer.says)}</label>'
        f'<p class="hemafl-because {verdict}"><strong>{verdict.capitalize()}.</strong> '
        f"{html.escape(answer.because)}</p></div>"
    )


def raw(text: str) -> nodes.raw:
    """Return a piece of HTML."""
    return nodes.raw("", text, format="html")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("quiz", QuizDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
