"use strict";

// The page: reads the address, starts a worker for the federation and one for each of its rivals, plays rounds,
// and shows what comes back.

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const TESTED = [...DATA.test.keys()].filter((cell) => DATA.test[cell] === 1);
const WORKER = URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" }));

const ring = makeRing($("ring"));
let sheet;               // bytes of all cells, unstained
let setting = defaults(), challenge = null;
let run = null;          // the run on the page
let before = [];         // earlier runs, the latest first
let workers = [];
let playing = false, waiting = false, chosen = null, timers = [];

// --- a run -------------------------------------------------------------------------------------------

function restart() {
  workers.forEach((worker) => worker.terminate());
  timers.forEach(clearTimeout);
  if (run !== null && run.rounds.length > 0) before = [run, ...before].slice(0, 12);
  playing = false;
  waiting = true;
  chosen = null;
  run = {
    setting: { ...setting }, rounds: [], rivals: [], hospitals: [], bad: null, colour: null, guesses: [],
    classes: DATA.classes.length, names: DATA.classes, test: TESTED, labels: DATA.label,
    epsilon: DATA.privacy.epsilons[`${setting.noise}/${setting.participation}/${setting.rounds}`] ?? null,
    pictures: new Map(), images: new Map(),
  };
  if (setting.clip === 0) run.epsilon = null;
  $("caveat").textContent = caveat(setting);
  $("told").textContent = "";
  workers = playable(setting) ? ["federation", "central", "alone"].map((role) => startWorker(role, run)) : [];
  showAll();
}

function startWorker(role, ofRun) {
  const worker = new Worker(WORKER);
  worker.onmessage = ({ data: answer }) => { if (ofRun === run) HEARD[answer.kind](answer); };
  worker.onerror = (event) => { $("problem").textContent = `The training stopped: ${event.message}. Restart it.`; };
  worker.postMessage({ kind: "start", data: DATA, sheet, setting: ofRun.setting, role });
  return worker;
}

// What workers say; see worker.js.
const HEARD = {
  start(answer) {
    if (answer.role === "alone") return;
    if (answer.role === "central") {
      run.colour = answer.colour;
      showCurves();
      showChallenges();
      return;
    }
    const marked = (number) => answer.bad?.hospital === number && setting.hidden === "no";
    run.hospitals = answer.hospitals.map((hospital) => (
      { ...hospital, name: hospitalName(hospital.number), marked: marked(hospital.number) }));
    run.bad = answer.bad;
    run.parameters = answer.parameters;
    waiting = false;
    showAll();
    if (playing) step();
  },
  training({ hospital }) {
    const early = TRAVEL - (performance.now() - run.sent);
    later(early > 0 && !calm() ? early : 0, () => ring.phase("training", { training: hospital }));
  },
  step(answer) {
    if (!("losses" in answer)) {
      hearRival(answer);
      showCurves();
      showOwn();
      showChallenges();
    } else {
      endRound(answer);
    }
  },
  maps(answer) {
    $("look").replaceChildren(...drawMaps(answer, cellOf(answer.cell, answer.stain), run));
  },
};

// What a rival says of a round joins what the other one has said of it.
function hearRival({ round, kind, ...said }) {
  const known = run.rivals.find((one) => one.round === round);
  if (known !== undefined) Object.assign(known, said);
  else run.rivals.push({ round, central: null, alone: null, ...said });
}

function later(wait, action) {
  timers.push(setTimeout(action, wait));
}

function step() {
  if (waiting || run.rounds.length >= run.setting.rounds) return;
  waiting = true;
  run.sent = performance.now();
  const asked = new Set(run.hospitals.map(({ number }) => number));
  ring.phase("out", { asked, training: null });
  workers.forEach((worker) => worker.postMessage({ kind: "step" }));
  showButtons();
}

function endRound(round) {
  run.rounds.push(round);
  waiting = false;
  timers.forEach(clearTimeout);
  timers = [];
  const asked = new Set(round.losses.map(([h]) => h));
  ring.phase("back", { asked, lost: new Set(round.lost), score: round.joint, round: round.round });
  $("told").textContent = tell(round);
  showRound();
  if (ended(run)) playing = false;
  if (playing) later(calm() ? 0 : TRAVEL, step);
  else later(TRAVEL, () => ring.phase("rest"));
  showButtons();
}

function tell(round) {
  const absent = run.hospitals.length - round.losses.length;
  const parts = [`Round ${round.round}: the shared model reads ${rounded(round.joint)} of new cells.`];
  if (absent > 0) parts.push(`${absent} not asked.`);
  if (round.lost.length > 0) parts.push(`The reply of ${round.lost.map(hospitalName).join(", ")} was lost.`);
  if (round.refused.length > 0) parts.push(`Refused, for its numbers are none or implausible: ${round.refused.map(hospitalName).join(", ")}.`);
  if (round.replies.length === 0) parts.push("No reply came; the model stays as it was.");
  return parts.join(" ");
}

// --- pictures ----------------------------------------------------------------------------------------

// The picture of a cell in the colours of a laboratory, made when it is first asked for.
function cellOf(cell, stain) {
  const key = `${cell} ${stain}`;
  if (!run.pictures.has(key)) {
    const one = sheet.slice(cell * 3 * SIDE * SIDE, (cell + 1) * 3 * SIDE * SIDE);
    run.pictures.set(key, cellImage(restain(one, DATA.stains[stain], DATA.dyes, run.setting.stain), 0));
  }
  return run.pictures.get(key);
}

// Some cells of a hospital, of all its kinds, in its own colours.
function imagesOf(hospital) {
  if (!run.images.has(hospital.number)) {
    const order = makeRandom("shown", hospital.number).order(hospital.cells.length);
    run.images.set(hospital.number, order.slice(0, 8).map((place) => cellOf(hospital.cells[place], hospital.stain)));
  }
  return run.images.get(hospital.number);
}

// --- showing -----------------------------------------------------------------------------------------

function showAll() {
  $("legend").replaceChildren(...drawLegend(DATA));
  const hospitals = run.hospitals.map((hospital) => (
    { ...hospital, images: imagesOf(hospital), main: hospital.kinds.indexOf(Math.max(...hospital.kinds)) }));
  ring.phase("rest", { asked: new Set(), lost: new Set(), score: null, round: 0 });
  ring.hospitals(hospitals);
  $("misread").replaceChildren(element("p", { class: "note" }, "None yet: play a round."));
  $("look").replaceChildren(element("p", { class: "note" }, "Choose a misread cell; here its picture shows what speaks for the wrong answer, and from which round on."));
  $("distance").replaceChildren(element("p", { class: "note" }, "Not yet: play a round."));
  showCurves();
  showOwn();
  showCost();
  showChallenges();
  showButtons();
}

function showRound() {
  const round = last(run.rounds);
  showCurves();
  showOwn();
  showMisread(round);
  $("distance").replaceChildren(round.replies.length > 0 ? drawDistances(round) : element("p", { class: "note" }, "No reply came."));
  showCost();
  showChallenges();
  if (chosen !== null) askForMaps();
}

function showCurves() {
  $("curves").replaceChildren(drawCurves(run, Math.max(300, $("curves").clientWidth)));
  $("scores").textContent = run.rounds.length > 0 ? `In round ${run.rounds.length}: ${curveWords(run)}.` : "";
}

function showOwn() {
  if (run.hospitals.length > 0) {
    $("own").replaceChildren(drawHospitals(run, imagesOf));
    $("own").tabIndex = 0;    // before, there is nothing to scroll to
  }
}

function showMisread(round) {
  const found = misreadCells(run, round.named), focused = document.activeElement?.dataset.cell;
  const buttons = some(found, 18).map((one) => {
    const text = `${run.names[one.is]}, read as ${run.names[one.named]}`;
    const button = element("button", { type: "button", "data-cell": `${one.cell} ${one.stain}`, "aria-pressed": "false" },
      cellStrip([cellOf(one.cell, one.stain)], 48), text);
    button.addEventListener("click", () => { chosen = one; pressChosen(); askForMaps(); });
    return button;
  });
  const words = found.length === 0 ? "None." : `${found.length} of ${round.named.length} readings are wrong; some of them:`;
  $("misread").replaceChildren(element("p", { class: "note" }, words), ...buttons);
  pressChosen();
  buttons.find((button) => button.dataset.cell === focused)?.focus();
}

function pressChosen() {
  for (const button of $("misread").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(chosen !== null && button.dataset.cell === `${chosen.cell} ${chosen.stain}`));
  }
}

function askForMaps() {
  workers[0].postMessage({ kind: "maps", cell: chosen.cell, stain: chosen.stain, label: chosen.named });
}

function showCost() {
  const sent = run.rounds.length > 0 ? last(run.rounds).bytesSent : 0;
  const rows = {
    "Numbers in the model": run.parameters?.toLocaleString("en") ?? "–",
    "Sent so far": `${(sent / 1e6).toFixed(2)} megabytes`,
    "Cells sent": "none",
    "Epsilon of the whole run": run.epsilon === null ? (setting.clip > 0 ? "infinite: no noise" : "not asked for")
      : `${run.epsilon} (delta ${DATA.privacy.delta}, for a whole hospital)`,
  };
  $("cost").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  $("clock").textContent = `round ${run.rounds.length} of ${run.setting.rounds}`;
}

function showButtons() {
  const over = ended(run), able = playable(setting);
  $("play").textContent = playing ? "Pause" : over ? "Play again" : "Play";
  $("play").disabled = !able;
  // Not `disabled`: a button that is takes the focus away from who presses it on a keyboard.
  $("step").setAttribute("aria-disabled", String(!able || playing || waiting || over));
}

// --- challenges --------------------------------------------------------------------------------------

const solved = new Set();

function showChallenges() {
  if (challenge === null) {
    if ($("list") === null) $("challenges").replaceChildren(listOfChallenges());
    return;
  }
  const { title, task, guesses, check } = CHALLENGES[challenge], broken = changed(challenge, setting);
  const { done, words } = broken.length > 0
    ? { done: false, words: `Leave as it was: ${broken.map((name) => SETTINGS[name].label).join(", ")}.` } : check(run, before);
  if (done) solved.add(challenge);
  const key = `${challenge} ${done} ${words} ${run.hospitals.length}`;
  if ($("challenges").dataset.shown === key) return;
  $("challenges").dataset.shown = key;
  if ($("verdict") === null || $("verdict").dataset.of !== challenge || guesses) {
    const back = element("a", { href: writeAddress(setting, null) }, "All challenges");
    const verdict = element("p", { class: "verdict", id: "verdict", role: "status", "data-of": challenge });
    const box = element("div", { class: "challenge", id: "box" }, element("h3", {}, title), element("p", {}, task));
    if (guesses) box.append(guessing());
    box.append(verdict, element("p", {}, back));
    $("challenges").replaceChildren(box);
  }
  $("box").classList.toggle("done", done);
  $("verdict").textContent = `${done ? "Done. " : ""}${words}`;
}

function listOfChallenges() {
  const list = element("ul", { id: "list" });
  for (const [name, { title, task }] of Object.entries(CHALLENGES)) {
    const link = element("a", { href: writeAddress(startOf(name), name) }, title);
    list.append(element("li", {}, solved.has(name) ? "Done: " : "", link, ` ${task}`));
  }
  return list;
}

function guessing() {
  const options = run.hospitals.map(({ name, number }) => element("option", { value: number }, `Hospital ${name}`));
  const select = element("select", { "aria-label": "The bad hospital" }, element("option", { value: "" }, "Which one?"), ...options);
  select.value = last(run.guesses) ?? "";
  select.addEventListener("change", () => {
    if (select.value !== "") run.guesses.push(Number(select.value));
    showChallenges();
    $("challenges").querySelector("select").focus();
  });
  return select;
}

// --- controls ----------------------------------------------------------------------------------------

function makeControls() {
  for (const [title, names] of Object.entries(GROUPS)) {
    const group = element("fieldset", {}, element("legend", {}, title));
    for (const name of names) group.append(makeControl(name, SETTINGS[name]));
    $("controls").append(group);
  }
}

function makeControl(name, { kind, label, steps, options, hint }) {
  const id = `set-${name}`, output = element("output", { for: id, id: `${id}-value` });
  const input = kind === "slider"
    ? element("input", { type: "range", id, min: 0, max: steps.length - 1, step: 1 })
    : element("select", { id }, ...Object.entries(options).map(([value, text]) => element("option", { value }, text)));
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  input.addEventListener("input", () => {
    setting[name] = kind === "slider" ? steps[Number(input.value)] : input.value;
    showControl(name);
    history.replaceState(null, "", writeAddress(setting, challenge));
    restart();
  });
  const heading = element("label", { for: id }, label, ...(kind === "slider" ? [output] : []));
  return element("div", { class: "control" }, heading, input, ...(hint ? [element("p", { class: "hint", id: `${id}-hint` }, hint)] : []));
}

function showControl(name) {
  const { kind, steps, words } = SETTINGS[name], input = $(`set-${name}`);
  if (kind === "choice") {
    input.value = setting[name];
    return;
  }
  input.value = steps.indexOf(setting[name]);
  $(`set-${name}-value`).textContent = words(setting[name]);
  input.setAttribute("aria-valuetext", words(setting[name]));
}

function readPage() {
  const read = readAddress(location.hash, CHALLENGES);
  ({ setting, challenge } = read);
  document.body.classList.toggle("round", read.view === "round");
  $("whole").href = writeAddress(setting, challenge);
  $("problem").textContent = read.problems.join(" ");
  delete $("challenges").dataset.shown;
  $("challenges").replaceChildren();
  Object.keys(SETTINGS).forEach(showControl);
  restart();
}

function play() {
  if (ended(run)) restart();
  playing = !playing;
  showButtons();
  if (playing) step();
}

async function start() {
  sheet = await decodeSheet(DATA);
  makeControls();
  $("play").addEventListener("click", play);
  $("step").addEventListener("click", () => { if ($("step").getAttribute("aria-disabled") === "false") step(); });
  $("restart").addEventListener("click", restart);
  window.addEventListener("hashchange", readPage);
  window.addEventListener("resize", () => { ring.draw(); showCurves(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => ring.draw());
  readPage();
}

start();
