"""The verdicts of a chapter as a table: computed from the frozen results when the cell runs."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from hemafl_book.papers import claims
from hemafl_book.show import results

HEADINGS = ("verdict", "claim of the paper", "its number", "here", "beside it")


@dataclass(frozen=True)
class Verdicts:
    """Judgements as an HTML table whose claims link to the cells that decide, and as text."""

    judgements: Sequence[claims.Judgement]

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        text = [
            f"{one.shown()}: {one.claim.says} {one.numbers()} {one.differs()}".strip()
            for one in self.judgements
        ]
        return {"text/plain": "\n".join(text), "text/html": html_table(self.judgements)}


def html_table(judgements: Sequence[claims.Judgement]) -> str:
    """Return judgements as a table with the verdicts first, which a narrow screen then still shows."""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
    body = "".join(html_row(one) for one in judgements)
    return f'<table class="hemafl-claims"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def html_row(one: claims.Judgement) -> str:
    """Return a judgement as a row of the table, under its name with "claim-" before it as an anchor."""
    claim = one.claim
    says = f'<a href="#{claim.anchor}">{html.escape(claim.says)}</a>'
    here = f"{html.escape(one.numbers())}<br><small>{html.escape(claim.ours)}</small>"
    verdict = f"<b>{one.shown()}</b>" + (f"<br><small>{one.differs()}</small>" if one.differs() else "")
    cells = [verdict, says, html.escape(claim.number), here, html.escape(one.baselines())]
    return f'<tr id="claim-{claim.name}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def verdicts(chapter: str) -> Verdicts:
    """Return the verdicts of a chapter, see `hemafl_book.papers.claims.CHAPTERS`."""
    folder = results.folder()
    return Verdicts(claims.judge_all(claims.read_frozen(folder), [chapter], claims.read_other(folder)))
