"use strict";

// What can be set, its words, and its place in the address: `#hospitals=5&alpha=0.3`. What stands at its default
// is left out of the address.

const choice = (label, value, options, hint) => ({ kind: "choice", label, value, options, hint });
const slider = (label, value, steps, words, hint) => ({ kind: "slider", label, value, steps, words, hint });
const percent = (value) => `${Math.round(100 * value)} %`;

const SETTINGS = {
  hospitals: slider("Hospitals", 5, [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20], (n) => `${n}`, "Each stains in one of four ways."),
  patients: slider("Patients each", 25, [2, 4, 8, 12, 16, 20, 25, 30], (n) => `${n}`, "On average, as far as 174 patients go; about four cells of one kind a patient."),
  alpha: slider("Same kinds of cells", 100, [0.02, 0.1, 0.3, 1, 3, 100],
    (a) => ({ 0.02: "hardly any in common", 100: "yes, alike" })[a] ?? `alpha ${a}`, "Dirichlet's alpha; small: each hospital sees few kinds."),
  quantity: slider("Unequal sizes", 0, [0, 0.25, 0.5, 0.75, 1], percent, ""),
  stain: slider("Different stains", 1, [0, 0.25, 0.5, 0.75, 1, 1.25], percent, "How far the laboratories' colours lie apart."),
  aggregator: choice("Aggregator", "FedAvg", Object.fromEntries(Object.entries(AGGREGATORS).map(([name, { words }]) => [name, words])), ""),
  epochs: slider("Local epochs", 2, [1, 2, 3, 5, 8], (n) => `${n}`, "How often a hospital goes through its cells in a round."),
  rate: slider("Learning rate", 0.01, [0.002, 0.005, 0.01, 0.02, 0.05], (r) => `${r}`, ""),
  proximal: slider("FedProx", 0, [0, 0.01, 0.1, 1], (mu) => mu === 0 ? "off" : `mu ${mu}`, "Pulls a hospital's model towards the shared one."),
  norm: choice("Batch norm", "none", { none: "none", shared: "shared", local: "stays at home (FedBN)" }, ""),
  rounds: slider("Rounds", 10, [5, 10, 20, 30], (n) => `${n}`, ""),
  participation: slider("Asked each round", 1, [0.25, 0.5, 0.75, 1], percent, "Each hospital is drawn with this chance."),
  lost: slider("Replies lost", 0, [0, 0.1, 0.2, 0.4], percent, "A hospital trains, and its line drops."),
  bad: choice("A bad hospital", "none", {
    none: "none", mislabels: "mislabels its cells", noise: "sends noise", opposite: "sends the opposite",
  }, ""),
  hidden: choice("The bad one is", "no", { no: "marked", yes: "hidden: I shall find it" }, ""),
  clip: slider("Clip updates", 0, [0, 0.25, 0.5, 1, 2, 4], (c) => c === 0 ? "off" : `norm ${c}`, "Needed for noise to protect anyone."),
  noise: slider("Add noise", 0, [0, 0.25, 0.5, 1, 2, 4], (z) => z === 0 ? "off" : `${z} x clip`, "On the mean, by the server."),
  seed: slider("Seed", 0, Array.from({ length: 20 }, (_, i) => i), (n) => `${n}`, "Decides all that chance decides."),
};

const GROUPS = {
  "Hospitals and patients": ["hospitals", "patients", "alpha", "quantity", "stain"],
  "Training": ["aggregator", "epochs", "rate", "proximal", "norm", "rounds"],
  "What goes wrong": ["participation", "lost", "bad", "hidden"],
  "Privacy": ["clip", "noise"],
  "Chance": ["seed"],
};

const defaults = () => Object.fromEntries(Object.entries(SETTINGS).map(([name, { value }]) => [name, value]));

// Reads the address. Returns the setting, the challenge's name or null, the view ("whole", or "round" for the round
// and the challenge alone, inside another page), and a sentence for each thing that it asks for and that does not
// exist.
function readAddress(fragment, challenges) {
  const setting = defaults(), problems = [];
  const words = new URLSearchParams(fragment.replace(/^#/, "")), view = words.get("view") ?? "whole";
  let challenge = null;
  if (!VIEWS.includes(view)) problems.push(`There is no view “${view}”; choose one of ${VIEWS.join(", ")}.`);
  words.delete("view");
  for (const [name, text] of words) {
    if (name === "challenge") {
      if (text in challenges) challenge = text;
      else problems.push(`There is no challenge “${text}”.`);
    } else if (!(name in SETTINGS)) {
      problems.push(`The address sets “${name}”, which is none of the settings.`);
    } else if (!allowed(SETTINGS[name]).some((value) => String(value) === text)) {
      problems.push(`The address sets ${name} to “${text}”; choose one of ${allowed(SETTINGS[name]).join(", ")}.`);
    } else {
      setting[name] = SETTINGS[name].kind === "slider" ? Number(text) : text;
    }
  }
  const alone = words.toString() === `challenge=${challenge}`;  // a link from a chapter: as it opens
  return { setting: alone ? { ...setting, ...challenges[challenge].start } : setting, challenge, view, problems };
}

const VIEWS = ["whole", "round"];

const allowed = ({ kind, steps, options }) => kind === "slider" ? steps : Object.keys(options);

function writeAddress(setting, challenge) {
  const words = new URLSearchParams();
  if (challenge !== null) words.set("challenge", challenge);
  for (const [name, { value }] of Object.entries(SETTINGS)) {
    if (setting[name] !== value) words.set(name, setting[name]);
  }
  return words.size > 0 ? `#${words}` : "#";
}

// A sentence if the setting cannot do what it seems to, as the library warns too; or none.
function caveat(setting) {
  const n = setting.hospitals, rule = setting.aggregator;
  if (setting.noise > 0 && setting.clip === 0) return "Noise without clipping protects nobody: clip the updates too.";
  if (setting.clip > 0 && !AGGREGATORS[rule].mean) return "Clipping and noise here go with a mean: choose FedAvg, equal weights or FedAdam.";
  if (setting.clip > 0 && setting.norm === "shared") return "Shared batch norm tells the hospitals' statistics: with clipping, keep it at home or leave it out.";
  if (n === 1) return "One hospital is no federation: there is nothing to put together.";
  if (rule === "FedMedian" && n === 2) return "The median of two is their mean.";
  if (rule === "FedTrimmedMean" && n < 5) return `A fifth of ${n} is less than one: the trimmed mean leaves out nobody.`;
  if (rule === "Krum" && n < 5) return `Krum promises nothing among ${n}: it needs five hospitals to withstand one.`;
  return "";
}

// Whether a setting can be played at all.
const playable = (setting) => (setting.clip === 0 && setting.noise === 0)
  || (setting.clip > 0 && AGGREGATORS[setting.aggregator].mean && setting.norm !== "shared");

const hospitalName = (number) => String.fromCodePoint(65 + number);
