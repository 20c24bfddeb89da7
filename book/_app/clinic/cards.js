// Builds what stands beside the picture: a card for each model, and the tables of what the models are worth.
"use strict";

// A table of probabilities; a dot marks the classes in the set.
function probabilityTable(model, found) {
  const rows = model.card.classes.map((name, c) => {
    const bar = htmlElement("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * found.probabilities[c]}%`;
    const within = found.set.includes(c);
    const mark = within ? [htmlElement("span", { "aria-hidden": "true" }, "● "), htmlElement("span", { class: "unseen" }, "in the set: ")] : [];
    return htmlElement("tr", within ? { class: "within" } : {},
      htmlElement("th", { scope: "row" }, ...mark, name, bar), htmlElement("td", {}, percent(found.probabilities[c])));
  });
  return htmlElement("table", { class: "bars" },
    htmlElement("caption", {}, model.card.sets ? "Probability, adjusted on cells of home (● in the set)" : "Probability, not adjusted"), htmlElement("tbody", {}, ...rows));
}

// What a model says; without confidence where the picture is outside its scope.
function answerParts(model, found, insist) {
  const name = model.card.classes[found.best];
  if (found.alarms.length === 0) {
    return [
      htmlElement("p", { class: "answer" }, htmlElement("strong", {}, name), ` ${percent(found.probabilities[found.best])}`),
      htmlElement("p", { class: "set" }, setInWords(model, found)),
      ...(model.card.scope.length === 0 ? [htmlElement("p", { class: "alarm" }, UNCHECKED)] : []),
      probabilityTable(model, found),
    ];
  }
  const parts = [
    htmlElement("p", { class: "answer none" }, htmlElement("strong", {}, "No answer")),
    htmlElement("p", { class: "alarm" }, alarmInWords(model, found)),
  ];
  if (insist) parts.push(htmlElement("p", { class: "set" }, `It would have said ${name}, with a confidence that means nothing here.`));
  return parts;
}

// A card for a model: its answer, its map, what can be said of the map, and what can be asked.
function modelCard(model, number) {
  const part = (kind, tag = "div", attributes = {}) => htmlElement(tag, { class: kind, ...attributes });
  const parts = {
    answer: part("answer-parts"),
    map: part("map"),
    says: part("says", "p"),
    inside: part("inside", "p"),
    deletion: part("deletion", "p"),
    forgetting: part("forgetting", "p"),
    cover: part("cover"),
  };
  const unchecked = model.fromFile ? [htmlElement("span", { class: "small" }, " from your file; nobody checked its scores")] : [];
  const heading = htmlElement("h3", { id: `model-${number}` }, capital(model.card.arm), ...unchecked);
  const tests = htmlElement("div", { class: "tests" }, htmlElement("h4", {}, "How far to trust the map"), parts.inside, parts.deletion, parts.forgetting, parts.cover);
  const card = htmlElement("article", { class: "card", "aria-labelledby": heading.id }, heading, parts.map, parts.answer, parts.says, tests);
  return { card, parts };
}

function originalCard(entry) {
  const canvas = canvasLike(entry.picture);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The picture as it is: ${entry.label}`);
  const heading = htmlElement("h3", { id: "original" }, "The picture");
  const facts = htmlElement("p", { class: "small" }, `${entry.width} x ${entry.height} pixels. ${entry.note}`);
  const legend = htmlElement("div", { class: "legend" });
  const beside = htmlElement("div", { class: "beside" }, facts, htmlElement("h4", {}, "How to read the maps"), legend);
  return { card: htmlElement("article", { class: "card original", "aria-labelledby": "original" }, heading, canvas, beside), canvas, legend };
}

const KINDS_OF_SCORE = { own: "own", joint: "those that train the federation", related: "same hospital, not trained on", unseen: "never seen" };

const HOW_SCORED = "Balanced accuracy: the share of cells named rightly, class by class, then the mean; in brackets its 95\u00a0% interval (cells resampled; cells of one patient may stand on both sides of a split, so it is too narrow). All cells count, also those to which the model gives no answer: how good the given answers alone are was not measured. Guessing reaches the last column. The sizes and classes of the built-in models were chosen with these scores in sight.";

function scoreCell(score) {
  if (!score) return htmlElement("td", {}, "not measured");
  const interval = isNumber(score.low) && isNumber(score.high) ? ` (${Math.round(100 * score.low)} to ${Math.round(100 * score.high)})` : "";
  const more = [
    KINDS_OF_SCORE[score.kind],
    isNumber(score.calibration_error) ? `its probability is off by ${percent(score.calibration_error)} on average` : "",
    isNumber(score.coverage) ? `the set holds the truth in ${percent(score.coverage)}` : "",
    isNumber(score.flagged) ? `no answer to ${percent(score.flagged)}` : "",
  ].filter(Boolean);
  return htmlElement("td", {}, htmlElement("strong", {}, percent(score.balanced_accuracy)), interval, htmlElement("span", { class: "small" }, more.join("; ")));
}

// Balanced accuracies, one row a hospital and one column a model.
function scoreTable(models) {
  const places = [...new Set(models.flatMap((model) => model.card.scores.map((score) => score.where)))];
  if (places.length === 0) return htmlElement("p", {}, "The cards of these models hold no scores.");
  const head = ["Cells of", ...models.map((model) => capital(labelOf(model))), "Guessing"];
  const rows = places.map((where) => {
    const scores = models.map((model) => model.card.scores.find((score) => score.where === where));
    const known = scores.find(Boolean);
    const of = isNumber(known.cells) && isNumber(known.classes) ? `${known.cells} cells of ${known.classes} classes` : "";
    return htmlElement("tr", {},
      htmlElement("th", { scope: "row" }, where, htmlElement("span", { class: "small" }, of)),
      ...scores.map(scoreCell),
      htmlElement("td", {}, isNumber(known.chance) ? percent(known.chance) : ""));
  });
  return htmlElement("table", { class: "scores" },
    htmlElement("caption", {}, HOW_SCORED),
    htmlElement("thead", {}, htmlElement("tr", {}, ...head.map((name) => htmlElement("th", { scope: "col" }, name)))),
    htmlElement("tbody", {}, ...rows));
}

// All that a model's card says, to open.
function aboutModel(model, open) {
  const { card, network } = model;
  const rows = [
    ["What it is", card.about],
    ["Trained at", (card.sites ?? []).join(", ")],
    ["Classes", card.classes.join(", ")],
    ["Network", `attention CNN of width ${network.width}, ${network.norm} norm, reads ${network.size} x ${network.size} pixels`],
    ["Calibration", card.sets ? `scores divided by ${card.temperature.toFixed(2)} (the "temperature") before they become probabilities; sets meant to hold the right class for ${percent(card.sets.level)} of home's cells` : "none: no cells were held out for it"],
    ["Out of scope", scopeInWords(card)],
    ["Made", [card.made, card.version && `hemafl ${card.version}`, card.code && `code ${card.code}`, card.data && `data ${card.data}`].filter(Boolean).join(", ")],
  ].filter(([, said]) => said);
  const list = rows.flatMap(([term, said]) => [htmlElement("dt", {}, term), htmlElement("dd", {}, said)]);
  return htmlElement("details", open ? { open: "" } : {},
    htmlElement("summary", {}, card.title ?? card.name, card.simulated ? " (simulated cells)" : ""), htmlElement("dl", {}, ...list));
}

// What each of the detectors warned about where it was tried; one that warns is enough.
function scopeInWords({ scope }) {
  if (scope.length === 0) return "not checked";
  return scope.map((detector) => {
    const kinds = Object.entries(detector.detected ?? {}).filter(([, share]) => isNumber(share)).map(([kind, share]) => `${kind} ${percent(share)}`);
    const all = isNumber(detector.out_of_scope_flagged) ? `${percent(detector.out_of_scope_flagged)} of pictures that are no such cell` : "it is not said what";
    return `warned about by ${MEASURED[detector.of]}: ${kinds.length > 0 ? kinds.join(", ") : all}`;
  }).join("; ");
}

// What the colours mean, and how much full colour is.
function legendOf(view, top) {
  const lines = "repeating-linear-gradient(135deg, #fff 0 1.5px, transparent 1.5px 7px), ";
  const ramp = (colour, words, over = "") => {
    const band = htmlElement("span", { class: "ramp", "aria-hidden": "true" });
    band.style.backgroundImage = `${over}linear-gradient(to right, rgba(${colour}, 0), rgba(${colour}, ${view.opacity}))`;
    return htmlElement("span", {}, band, ` ${words}`);
  };
  const full = top === null ? "each map by its own largest value" : `full colour: a square that adds ${top.toPrecision(2)} to the score of the class (0.7 more doubles its odds against another)`;
  const line = htmlElement("span", { class: "line-key", "aria-hidden": "true" });
  return [
    ramp(FOR, "speaks for it"),
    ...(view.signed ? [ramp(AGAINST, "speaks against it", view.smooth ? "" : lines)] : []),
    htmlElement("span", {}, line, ` at least half of the map's largest${view.signed ? " (dashed: against)" : ""}`),
    htmlElement("span", {}, capital(`${full}.`)),
    htmlElement("span", {}, "A map is as coarse as its squares, and each is computed from more of the picture than lies under it. It shows what the model used, not what is there."),
  ];
}
