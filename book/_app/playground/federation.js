"use strict";

// Federated rounds. What chance decides is passed in: `orders(hospital, round)` gives the orders of the cells,
// `normal(kind, hospital, round)` standard normal numbers, one for each number of the network.
// tests/show/test_playground.py plays such rounds and compares them with hemafl_lib.federation.run.

const NOISE_SENT = 0.1;      // standard deviation of what a hospital sends that sends noise
const OPPOSITE_FACTOR = -4;  // what a hospital that sends the opposite multiplies its update by

// What a bad hospital does to its own labels before it trains: each cell is called the next kind.
const mislabel = (labels, classes) => labels.map((label) => (label + 1) % classes);

// And to what it sends.
function twist(bad, sent, current, normal) {
  if (bad === "noise") return sent.map((_, i) => current[i] + NOISE_SENT * normal[i]);
  if (bad === "opposite") return sent.map((value, i) => current[i] + OPPOSITE_FACTOR * (value - current[i]));
  return sent;
}

// A federation before its first round. `hospitals` have cells and labels; `bad` is null or
// { hospital, kind: "mislabels" | "noise" | "opposite" }; `setting` holds epochs, rate, batch, proximal,
// aggregator, keepNorm (FedBN), privacy (null or { clip, noise, sampling }), trim and serverRate.
function startFederation(network, bytes, hospitals, initial, setting, bad = null) {
  const labelsOf = (hospital, h) => bad?.kind === "mislabels" && bad.hospital === h
    ? mislabel(hospital.labels, network.classes) : hospital.labels;
  return {
    network, bytes, setting, bad, current: Float32Array.from(initial), state: {}, round: 0, bytesSent: 0,
    hospitals: hospitals.map((hospital, h) => ({ ...hospital, labels: labelsOf(hospital, h), kept: null })),
  };
}

// Puts the arrays of norms that a hospital keeps (FedBN) into the numbers that it received.
function withOwnNorm(federation, vector, hospital) {
  const own = Float32Array.from(vector);
  if (hospital.kept === null) return own;
  for (const { start, size, norm } of federation.network.layout.arrays) {
    if (norm) own.set(hospital.kept.subarray(start, start + size), start);
  }
  return own;
}

// How many numbers travel, one way.
function travelling(federation) {
  return federation.network.layout.arrays
    .reduce((sum, { size, norm }) => sum + (norm && federation.setting.keepNorm ? 0 : size), 0);
}

// One hospital's part of a round: returns what it sends, and its loss.
function trainHospital(federation, h, orders, normal) {
  const { network, bytes, setting, bad, current } = federation, hospital = federation.hospitals[h];
  const vector = withOwnNorm(federation, current, hospital);
  const loss = fit(network, vector, bytes, hospital.cells, hospital.labels, orders, setting);
  if (setting.keepNorm) hospital.kept = Float32Array.from(vector);
  let sent = vector;
  if (bad?.hospital === h) sent = twist(bad.kind, vector, current, normal);
  if (setting.keepNorm) sent = withoutNorm(federation, sent);
  return { sent, loss };
}

// Norms that stay at home are, for the server, as they were.
function withoutNorm(federation, vector) {
  const sent = Float32Array.from(vector);
  for (const { start, size, norm } of federation.network.layout.arrays) {
    if (norm) sent.set(federation.current.subarray(start, start + size), start);
  }
  return sent;
}

// A whole round. `asked` are the numbers of the hospitals that train, `lost` those of them whose reply gets
// lost, `there` all that could have been asked. Returns what was sent, by hospital; without any reply the model
// stays as it was.
function playRound(federation, { asked, lost = [], there = asked, orders, normal, report = () => {} }) {
  const { setting } = federation, replies = [], losses = new Map();
  federation.round += 1;
  const round = federation.round, cost = 4 * travelling(federation);
  for (const h of asked) {
    report(h);
    const { sent, loss } = trainHospital(federation, h, orders(h, round), normal("sent", h, round));
    federation.bytesSent += cost;
    losses.set(h, loss);
    if (lost.includes(h)) continue;
    federation.bytesSent += cost;
    replies.push({ hospital: h, sent, weight: federation.hospitals[h].cells.length });
  }
  const before = federation.current, refused = refuse(before, replies);
  if (replies.length > 0 || (setting.privacy !== null && there.length > 0)) {
    federation.current = combine(federation, replies, there, normal("server", 0, round));
  }
  const distance = replies.map((left) => replies.map((right) => Math.sqrt(squaredDistance(left.sent, right.sent))));
  const length = replies.map(({ sent }) => Math.sqrt(squaredDistance(sent, before)));
  return { round, replies: replies.map(({ hospital }) => hospital), losses, refused, distance, length };
}

const IMPLAUSIBLE = 1000;    // an update this many times as long as the usual one is refused, as by the library

// Takes replies that no server should use out of the list: what is no number, or implausibly long. Returns whose.
function refuse(current, replies) {
  const lengths = replies.map(({ sent }) => Math.sqrt(squaredDistance(sent, current)));
  const limit = replies.length > 2 ? IMPLAUSIBLE * median(lengths.filter(Number.isFinite).sort((a, b) => a - b)) : Infinity;
  const bad = replies.filter((_, i) => !(lengths[i] <= limit && Number.isFinite(lengths[i])));
  for (const reply of bad) replies.splice(replies.indexOf(reply), 1);
  return bad.map(({ hospital }) => hospital);
}

function combine(federation, replies, there, normal) {
  const { setting, network, current, state, hospitals } = federation, vectors = replies.map(({ sent }) => sent);
  const weights = replies.map(({ weight }) => weight);
  if (setting.privacy === null) {
    return aggregate(setting.aggregator, network.layout, current, vectors, weights, state, setting);
  }
  const equal = setting.aggregator === "EqualWeights";
  const counted = there.map((h) => equal ? 1 : hospitals[h].cells.length), total = counted.reduce((a, b) => a + b, 0);
  const shares = replies.map(({ weight }) => (equal ? 1 : weight) / total);
  const largestShare = Math.max(...counted) / total;
  const mean = privateMean(current, vectors, shares, { ...setting.privacy, largestShare }, normal);
  return setting.aggregator === "FedAdam" ? adamStep(network.layout, current, mean, state, setting.serverRate) : mean;
}

// Accuracy by stain and kind among the cells for testing: result[stain][kind]. `test` lists the cells, in the
// colours of each stain in turn, and `named` what a model calls them.
function recalls(labels, named, stains, classes) {
  const count = labels.length / stains;
  return Array.from({ length: stains }, (_, stain) => {
    const right = new Float64Array(classes), all = new Float64Array(classes);
    for (let i = stain * count; i < (stain + 1) * count; i++) {
      all[labels[i]] += 1;
      if (named[i] === labels[i]) right[labels[i]] += 1;
    }
    return right.map((value, kind) => value / all[kind]);
  });
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

// Every kind and every stain in use counts alike; on a hospital's own patients, its own stain and its own mix.
const jointAccuracy = (byStain) => mean(byStain.map((byKind) => mean([...byKind])));
const ownAccuracy = (byStain, { stain, mix }) => mix.reduce((sum, share, kind) => sum + share * byStain[stain][kind], 0);
