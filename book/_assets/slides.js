// Steps through the slides of a deck by keyboard and by button; the address names the slide that is shown.
"use strict";

const shown = [...document.querySelectorAll(".slide")];
const [back, next, place] = ["back", "next", "place"].map((id) => document.getElementById(id));

// The slide that fills most of the screen.
function current() {
  const middle = innerHeight / 2;
  const at = shown.findIndex((slide) => slide.getBoundingClientRect().bottom > middle);
  return at < 0 ? shown.length - 1 : at;
}

function tell() {
  const at = current();
  const text = `${at + 1} of ${shown.length}`;
  if (place.textContent !== text) place.textContent = text;
  back.disabled = at === 0;
  next.disabled = at === shown.length - 1;
}

function go(at) {
  const slide = shown[Math.min(Math.max(at, 0), shown.length - 1)];
  slide.scrollIntoView();
  slide.focus({ preventScroll: true });
  history.replaceState(null, "", `#${slide.id}`);
  tell();
}

const KEYS = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 };

document.addEventListener("keydown", (event) => {
  const own = event.target.closest("input, select, button, summary, textarea, [data-scrolls]");
  if (own || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Home") go(0);
  else if (event.key === "End") go(shown.length - 1);
  else if (event.key in KEYS) go(current() + KEYS[event.key] * (event.key === " " && event.shiftKey ? -1 : 1));
  else return;
  event.preventDefault();
});
back.addEventListener("click", () => go(current() - 1));
next.addEventListener("click", () => go(current() + 1));
document.addEventListener("scroll", () => requestAnimationFrame(tell));
tell();
