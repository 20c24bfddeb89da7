// What a person does on the page, and what then happens.
"use strict";

const byId = (id) => document.getElementById(id);
const MOST_AT_ONCE = 200;
const MOST_OBLONG = 1.2;    // the longer side of a picture over the shorter, beyond which it is remarked on
const SQUASHED = "not square, and the models see it squashed: cut out a square";

const state = {
  models: [],    // all that the page knows
  family: null,
  hidden: new Set(),    // models of the family that are not shown
  entries: [],    // pictures
  current: null,
  cards: [],    // of the picture and models on screen
};

let madeAddress;

function workerAddress() {
  const code = [byId("mathematics").textContent, byId("worker").textContent];
  madeAddress ??= URL.createObjectURL(new Blob(code, { type: "text/javascript" }));
  return madeAddress;
}

// Work that takes long, in a thread of its own; stopping it forgets what was asked.
class Runner {
  constructor() {
    this.waiting = new Map();
    this.count = 0;
  }

  start() {
    this.worker = new Worker(workerAddress());
    this.worker.addEventListener("message", ({ data: { id, share, result } }) => {
      const { tell, done } = this.waiting.get(id);
      if (result === undefined) return tell(share);
      this.waiting.delete(id);
      return done(result);
    });
  }

  ask(job, ask, done, tell = () => {}) {
    if (!this.worker) this.start();
    this.count += 1;
    this.waiting.set(this.count, { done, tell });
    this.worker.postMessage({ id: this.count, job, ask });
  }

  stop() {
    if (this.waiting.size === 0) return;
    this.worker.terminate();
    this.worker = null;
    this.waiting.clear();
  }
}

const tester = new Runner();
const coverer = new Runner();

// Messages

function say(sentence, kind = "told") {
  const close = htmlElement("button", { type: "button", "aria-label": "Close this message" }, "×");
  const message = htmlElement("p", { class: kind }, htmlElement("span", {}, sentence), close);
  close.addEventListener("click", () => message.remove());
  byId("messages").append(message);
}

// Pictures

function familyModels() {
  return state.models.filter((model) => model.card.family === state.family);
}

function shownModels() {
  return familyModels().filter((model) => !state.hidden.has(model));
}

// The model that the gallery quotes.
function quotedModel() {
  const models = shownModels();
  return models.find((model) => model.card.arm === "federated") ?? models[0];
}

function newEntry(decoded, facts) {
  const { width, height } = decoded;
  const entry = { width, height, picture: displayCopy(decoded), inputs: new Map(), answers: new Map(), tests: new Map(), insist: false, remark: "", ...facts };
  resizeFor(entry, decoded);
  return entry;
}

// Makes the pixels that models read, in each of their sizes.
function resizeFor(entry, { pixels, width, height }, models = state.models) {
  for (const { network: { size } } of models) {
    if (!entry.inputs.has(size)) entry.inputs.set(size, resized(pixels, width, height, size));
  }
}

// A model's answer to a picture. One that has seen drawn images only knows nothing of a person's own.
function answerOf(entry, model) {
  if (!entry.answers.has(model)) {
    const found = answer(model, entry.inputs.get(model.network.size));
    if (entry.own && model.card.simulated) found.alarms.push({ of: "training" });
    entry.answers.set(model, found);
  }
  return entry.answers.get(model);
}

const isOblong = ({ width, height }) => Math.max(width, height) > MOST_OBLONG * Math.min(width, height);

const pause = () => new Promise((resolve) => setTimeout(resolve));

let taking = Promise.resolve();
let stops = 0;    // how often a person has stopped the reading
const MANY = 10;    // files from which on it is told how far the reading is

function stopReading() {
  stops += 1;
}

// Tells how far the reading of many files is, with a button to stop it.
function readingOf(count) {
  if (count < MANY) return { tell: () => {}, end: () => {} };
  const words = htmlElement("span");
  const stop = htmlElement("button", { type: "button" }, "Stop");
  stop.addEventListener("click", stopReading);
  const message = htmlElement("p", { class: "told", "aria-live": "off" }, words, stop);
  byId("messages").append(message);
  return { tell: (done) => { words.textContent = `Reading ${done} of ${count} ...`; }, end: () => message.remove() };
}

// Takes in pictures and models, one after the other, also of two drops.
function take(files) {
  const list = [...files];
  taking = taking.then(() => takeEach(list), () => takeEach(list));
  return taking;
}

// What cannot be used is said, and the rest goes on.
async function takeEach(list) {
  if (list.length > MOST_AT_ONCE) say(`${list.length} files came and the first ${MOST_AT_ONCE} are read; give the rest afterwards.`, "refused");
  const files = list.slice(0, MOST_AT_ONCE);
  const [oblong, before, progress] = [[], stops, readingOf(files.length)];
  let [first, due, count] = [null, 0, 0];
  for (const [i, file] of files.entries()) {
    if (stops !== before) break;
    progress.tell(i + 1);
    try {
      if (/\.json$/i.test(file.name)) {
        await addModel(await readModelFile(file));
      } else {
        const decoded = await decode(file);
        if (stops !== before) break;
        const note = isOblong(decoded) ? `It is ${SQUASHED}.` : "";
        const entry = newEntry(decoded, { file, label: file.name, note, own: true });
        state.entries.push(entry);
        if (note) oblong.push(entry.label);
        first ??= entry;
        count += 1;
        const began = performance.now();
        if (began > due) {    // of many pictures most time goes to reading, not to drawing them anew
          drawGallery();
          due = performance.now() + 10 * (performance.now() - began);
        }
      }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      say(error.message, "refused");
    }
    await pause();
  }
  progress.end();
  if (count > 0) drawGallery();
  if (oblong.length > 0) say(`${oblong.length > 3 ? `${oblong.length} of the pictures` : listed(oblong)} ${oblong.length > 1 ? "are" : "is"} ${SQUASHED}.`);
  if (stops !== before) say(`The reading was stopped after ${count} of ${files.length} files; give the rest again.`);
  if (state.entries.includes(first)) {
    show(first);
    comeIntoView();
    if (stops === before) say(list.length === 1 ? `${first.label} is read; it stays in this browser.` : "The pictures are read; they stay in this browser.");
  }
}

// Takes a model from a file into use, in place of an earlier one of its name.
async function addModel(model) {
  const { name } = model.card;
  const old = state.models.find((each) => each.card.name === name);
  if (old && !old.fromFile) throw new Refusal(`${name} is the name of a model of the book; save yours under another name.`);
  for (const entry of state.entries) {
    if (!entry.inputs.has(model.network.size)) resizeFor(entry, await decode(entry.file), [model]);
  }
  tester.stop();
  coverer.stop();
  for (const { answers, tests } of state.entries) {
    answers.delete(old);
    tests.clear();
  }
  state.models = state.models.filter((each) => each !== old).concat(model);
  state.family = model.card.family;
  state.hidden.clear();
  drawFamilies();
  refresh(model);
  comeIntoView();
  say(`The model ${name} is in use; its card stands below.`);
}

async function readSamples() {
  const samples = JSON.parse(byId("cells").textContent);
  for (const sample of samples) {
    const file = new File([bytesOf(sample.picture)], sample.label);
    state.entries.push(newEntry(await decode(file), { file, label: sample.label, note: sample.note, family: sample.family, own: false }));
  }
}

// The gallery

function galleryEntries() {
  return state.entries.filter((entry) => entry.own || entry.family === state.family || entry.family === null);
}

function shortAnswer(entry) {
  const model = quotedModel();
  if (!model) return "";
  const found = answerOf(entry, model);
  return found.alarms.length > 0 ? "no answer" : `${model.card.classes[found.best]} ${percent(found.probabilities[found.best])}`;
}

function thumbnail(entry) {
  const small = htmlElement("canvas", { width: 96, height: 96, "aria-hidden": "true" });
  const { width, height } = entry.picture;
  const side = Math.min(width, height);
  small.getContext("2d").drawImage(entry.picture, (width - side) / 2, (height - side) / 2, side, side, 0, 0, 96, 96);
  entry.caption = htmlElement("span", { class: "small" });
  const button = htmlElement("button", { type: "button", class: "cell" }, small, htmlElement("span", {}, entry.label), entry.caption);
  if (entry === state.current) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => {
    show(entry);
    comeIntoView();
  });
  entry.button = button;
  return button;
}

// Where the answer lies below the gallery, a narrow screen moves on to it.
function comeIntoView() {
  if (byId("result").getBoundingClientRect().top > window.innerHeight / 2) byId("result").scrollIntoView();
}

// Writes the answers under the pictures, one after the other, so that nobody waits for them.
async function fillCaptions(entries) {
  for (const entry of entries) {
    await pause();
    if (entry.caption.isConnected) entry.caption.textContent = shortAnswer(entry);
  }
}

function drawGallery() {
  const entries = galleryEntries();
  const groups = [["Yours", entries.filter((entry) => entry.own)], ["Drawn samples, of no patient", entries.filter((entry) => !entry.own)]];
  byId("gallery").replaceChildren(...groups.filter(([, members]) => members.length > 0).map(([title, members]) => (
    htmlElement("div", { role: "group", "aria-label": title }, htmlElement("h3", {}, title), htmlElement("div", { class: "strip" }, ...members.map(thumbnail)))
  )));
  for (const id of ["forget", "save-table"]) byId(id).hidden = !entries.some((entry) => entry.own);
  fillCaptions(entries);
}

function moveInGallery(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const entries = galleryEntries();
  const at = entries.findIndex((entry) => entry.button === document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  const next = entries[(at + step + entries.length) % entries.length];
  show(next);
  next.button.focus();
}

function forget() {
  stopReading();
  state.entries = state.entries.filter((entry) => !entry.own);
  for (const entry of state.entries) entry.remark = "";
  byId("messages").replaceChildren();
  drawGallery();
  show(openingEntry());
}

// Families and models

function choice(type, name, number, label, checked, change) {
  const input = htmlElement("input", { type, name, id: `${name}-${number}` });
  input.checked = checked;
  input.addEventListener("change", () => change(input.checked));
  return htmlElement("span", {}, input, htmlElement("label", { for: input.id }, label));
}

function drawFamilies() {
  const families = [...new Set(state.models.map((model) => model.card.family))];
  const radios = families.map((family, i) => choice("radio", "family", i, family, family === state.family, () => chooseFamily(family)));
  const boxes = familyModels().map((model, i) => choice("checkbox", "arm", i, labelOf(model), !state.hidden.has(model), (checked) => {
    if (checked) state.hidden.delete(model);
    else state.hidden.add(model);
    refresh();
  }));
  const rest = families.length > 0 ? [] : [htmlElement("p", {}, "No model is built into this page; drop one that hemafl saved.")];
  byId("families").replaceChildren(htmlElement("legend", {}, "Models"), ...radios,
    htmlElement("div", { role: "group", "aria-label": "Compare", class: "arms" }, ...boxes), ...rest);
}

// The first picture of the gallery that most models answer: the page opens on what it is for.
function openingEntry() {
  const models = shownModels();
  let [best, fewest] = [null, Infinity];
  for (const entry of galleryEntries()) {
    const silent = models.filter((model) => answerOf(entry, model).alarms.length > 0).length;
    if (silent < fewest) [best, fewest] = [entry, silent];
    if (fewest === 0) break;
  }
  return best;
}

function chooseFamily(family) {
  state.family = family;
  state.hidden.clear();
  drawFamilies();
  if (!galleryEntries().includes(state.current)) state.current = openingEntry();
  refresh();
}

// Draws all that depends on the models again.
function refresh(opened = null) {
  drawGallery();
  drawTargets();
  const models = shownModels();
  byId("scores").replaceChildren(scoreTable(models));
  byId("about").replaceChildren(...models.map((model) => aboutModel(model, model === opened)));
  show(state.current);
}

function option(value, label) {
  return htmlElement("option", { value }, label);
}

function drawTargets() {
  const names = [...new Set(shownModels().flatMap((model) => model.card.classes))];
  byId("target").replaceChildren(option("", "each model's answer"), ...names.map((name) => option(name, name)));
  byId("against").replaceChildren(option("", "(nothing else)"), ...names.map((name) => option(name, name)));
}

// The picture on screen

function viewOf() {
  return {
    signed: byId("sign").value === "signed",
    smooth: byId("smooth").checked,
    shared: byId("shared").checked,
    opacity: byId("opacity").value / 100,
    nucleus: byId("nucleus").checked,
  };
}

// The class that a model's map explains, and the one it is set against; null where the model does not know it.
function asked(model, found) {
  const [target, against] = [byId("target").value, byId("against").value];
  const of = (name) => model.card.classes.indexOf(name);
  const explained = target === "" ? found.best : of(target);
  return { target: explained, against: against === "" || of(against) < 0 || of(against) === explained ? null : of(against) };
}

function whatIsAsked(model, { target, against }) {
  return model.card.classes[target] + (against === null ? "" : ` rather than ${model.card.classes[against]}`);
}

// Shows a picture: builds the cards anew.
function show(entry) {
  tester.stop();
  coverer.stop();
  state.current = entry;
  byId("remark").value = entry?.remark ?? "";
  for (const each of state.entries) {
    if (each === entry) each.button?.setAttribute("aria-current", "true");
    else each.button?.removeAttribute("aria-current");
  }
  const models = shownModels();
  byId("result").classList.toggle("empty", !entry || models.length === 0);
  if (!entry) {
    byId("cards").replaceChildren();
    byId("which").textContent = "No cell yet";
    return;
  }
  byId("which").textContent = entry.own ? entry.label : `Drawn sample: ${entry.label}`;
  const answers = models.map((model) => answerOf(entry, model));
  byId("verdict").textContent = models.length > 0 ? verdictOf(models, answers) : "Choose a model.";
  const promised = setsInWords(models, answers);
  byId("sets").textContent = promised;
  byId("sets").hidden = promised === "";
  const lacking = NOT_AMONG_CLASSES[state.family];
  byId("lacking").textContent = lacking ?? "";
  byId("lacking").hidden = !lacking;
  warn(entry, models, answers);
  const original = originalCard(entry);
  state.cards = models.map((model, i) => ({ model, found: answers[i], ...modelCard(model, i) }));
  state.original = original;
  byId("cards").replaceChildren(original.card, ...state.cards.map(({ card }) => card));
  for (const { model, found, parts } of state.cards) parts.answer.replaceChildren(...answerParts(model, found, entry.insist));
  redraw();
}

// A warning that is as loud as the answer would be.
function warn(entry, models, answers) {
  const silent = models.filter((_, i) => answers[i].alarms.length > 0);
  const warning = byId("warning");
  warning.hidden = silent.length === 0;
  if (silent.length === 0) return;
  const who = silent.length === models.length ? "No model answers" : `No answer from: ${listed(silent.map(labelOf))}`;
  const [it, was] = silent.length === 1 ? ["it", "was"] : ["they", "were"];
  const drawn = answers.every(({ alarms }) => alarms.length === 0 || alarms.some(({ of }) => of === "training"));
  const why = drawn ? `Trained on drawn images only: an answer to a real picture means nothing. `
    : `This picture is unlike those that ${it} ${was} made for: another kind of cell, stain, camera or cut, or no cell at all. A confidence would mean nothing. `;
  const insist = htmlElement("button", { type: "button", "aria-pressed": String(entry.insist) }, `Show what ${it} would have said`);
  insist.addEventListener("click", () => {
    entry.insist = !entry.insist;
    show(entry);
    byId("warning").querySelector("button").focus();
  });
  warning.replaceChildren(htmlElement("strong", {}, `${who}. `), why, insist);
}

function nucleusOf(entry, size) {
  entry.nuclei ??= new Map();
  if (!entry.nuclei.has(size)) entry.nuclei.set(size, likelyNucleus(entry.inputs.get(size)));
  return entry.nuclei.get(size);
}

// Draws the maps again: after a change of the view or of what is explained.
function redraw() {
  const entry = state.current;
  if (!entry || state.cards.length === 0) return;
  tester.stop();
  const view = viewOf();
  const maps = state.cards.map(({ model, found }) => {
    const about = asked(model, found);
    const withdrawn = found.alarms.length > 0 && !entry.insist;
    return about.target < 0 || withdrawn ? null : { about, map: contributions(model, found, about.target, about.against), side: found.side };
  });
  const largest = (map) => Math.max(1e-9, ...map.map((value) => (view.signed ? Math.abs(value) : value)));
  const known = maps.filter(Boolean);
  const top = view.shared && known.length > 0 ? Math.max(...known.map(({ map }) => largest(map))) : null;
  const size = state.cards[0].model.network.size;
  drawOriginal(state.original.canvas, entry.picture, view.nucleus ? nucleusOf(entry, size) : null);
  state.cards.forEach((card, i) => drawCard(entry, card, maps[i], view, top ?? (maps[i] && largest(maps[i].map))));
  state.original.legend.replaceChildren(...legendOf(view, top));
  testLater(entry, maps);
}

function drawCard(entry, { model, found, card, parts }, made, view, top) {
  card.classList.toggle("without-map", !made);
  if (!made) {
    const silent = found.alarms.length > 0;
    parts.says.textContent = silent ? "Its map is withdrawn with the answer." : `This model does not know the class ${byId("target").value}.`;
    for (const part of [parts.map, parts.inside, parts.deletion, parts.forgetting, parts.cover]) part.replaceChildren();
    return;
  }
  const what = whatIsAsked(model, made.about);
  const sentence = mapInWords(what, made.map, made.side);
  const mask = nucleusOf(entry, model.network.size);
  const canvas = canvasLike(entry.picture);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Map of the ${armOf(model)}. ${sentence}`);
  drawMap(canvas, entry.picture, made, view, top, view.nucleus ? mask : null);
  parts.map.replaceChildren(canvas);
  parts.says.textContent = sentence;
  parts.inside.textContent = hasNucleus(model.card, model.card.classes[made.about.target])
    ? nucleusInWords(shareInside(made.map, made.side, mask), shareInside(centred(made.side), made.side, mask)) : "";
  offerCovering(entry, model, parts, made.about.target, view);
}

// The tests of a map

let waitingTest;

// Tests the maps when the person has stopped changing things.
function testLater(entry, maps) {
  clearTimeout(waitingTest);
  waitingTest = setTimeout(() => state.cards.forEach(({ model, found, parts }, i) => {
    if (maps[i]) testMap(entry, model, found, parts, maps[i]);
  }), 250);
}

function testMap(entry, model, found, parts, { about, map, side }) {
  // The tests measure one class; a contrast of two is another map, of which they say nothing.
  if (about.against !== null) {
    for (const part of [parts.deletion, parts.forgetting]) part.replaceChildren();
    return;
  }
  const what = model.card.classes[about.target];
  const ask = { model, image: found.image, target: about.target, map, side };
  testOnce(entry, parts.deletion, "deletion", ask, (test) => deletionInWords(what, test), `Covering squares, to see whether ${what} hangs on them ...`);
  testOnce(entry, parts.forgetting, "forgetting", ask, forgettingInWords, "Shuffling weights, to see whether the map changes ...");
}

// Writes what a test says into its place; it is done once for each picture, model and class.
function testOnce(entry, part, job, ask, inWords, meanwhile) {
  const key = `${job} ${ask.model.card.name} ${ask.target}`;
  const tell = (test) => { part.textContent = inWords(test); };
  if (entry.tests.has(key)) return tell(entry.tests.get(key));
  part.textContent = meanwhile;
  return tester.ask(job, ask, (test) => {
    entry.tests.set(key, test);
    tell(test);
  });
}

function offerCovering(entry, model, parts, target, view) {
  const key = `occlusion ${model.card.name} ${target}`;
  if (entry.tests.has(key)) return drawCovering(entry, model, parts, target, view, entry.tests.get(key));
  const button = htmlElement("button", { type: "button" }, "Cover each place and look again");
  button.addEventListener("click", () => cover(entry, model, parts, target, key));
  return parts.cover.replaceChildren(button);
}

function cover(entry, model, parts, target, key) {
  coverer.stop();
  const progress = htmlElement("progress", { max: 1, value: 0, "aria-label": `Covering places for the ${armOf(model)}` });
  const cancel = htmlElement("button", { type: "button" }, "Stop");
  cancel.addEventListener("click", () => {
    coverer.stop();
    offerCovering(entry, model, parts, target, viewOf());
    parts.cover.querySelector("button").focus();
  });
  parts.cover.replaceChildren(progress, cancel);
  cancel.focus();
  const { image } = answerOf(entry, model);
  coverer.ask("occlusion", { model, image, target }, (found) => {
    entry.tests.set(key, found);
    if (state.current === entry && parts.cover.isConnected) drawCovering(entry, model, parts, target, viewOf(), found);
  }, (share) => { progress.value = share; });
}

function drawCovering(entry, model, parts, target, view, found) {
  const canvas = canvasLike(entry.picture);
  const what = model.card.classes[target];
  const sentence = `Covering tells which places matter, without looking inside the model. ${mapInWords(what, found.map, found.side)}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Places that matter when covered, ${armOf(model)}. ${sentence}`);
  drawMap(canvas, entry.picture, found, view, Math.max(1e-9, ...found.map.map(Math.abs)), null);
  parts.cover.replaceChildren(canvas, htmlElement("p", {}, sentence));
}

// Reports

// A cell of a table, which no program for tables may take for a formula.
function quoted(value) {
  return `"${String(value).replace(/^(?=[=+\-@\t\r\n])/, "'").replace(/"/g, '""')}"`;
}

// One row a picture and model of the family.
function tableOfAnswers() {
  const rows = [["picture", "model", "answer", "probability", "cannot be ruled out", "outside its scope", "note"]];
  for (const entry of galleryEntries().filter(({ own }) => own)) {
    for (const model of shownModels()) {
      const found = answerOf(entry, model);
      const silent = found.alarms.length > 0;
      const outside = silent ? "yes" : model.card.scope.length === 0 ? "not checked" : "no";
      const set = found.set.map((c) => model.card.classes[c]).join("; ");
      rows.push([entry.label, nameOf(model), ...(silent ? ["", "", ""] : [model.card.classes[found.best], found.probabilities[found.best].toFixed(3), set]), outside, DISCLAIMER]);
    }
  }
  return `${rows.map((row) => row.map(quoted).join(",")).join("\r\n")}\r\n`;
}

function saveTable() {
  const address = URL.createObjectURL(new Blob(["\ufeff", tableOfAnswers()], { type: "text/csv" }));
  htmlElement("a", { href: address, download: "answers.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function preparePrint() {
  byId("printed-remark").textContent = state.current?.remark ? `Remark: ${state.current.remark}` : "";
  byId("printed-when").textContent = `Printed ${new Date().toLocaleString("en-GB")}. Models: ${shownModels().map((model) => `${nameOf(model)} (${[model.card.version && `hemafl ${model.card.version}`, model.card.code && `code ${model.card.code.slice(0, 12)}`].filter(Boolean).join(", ")})`).join("; ")}.`;
}

// What the page listens to

function listenToFiles() {
  for (const id of ["files", "camera"]) {
    byId(id).addEventListener("change", (event) => {
      take([...event.target.files]);
      event.target.value = "";
    });
  }
  const veil = byId("drop-here");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) veil.hidden = true; });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    if (event.dataTransfer.files.length > 0) take(event.dataTransfer.files);
    else say("What was dropped holds no file; save the picture first, then drop its file.", "refused");
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length > 0) take(event.clipboardData.files);
    else if (!event.target.matches?.("input, textarea")) say("What was pasted holds no picture; copy the picture itself, or drop its file.", "refused");
  });
}

function listenToControls() {
  byId("view").addEventListener("input", redraw);
  byId("view").addEventListener("submit", (event) => event.preventDefault());
  byId("gallery").addEventListener("keydown", moveInGallery);
  byId("forget").addEventListener("click", forget);
  byId("save-table").addEventListener("click", saveTable);
  byId("remark").addEventListener("input", () => { if (state.current) state.current.remark = byId("remark").value; });
  byId("print").addEventListener("click", () => window.print());
  window.addEventListener("beforeprint", preparePrint);
}

async function inflated(base64) {
  const plain = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}

// The models that are built in, as hemafl_book/build/clinic_page.py packs them.
async function builtIn() {
  const given = JSON.parse(byId("models").textContent);
  const [text, whole, real] = await Promise.all([given.json, given.whole, given.real].map(inflated));
  const models = JSON.parse(new TextDecoder().decode(text));
  const part = (bytes, [start, count]) => bytes.slice(start, start + count);
  for (const tensor of models.flatMap((model) => Object.values(model.tensors))) {
    tensor.data = part(tensor.dtype === "int8" ? whole : real, tensor.data);
    if (tensor.scale) tensor.scale = part(real, tensor.scale);
  }
  return models;
}

async function start() {
  state.models = (await builtIn()).map(readModel);
  state.family = state.models[0]?.card.family ?? null;
  listenToFiles();
  listenToControls();
  await readSamples();
  drawFamilies();
  state.current = openingEntry();
  refresh();
  document.body.dataset.ready = "yes";
}

start();
