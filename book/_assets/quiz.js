// Counts the answers of a quiz and says aloud what the chosen one is worth. Nothing is stored or sent.
"use strict";

function grade(form) {
  const questions = [...form.querySelectorAll("fieldset")];
  const score = htmlElement("output", { "aria-live": "polite", class: "hemafl-score" });
  form.append(score);
  const first = new Map();

  form.addEventListener("change", ({ target }) => {
    if (!first.has(target.name)) first.set(target.name, target.value);
    const right = [...first.values()].filter((value) => value === "right").length;
    const because = target.closest(".hemafl-answer").querySelector(".hemafl-because").textContent;
    const done = first.size === questions.length ? "All answered" : `${first.size} of ${questions.length} answered`;
    score.textContent = `${because} ${done}, ${right} right at the first try.`;
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

document.querySelectorAll(".hemafl-quiz").forEach(grade);
