// Reads a saved model, as `hemafl export MODEL --to page` writes it, and refuses what does not fit together.
"use strict";

const ATTENTIONS = ["se", "eca", "cbam", "none"];
const NORMS = ["batch", "frozen", "group", "none"];
const LARGEST = { width: 128, classes: 100, size: 1024 };    // as hemafl_lib.clinic.card
const LONGEST = { name: 200, text: 2000 };    // letters
const MOST = { sites: 1000, scores: 200, scope: 2, rows: 2000, products: 2e9 };

function bytesOf(base64) {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// A dropped model's bytes are base64; those of a model that is built in are bytes already.
function asBytes(data) {
  return data instanceof Uint8Array ? data : bytesOf(data);
}

function halfToFloat(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
  if (exponent === 31) return NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// A tensor's values, exactly; those of int8 are multiplied by the scale of their output channel.
function tensorOf({ dtype, shape, data, scale }) {
  const bytes = asBytes(data);
  if (dtype === "float32") return new Float64Array(new Float32Array(bytes.buffer));
  if (dtype === "float16") return Float64Array.from(new Uint16Array(bytes.buffer), halfToFloat);
  if (dtype !== "int8") throw new Refusal(`a tensor has the type '${dtype}'`);
  const scales = new Float32Array(asBytes(scale).buffer);
  const each = bytes.length / shape[0];
  return new Float64Array(new Int8Array(bytes.buffer)).map((value, i) => value * scales[Math.floor(i / each)]);
}

// The shapes of the tensors of an attention over so many channels.
function attentionShapes(attention, channels) {
  const few = Math.max(1, Math.floor(channels / 16));
  const twoLayers = (first, second) => ({
    [`${first}.weight`]: [few, channels], [`${first}.bias`]: [few], [`${second}.weight`]: [channels, few], [`${second}.bias`]: [channels],
  });
  if (attention === "se") return twoLayers("squeeze", "excite");
  if (attention === "eca") return { "neighbours.weight": [1, 1, 3] };
  if (attention === "cbam") return { ...twoLayers("channel.0", "channel.2"), "place.weight": [1, 2, 7, 7] };
  return {};
}

// The shape of every tensor that a network has.
function shapesOf({ width, classes, attention, norm }) {
  const shapes = {};
  let inputs = 3;
  [width, 2 * width, 4 * width].forEach((outputs, i) => {
    const block = `blocks.${i}`;
    shapes[`${block}.conv.weight`] = [outputs, inputs, 3, 3];
    const vectors = ["conv.bias"];
    if (norm !== "none") vectors.push("norm.weight", "norm.bias");
    if (norm === "batch" || norm === "frozen") vectors.push("norm.running_mean", "norm.running_var");
    for (const vector of vectors) shapes[`${block}.${vector}`] = [outputs];
    for (const [name, shape] of Object.entries(attentionShapes(attention, outputs))) shapes[`${block}.attention.${name}`] = shape;
    inputs = outputs;
  });
  shapes["embed.0.weight"] = [8 * width, inputs, 1, 1];
  shapes["embed.0.bias"] = [8 * width];
  shapes["head.weight"] = [classes, 8 * width];
  shapes["head.bias"] = [classes];
  return shapes;
}

// How many products an answer takes: each weight of a convolution is used at each place of its maps.
function productsOf(network) {
  const shrunk = (name) => (name.startsWith("blocks.") ? Number(name[7]) + (name.includes(".attention.") ? 1 : 0) : 3);
  const places = (name, shape) => (shape.length === 4 ? (network.size >> shrunk(name)) ** 2 : 1);
  return Object.entries(shapesOf(network)).reduce((sum, [name, shape]) => sum + shape.reduce((a, b) => a * b, places(name, shape)), 0);
}

// Letters that turn the text around them, are no letters or are not seen could make a name look like another.
// hemafl_lib/clinic/card.py has the same rule.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}|^ | $| {2}/u;
const UNPRINTED = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/u;
const isName = (value) => typeof value === "string" && value.length > 0 && value.length <= LONGEST.name && !UNSEEN.test(value);
const isRemark = (value) => value === undefined || (typeof value === "string" && value.length <= LONGEST.text && !UNPRINTED.test(value));
const isShare = (value) => isNumber(value) && value >= 0 && value <= 1;
const isList = (value, most, fits) => Array.isArray(value) && value.length <= most && value.every(fits);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const areNumbers = (values, count) => Array.isArray(values) && values.length === count && values.every(isNumber);

function demand(holds, what) {
  if (!holds) throw new Refusal(what);
}

function checkNetwork(network) {
  demand(network && network.kind === "AttentionCNN", "its network is no attention CNN");
  demand(ATTENTIONS.includes(network.attention), `its attention is none of: ${ATTENTIONS.join(", ")}`);
  demand(NORMS.includes(network.norm), `its norm is none of: ${NORMS.join(", ")}`);
  for (const [name, largest] of Object.entries(LARGEST)) {
    const least = name === "size" ? 8 : 1;
    demand(Number.isInteger(network[name]) && network[name] >= least && network[name] <= largest, `its ${name} is no whole number from ${least} to ${largest}`);
  }
  demand(productsOf(network) <= MOST.products, "it is too large for a browser");
}

function checkCard(card, network) {
  demand(card && ["name", "family", "arm"].every((key) => isName(card[key])), `its card lacks a name, family or arm of at most ${LONGEST.name} plain letters`);
  const told = ["title", "about", "made", "version", "code", "data"].find((key) => !isRemark(card[key]));
  demand(told === undefined, `'${told}' of its card is no text of at most ${LONGEST.text} letters that can be printed`);
  demand(typeof card.simulated === "boolean", "its card does not say whether it was trained on drawn images only");
  demand(isList(card.classes, network.classes, isName) && card.classes.length === network.classes, `its card does not name ${network.classes} classes`);
  demand(new Set(card.classes).size === card.classes.length, "two classes of its card have the same name");
  demand(card.sites === undefined || isList(card.sites, MOST.sites, isName), `the sites of its card are no list of at most ${MOST.sites} names`);
  demand(isNumber(card.temperature) && card.temperature >= 1e-6 && card.temperature <= 1e6, "its temperature is no number from 0.000001 to 1000000");
  demand(!card.sets || (isShare(card.sets.level) && isShare(card.sets.threshold)), "its sets lack a level or threshold");
  demand(isList(card.scores, MOST.scores, isScore), `its card has no list of at most ${MOST.scores} scores, each of a kind of: ${Object.keys(KINDS_OF_SCORE).join(", ")}`);
  demand(isList(card.scope, MOST.scope, (detector) => isDetector(detector, network)), "a scope detector of its card is incomplete, too large or one too many");
}

function isScore(score) {
  return score && isName(score.where) && isShare(score.balanced_accuracy) && Object.hasOwn(KINDS_OF_SCORE, score.kind);
}

function isDetector(detector, network) {
  const count = { colours: 15, features: 8 * network.width }[detector?.of];
  const kinds = Object.keys(detector?.detected ?? {});
  return isNumber(count) && areNumbers(detector.mean, count) && isNumber(detector.threshold) && isList(kinds, MOST.scores, isName)
    && isList(detector.matrix, MOST.rows, (row) => areNumbers(row, count));
}

function checkedTensors(tensors, network) {
  const result = {};
  for (const [name, shape] of Object.entries(shapesOf(network))) {
    const given = tensors && tensors[name];
    demand(given && JSON.stringify(given.shape) === JSON.stringify(shape), `its tensor ${name} is missing or of another shape`);
    let values;
    try {
      values = tensorOf(given);
    } catch {
      throw new Refusal(`its tensor ${name} cannot be read`);
    }
    const count = shape.reduce((a, b) => a * b, 1);
    demand(values.length === count && values.every(Number.isFinite), `its tensor ${name} holds too few, too many or no finite numbers`);
    result[name] = values;
  }
  return result;
}

// Returns a model from the JSON of a file; raises a Refusal that says what does not fit.
function readModel(given) {
  demand(given && given.format === "hemafl page model", "it is no model of this page");
  demand(given.version === 1, `it is of ${isNumber(given.version) ? `version ${given.version}` : "no version"} and this page reads version 1`);
  checkNetwork(given.network);
  checkCard(given.card, given.network);
  return { card: given.card, network: { ...given.network, tensors: checkedTensors(given.tensors, given.network) } };
}

async function readModelFile(file) {
  try {
    if (file.size > MOST_BYTES) throw new Refusal("it is larger than 100 MB");
    return { ...readModel(JSON.parse(await file.text())), fromFile: true };
  } catch (error) {
    const why = error instanceof Refusal ? error.message : "it is no whole JSON file";
    throw new Refusal(`${file.name} cannot be used as a model: ${why}; write it anew with hemafl export MODEL --to page.`);
  }
}
