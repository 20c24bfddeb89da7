// What a crawl asks of a page in the browser. Each function returns a list of sentences: what is wrong.
"use strict";

const crawl = {};

crawl.name = (one) => {
  const words = (one.textContent || one.getAttribute("aria-label") || one.value || "").trim().replace(/\s+/g, " ");
  const classes = [...one.classList].slice(0, 2).map((name) => `.${name}`).join("");
  return `${one.tagName.toLowerCase()}${one.id ? `#${one.id}` : ""}${classes} "${words.slice(0, 50)}"`;
};

// Everything that a reader may open is open, so that all of it is looked at.
crawl.open = async () => {
  for (const one of document.querySelectorAll("main details, .bd-article details")) one.open = true;
  for (const one of document.querySelectorAll(".toggle-hidden")) one.classList.remove("toggle-hidden");
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await new Promise((resolve) => setTimeout(resolve, 200));
  window.scrollTo(0, document.body.scrollHeight);
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  window.scrollTo(0, 0);
};

crawl.visible = (one) => {
  const box = one.getBoundingClientRect();
  return box.width > 1 && box.height > 1 && one.checkVisibility({ visibilityProperty: true, opacityProperty: true });
};

// Nothing leaves the screen, but inside what scrolls and says so.
crawl.wide = () => {
  const room = document.documentElement.clientWidth;
  const found = [];
  if (document.documentElement.scrollWidth > room) found.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  const scrolls = (one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
  const said = (one) => getComputedStyle(one, "::before").content !== "none"
    || (one.previousElementSibling && getComputedStyle(one.previousElementSibling, "::after").content.includes("scroll"));
  const reached = (one) => one.tabIndex === 0 || one.querySelector("a[href], button, input, select, summary, [tabindex='0']");
  const apart = ".skip, .sr-only, .visually-hidden, .bd-sidebar-primary, .bd-sidebar-secondary, .skip-link, .pst-skip-link, dialog, #pst-skip-link";
  for (const one of document.querySelectorAll("body *")) {
    if (!crawl.visible(one) || one.closest(apart) || one.closest("svg, mjx-container") !== null && !one.matches("svg, mjx-container")) continue;
    let inside = one.parentElement;
    while (inside && !scrolls(inside) && getComputedStyle(inside).overflowX === "visible") inside = inside.parentElement;
    const box = one.getBoundingClientRect();
    if ((box.right > room + 1 || box.left < -1) && (!inside || inside === document.documentElement || inside === document.body)) {
      found.push(`${crawl.name(one)} leaves the screen (${Math.round(box.left)} to ${Math.round(box.right)} px)`);
    }
    if (scrolls(one) && one.scrollWidth > one.clientWidth + 1 && !reached(one)) found.push(`${crawl.name(one)} scrolls and is not reached by keyboard`);
    if (scrolls(one) && one.scrollWidth > one.clientWidth + 1 && !said(one) && !one.matches("textarea, select, input")) {
      found.push(`${crawl.name(one)} scrolls and does not say so`);
    }
    const clips = ["hidden", "clip"].includes(getComputedStyle(one).overflowX);
    if (clips && one.scrollWidth > one.clientWidth + 2 && one.innerText && one.clientWidth > 2 && !one.matches(".math")) found.push(`${crawl.name(one)} is cut off`);
  }
  return found;
};

crawl.parts = (colour) => (colour.match(/[\d.]+(?:e-?\d+)?/g) ?? [0, 0, 0, 0]).map(Number);

crawl.brightness = ([r, g, b]) => {
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const [red, green, blue] = [r, g, b].map((value) => linear(value / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};

crawl.over = ([r, g, b, opacity = 1], below) => [r, g, b].map((value, i) => opacity * value + (1 - opacity) * below[i]);

crawl.behind = (one) => {
  if (!one) return [255, 255, 255];
  const colour = crawl.parts(getComputedStyle(one).backgroundColor);
  return (colour[3] ?? 1) === 1 ? colour.slice(0, 3) : crawl.over(colour, crawl.behind(one.parentElement));
};

// What lies behind the middle of a word of a picture: its halo, or the shapes drawn before it, or the page.
crawl.ground = (word) => {
  const style = getComputedStyle(word);
  if (style.stroke !== "none" && style.paintOrder.startsWith("stroke") && parseFloat(style.strokeWidth) >= 3) return crawl.parts(style.stroke).slice(0, 3);
  const box = word.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  let ground = crawl.behind(word.ownerSVGElement);
  for (const shape of word.ownerSVGElement.querySelectorAll("rect, circle, ellipse, path, polygon")) {
    if (!(shape.compareDocumentPosition(word) & Node.DOCUMENT_POSITION_FOLLOWING) || shape.closest("defs, marker, clipPath")) continue;
    const at = shape.getBoundingClientRect();
    const drawn = getComputedStyle(shape);
    if (drawn.fill === "none" || drawn.visibility === "hidden" || x < at.left || x > at.right || y < at.top || y > at.bottom) continue;
    const point = new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse());
    if (!shape.isPointInFill(point)) continue;
    const [r, g, b, opacity = 1] = crawl.parts(drawn.fill);
    ground = crawl.over([r, g, b, opacity * drawn.fillOpacity * drawn.opacity], ground);
  }
  return ground;
};

crawl.contrast = () => {
  const found = new Set();
  for (const word of document.querySelectorAll("svg text, svg tspan")) {
    if (!word.textContent.trim() || !crawl.visible(word) || word.querySelector("tspan")) continue;
    const style = getComputedStyle(word);
    const ground = crawl.ground(word);
    const [r, g, b, opacity = 1] = crawl.parts(style.fill);
    let seen = opacity * style.fillOpacity;
    for (let one = word; one && one.tagName !== "svg"; one = one.parentElement) seen *= getComputedStyle(one).opacity;
    const [dark, light] = [crawl.over([r, g, b, seen], ground), ground].map(crawl.brightness).sort((a, c) => a - c);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) found.add(`"${word.textContent.trim()}" in a picture has a contrast of ${ratio.toFixed(2)}`);
  }
  return [...found];
};

// Words of a chart that leave it or lie over each other.
crawl.charts = () => {
  const found = [];
  for (const chart of document.querySelectorAll("svg.hemafl-chart, .hemafl-explorer svg[role=img]")) {
    if (!crawl.visible(chart)) continue;
    const box = chart.getBoundingClientRect();
    const words = [...chart.querySelectorAll("text")].filter((word) => word.textContent.trim() && crawl.visible(word))
      .map((word) => [word.textContent, word.getBoundingClientRect()]);
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
    for (const [i, [word, at]] of words.entries()) {
      if (at.left < box.left - 1 || at.right > box.right + 1) found.push(`"${word}" leaves its chart`);
      const other = words.slice(i + 1).find(([, next]) => meet(at, next));
      if (other) found.push(`"${word}" and "${other[0]}" lie over each other`);
      if (at.height < 9) found.push(`"${word}" is ${at.height.toFixed(1)} px high`);
    }
  }
  return found;
};

crawl.moving = () => document.getAnimations().filter((one) => one.playState === "running")
  .map((one) => `${crawl.name(one.effect.target)} moves`);

// Where the keyboard is: what it is, where it stands in the page, whether a reader sees it.
crawl.focus = () => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  if (one.tagName === "IFRAME") return { frame: true, name: crawl.name(one), wrong: [] };
  const wrong = [];
  const marks = (at) => (at.outlineStyle !== "none" && parseFloat(at.outlineWidth) > 0) || at.boxShadow !== "none";
  const label = one.id ? document.querySelector(`label[for="${CSS.escape(one.id)}"]`) : null;
  const around = [one, label, one.closest("form"), one.closest("label")].filter(Boolean).map((at) => getComputedStyle(at));
  const title = one.closest(".admonition")?.querySelector(".admonition-title");
  if (title) around.push(getComputedStyle(title, "::before"));
  if (!around.some(marks)) wrong.push("has the focus and does not show it");
  const place = label && getComputedStyle(one).opacity === "0" ? label : one;
  const box = place.getBoundingClientRect();
  if (box.width < 1 || box.height < 1) wrong.push("has the focus and no size");
  else if (box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth) wrong.push("has the focus outside the screen");
  else {
    const inside = (value, low, high) => Math.min(Math.max(value, low), high);
    const places = [...place.getClientRects()].map((at) => document.elementFromPoint(
      inside((at.left + at.right) / 2, 1, innerWidth - 1), inside((at.top + at.bottom) / 2, 1, innerHeight - 1)));
    if (places.every((top) => top && top !== place && !place.contains(top) && !top.contains(place))) {
      wrong.push(`has the focus behind ${crawl.name(places[0])}`);
    }
  }
  const after = crawl.last && (crawl.last.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_PRECEDING);
  if (after && !one.contains(crawl.last)) wrong.push(`comes after ${crawl.name(crawl.last)}, which stands behind it`);
  const same = crawl.last === one;
  crawl.last = one;
  crawl.seen ??= new Set();
  const again = !same && crawl.seen.has(one);
  crawl.seen.add(one);
  return { frame: false, name: crawl.name(one), wrong, same, again };
};

window.crawl = crawl;
