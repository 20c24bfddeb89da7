// Says in plain sentences what the page shows.
"use strict";

// A share as it is read: never quite nothing nor quite all, and never parted from its sign.
function percent(share) {
  if (share > 0 && share < 0.005) return "<1\u00a0%";
  if (share < 1 && share >= 0.995) return ">99\u00a0%";
  return `${Math.round(100 * share)}\u00a0%`;
}

function listed(words, last = "and") {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} ${last} ${words[words.length - 1]}`;
}

const capital = (sentence) => sentence.charAt(0).toUpperCase() + sentence.slice(1);

// What the models of a comparison say together.
function verdictOf(models, answers) {
  const given = models.filter((_, i) => answers[i].alarms.length === 0);
  if (given.length === 0) return "None of the models knows pictures of this kind, so none gives an answer.";
  const named = new Map();
  models.forEach((model, i) => {
    if (answers[i].alarms.length > 0) return;
    const name = model.card.classes[answers[i].best];
    named.set(name, [...(named.get(name) ?? []), labelOf(model)]);
  });
  const without = models.length - given.length;
  const rest = without > 0 ? ` ${without === 1 ? "One model gives" : `${without} models give`} no answer: the picture is outside what ${without === 1 ? "it knows" : "they know"}.` : "";
  if (named.size === 1) {
    const [name] = named.keys();
    const related = given.length > 1 && given.every((model) => !model.fromFile) ? " No second opinion: the book's models began as one network and share cells." : "";
    return `${given.length === 1 ? `The ${armOf(given[0])} says` : `${given.length === 2 ? "Both" : `All ${given.length}`} models${without > 0 ? " that answer" : ""} say`} ${name}.${related}${rest}`;
  }
  const parts = [...named].map(([name, arms]) => `${name} (${listed(arms)})`);
  return `The models disagree: ${parts.join("; ")}.${rest}`;
}

function armOf(model) {
  const name = model.card.arm === "one hospital" ? "model of one hospital" : `${model.card.arm} model`;
  return model.fromFile ? `${name} from your file` : name;
}

// A model's name among its family.
function labelOf(model) {
  return model.card.arm + (model.fromFile ? " (your file)" : "");
}

// A model's name where nothing else tells it from those of the book: in what is saved or printed.
function nameOf(model) {
  return model.card.name + (model.fromFile ? " (your file)" : "");
}

// What a conformal set promises: of all sets together, at home.
function meantFor(level) {
  return `Sets, large and small together, are meant to hold the right class of ${percent(level)} of home's cells; elsewhere they often hold that of far fewer, and of none that is of no class of the list.`;
}

// The conformal set in words.
function setInWords(model, found) {
  if (!model.card.sets) return "What cannot be ruled out is not known: no cells were held out to find it.";
  const { level } = model.card.sets;
  const names = found.set.map((c) => model.card.classes[c]);
  if (names.length === 0) return `No class fits as well as ${percent(level)} of the cells from home fit theirs: take it as unknown.`;
  if (names.length === 1) {
    return `Of its ${model.card.classes.length} classes only ${names[0]} is left.`;
  }
  return `Left over: ${listed(names)}.`;
}

// What the sets of a comparison promise, once for all models that give one.
function setsInWords(models, answers) {
  const giving = models.filter((model, i) => model.card.sets && answers[i].alarms.length === 0);
  return [...new Set(giving.map((model) => model.card.sets.level))].map(meantFor).join(" ");
}

// What the book's models of a family would never say, whatever the picture shows.
const NOT_AMONG_CLASSES = {
  "white cells": "The book's models have no class for blasts, reactive or malignant lymphocytes, plasma cells or smudge cells. They read one cell: a field of several may be called a platelet without a warning, so cut each cell out first.",
  "leukaemia fields": "Drawn fields only. 'Benign' stands for haematogones, 'early' for early pre-B, 'pre' for pre-B and 'pro' for pro-B acute lymphoblastic leukaemia. There is no class for a normal film, for T-cell or myeloid leukaemia, or for any other disease.",
};

// Where the weight of a map lies.
function whereabouts(map, side) {
  let [sum, x, y, border] = [0, 0, 0, 0];
  map.forEach((value, i) => {
    if (value <= 0) return;
    const [row, column] = [Math.floor(i / side), i % side];
    sum += value;
    x += value * ((column + 0.5) / side - 0.5);
    y += value * ((row + 0.5) / side - 0.5);
    if (Math.min(row, column) === 0 || Math.max(row, column) === side - 1) border += value;
  });
  const borderArea = (4 * side - 4) / (side * side);
  if (border / sum > borderArea + 0.15) return "mostly at the border of the picture";
  const vertical = y / sum < -0.08 ? "upper" : y / sum > 0.08 ? "lower" : "";
  const horizontal = x / sum < -0.08 ? "left" : x / sum > 0.08 ? "right" : "";
  return vertical || horizontal ? `mostly on the ${[vertical, horizontal].filter(Boolean).join(" ")} side` : "around the middle";
}

// How few squares hold half of what speaks for a class.
function mapInWords(what, map, side) {
  const positive = map.filter((value) => value > 0).sort().reverse();
  const all = positive.reduce((a, b) => a + b, 0);
  if (all <= 0) return `Nothing in the picture speaks for ${what}.`;
  let [count, sum] = [0, 0];
  while (sum < all / 2) {
    sum += positive[count];
    count += 1;
  }
  return `Half of what speaks for ${what} comes from ${count} of ${side * side} squares, ${whereabouts(map, side)}.`;
}

const MARGIN = 0.05;

// Whether a nucleus is to be expected in the middle of a picture: fields show many cells, and platelets have none.
const hasNucleus = (card, name) => card.family !== "leukaemia fields" && name !== "platelet";

// Does the map lie on what is stained like a nucleus?
function nucleusInWords(share, blind) {
  if (share === null) return "";
  const judged = share > blind + MARGIN ? "Yes, more than by pointing at the middle" : share < blind - MARGIN ? "No, less than by pointing at the middle" : "No more than by pointing at the middle";
  return `On what is stained like a nucleus? ${judged}: ${percent(share)} of the map, against ${percent(blind)}.`;
}

// Does the class hang on the squares of the map?
function deletionInWords(what, test) {
  const beats = (area) => test.map < area - MARGIN / 2;
  const chance = test.map < test.luckiest && beats(test.random);
  const verdict = !chance ? "Not more than on others" : beats(test.middle) ? "Yes" : "More than on random squares, but no more than on the middle";
  return `Does ${what} hang on these squares? ${verdict}: cover them, the strongest first, and ${what} keeps ${percent(test.map)} on average; from the middle outwards ${percent(test.middle)}, in random order ${percent(test.random)}.`;
}

const UNLIKE = 0.3;    // rank correlations up to this count as no likeness

// Does the map come from what the model learned?
function forgettingInWords(alike) {
  const told = alike.map((value) => (value === null ? "no map" : value.toFixed(2).replace("-", "\u2212"))).join(", ");
  const last = alike[alike.length - 1];
  const verdict = last === null ? "Yes, none is left" : Math.abs(last) > UNLIKE ? "No, it shows the picture more than the model" : "Yes";
  return `Does the map change when the model forgets? ${verdict}. With its weights shuffled from the last layer to the first, one more each time, the likeness to this map: ${told} (rank correlation; 1 is the same order of places). It should come near 0.`;
}

const MEASURED = { colours: "its colours", features: "what the network measures in it" };
const UNCHECKED = "Nobody checks whether this picture is of the kind that the model knows: it answers a flower as surely as a cell.";
const DRAWN_ONLY = "Trained on drawn images only: its answer to a real picture means nothing.";

const DISCLAIMER = "Not a medical device. An answer is no diagnosis, and nothing here is advice for the care of a patient.";

const NO_NUMBERS = "Its weights are so large that it computes no numbers: it answers nothing.";

// Why a model gives no answer.
function alarmInWords(model, found) {
  if (found.alarms.some(({ of }) => of === "weights")) return NO_NUMBERS;
  if (found.alarms.some(({ of }) => of === "training")) return DRAWN_ONLY;
  const seen = listed(found.alarms.map((detector) => MEASURED[detector.of]));
  const flags = model.card.scores.filter((score) => typeof score.flagged === "number");
  const elsewhere = flags.filter((score) => score.kind !== "joint").map((score) => `${score.where} ${percent(score.flagged)}`);
  const own = found.alarms[0].in_scope_flagged;
  const usual = elsewhere.length > 0 ? ` It also warns about good cells: ${elsewhere.join(", ")}.`
    : typeof own === "number" ? ` It also warns about ${percent(own)} of its own hospital's cells.` : "";
  return `Unlike the pictures it was made for, by ${seen}.${usual}`;
}
