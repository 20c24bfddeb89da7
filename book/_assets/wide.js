// Marks what is wider than its place, so that it says that it scrolls and can be scrolled by keyboard.
"use strict";

const WIDE = ".bd-article :is(.cell_output, .cell_output .output, .pst-scrollable-table-container, .hemafl-numbers > div, "
  + ".hemafl-numbers, pre, mjx-container[display=true])";

function markWide() {
  for (const element of document.querySelectorAll(WIDE)) {
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth + 1;
    element.toggleAttribute("data-scrolls", scrolls);
    if (scrolls) element.tabIndex = 0;
    else if (element.tabIndex === 0) element.removeAttribute("tabindex");
  }
}

const resized = new ResizeObserver(() => requestAnimationFrame(markWide));
resized.observe(document.querySelector(".bd-article") ?? document.body);
document.addEventListener("toggle", markWide, true);
