// A choice above the table of all claims: of which chapter, with which verdict. Without scripts all are shown.
"use strict";

function choice(label, names, change) {
  const select = htmlElement("select", {});
  for (const name of ["all", ...names]) {
    const option = htmlElement("option", { value: name });
    option.textContent = name;
    select.append(option);
  }
  select.addEventListener("change", change);
  const words = htmlElement("label", {});
  words.append(`${label} `, select);
  return { words, chosen: (name) => ["all", name].includes(select.value) };
}

function offerChoices(chapters) {
  const titleOf = (chapter) => chapter.querySelector(".rubric").textContent.split(":")[0];
  const rowsOf = (chapter) => [...chapter.querySelectorAll("tbody tr")];
  const verdictOf = (row) => row.cells[0].querySelector("strong").textContent.split(":")[0];
  const all = chapters.flatMap(rowsOf);
  const count = htmlElement("output", { "aria-live": "polite" });

  const show = () => {
    for (const chapter of chapters) {
      const rows = rowsOf(chapter);
      for (const row of rows) row.hidden = !(byChapter.chosen(titleOf(chapter)) && byVerdict.chosen(verdictOf(row)));
      chapter.hidden = rows.every((row) => row.hidden);
    }
    count.textContent = `${all.filter((row) => !row.hidden).length} of ${all.length} claims`;
  };
  const byChapter = choice("Chapter", chapters.map(titleOf), show);
  const byVerdict = choice("Verdict", [...new Set(all.map(verdictOf))], show);
  const form = htmlElement("form", { class: "hemafl-choose" });
  form.append(byChapter.words, byVerdict.words, count);
  chapters[0].before(form);
  show();
}

const chaptersOfClaims = [...document.querySelectorAll(".hemafl-claims-of")];
if (chaptersOfClaims.length) offerChoices(chaptersOfClaims);
