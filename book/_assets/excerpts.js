// Shows under each result of the search where the words stand. Sphinx would read the pages for that, which a
// browser refuses to a page on a memory stick; here their texts come as a script. Loaded on the search page.
"use strict";

const AROUND = 120;    // letters before and after the word

function excerpt(text, words) {
  const lower = text.toLowerCase();
  const places = words.map((word) => lower.indexOf(word)).filter((place) => place >= 0);
  const from = Math.max(0, (places.length > 0 ? Math.min(...places) : 0) - AROUND);
  const cut = text.slice(from, from + 2 * AROUND).trim();
  const shown = htmlElement("p", { class: "context" });
  shown.append(from > 0 ? "... " : "", ...marked(cut, words), from + 2 * AROUND < text.length ? " ..." : "");
  return shown;
}

// The text in pieces, those that are sought as marks.
function marked(text, words) {
  const lower = text.toLowerCase();
  const hits = words.flatMap((word) => {
    const place = lower.indexOf(word);
    return place >= 0 ? [[place, place + word.length]] : [];
  }).sort((a, b) => a[0] - b[0]);
  const pieces = [];
  let done = 0;
  for (const [start, end] of hits) {
    if (start < done) continue;
    pieces.push(text.slice(done, start), htmlElement("mark", {}, text.slice(start, end)));
    done = end;
  }
  return [...pieces, text.slice(done)];
}

// The words of the section that a result leads to; of a whole page, those of the first that holds a word.
function textOf(address, words) {
  const [page, anchor] = address.split("#");
  const sections = window.HEMAFL_TEXTS[page.split("?")[0].replace(/\.html$/, "")] ?? [];
  const named = sections.find(([anchors]) => anchors.includes(anchor));
  const holding = sections.find(([, text]) => words.some((word) => text.toLowerCase().includes(word)));
  return (named ?? holding ?? sections[0])?.[1];
}

function addExcerpt(item, words) {
  const link = item.querySelector("a");
  if (link === null || item.querySelector(".context") !== null) return;
  const root = new URL(document.documentElement.dataset.content_root, document.baseURI).href;
  const text = textOf(decodeURIComponent(link.href.slice(root.length)), words);
  if (text) item.append(excerpt(text, words));
}

function addExcerpts() {
  const list = document.getElementById("search-results");
  const words = splitQuery(new URLSearchParams(location.search).get("q") ?? "").map((word) => word.toLowerCase());
  const add = () => list.querySelectorAll("ul.search li").forEach((item) => addExcerpt(item, words));
  new MutationObserver(add).observe(list, { childList: true, subtree: true });
  add();
}

addExcerpts();
