// Two ways of reading, with the code of the cells and without, remembered for all pages; and what a word of
// the glossary means, beside its link.
"use strict";

const WAY = "hemafl-code";

// A link ends in ?code=hidden or ?code=shown to choose for the reader; some browsers keep nothing for files.
function chosenWay() {
  const asked = new URLSearchParams(location.search).get("code");
  try {
    if (["hidden", "shown"].includes(asked)) localStorage.setItem(WAY, asked);
    return localStorage.getItem(WAY) ?? "shown";
  } catch {
    return asked ?? "shown";
  }
}

function read(way, button) {
  document.documentElement.dataset.code = way;
  button.textContent = way === "hidden" ? "Show the code" : "Hide the code";
}

function offerBothWays() {
  const place = document.querySelector(".article-header-buttons");
  if (!place || !document.querySelector("div.cell_input")) return;
  const button = htmlElement("button", { type: "button", class: "btn btn-sm hemafl-way" });
  read(chosenWay(), button);
  button.addEventListener("click", () => {
    const way = document.documentElement.dataset.code === "hidden" ? "shown" : "hidden";
    try {
      localStorage.setItem(WAY, way);
    } catch {
      // Then it holds for this page only.
    }
    read(way, button);
  });
  place.prepend(button);
}

function explainTerms(meanings) {
  const box = htmlElement("div", { id: "hemafl-term", role: "tooltip", hidden: "" });
  document.body.append(box);
  const hide = () => { box.hidden = true; };
  const show = (link) => {
    box.textContent = meanings[link.hash.slice(1)];
    box.hidden = false;
    const at = link.getBoundingClientRect();
    const room = document.documentElement.clientWidth - box.offsetWidth - 8;
    box.style.left = `${window.scrollX + Math.max(8, Math.min(at.left, room))}px`;
    box.style.top = `${window.scrollY + at.bottom + 6}px`;
  };
  for (const link of document.querySelectorAll('.bd-article a.internal[href*="#term-"]')) {
    if (!(link.hash.slice(1) in meanings)) continue;
    link.setAttribute("aria-describedby", box.id);
    for (const come of ["mouseenter", "focus"]) link.addEventListener(come, () => show(link));
    for (const go of ["mouseleave", "blur"]) link.addEventListener(go, hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
}

offerBothWays();
if (window.HEMAFL_TERMS) explainTerms(window.HEMAFL_TERMS);
