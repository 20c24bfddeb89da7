"use strict";

// How the server puts the hospitals' numbers together; hemafl_lib/aggregation.py in JavaScript, held to it by
// tests/show/test_playground.py. Each takes the replies (a vector each, in the order of the hospitals) and their weights.

function weightedMean(replies, weights) {
  const total = weights.reduce((a, b) => a + b, 0), sum = new Float64Array(replies[0].length);
  replies.forEach((reply, k) => {
    const share = weights[k] / total;
    for (let i = 0; i < sum.length; i++) sum[i] += share * reply[i];
  });
  return Float32Array.from(sum);
}

// Applies `rule` to the sorted values of each coordinate.
function coordinatewise(replies, rule) {
  const values = new Float64Array(replies.length), result = new Float32Array(replies[0].length);
  for (let i = 0; i < result.length; i++) {
    replies.forEach((reply, k) => { values[k] = reply[i]; });
    result[i] = rule(values.sort());
  }
  return result;
}

function median(sorted) {
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function trimmedMean(sorted, trim) {
  const cut = Math.floor(trim * sorted.length);
  let sum = 0;
  for (let i = cut; i < sorted.length - cut; i++) sum += sorted[i];
  return sum / (sorted.length - 2 * cut);
}

function squaredDistance(left, right) {
  let sum = 0;
  for (let i = 0; i < left.length; i++) sum += (left[i] - right[i]) ** 2;
  return sum;
}

// Krum's score of each reply: the sum of squared distances to its n - malicious - 2 nearest neighbours.
function krumScores(replies, malicious) {
  const neighbours = Math.max(1, replies.length - malicious - 2);
  return replies.map((left) => replies.map((right) => squaredDistance(left, right))
    .sort((a, b) => a - b).slice(1, neighbours + 1).reduce((a, b) => a + b, 0));
}

function krum(replies, malicious = 1) {
  const scores = krumScores(replies, malicious);
  return Float32Array.from(replies[scores.indexOf(Math.min(...scores))]);
}

// Adam on the server (Reddi et al. 2021), without bias correction. The state is made by the first call. What
// no gradient has made, running statistics, takes the mean.
function adamStep(layout, current, mean, state, rate, beta1 = 0.9, beta2 = 0.99, tau = 1e-3) {
  state.first ??= new Float64Array(current.length);
  state.second ??= new Float64Array(current.length).fill(tau ** 2);
  const moved = Float32Array.from(mean);
  for (const { start, size, trained } of layout.arrays) {
    if (!trained) continue;
    for (let i = start; i < start + size; i++) {
      const difference = mean[i] - current[i];
      state.first[i] = beta1 * state.first[i] + (1 - beta1) * difference;
      state.second[i] = beta2 * state.second[i] + (1 - beta2) * difference ** 2;
      moved[i] = current[i] + rate * state.first[i] / (Math.sqrt(state.second[i]) + tau);
    }
  }
  return moved;
}

const AGGREGATORS = {
  FedAvg: { words: "mean, weighted by cells", mean: true },
  EqualWeights: { words: "mean, every hospital alike", mean: true },
  FedMedian: { words: "median", mean: false },
  FedTrimmedMean: { words: "trimmed mean", mean: false },
  Krum: { words: "Krum: the one among the others", mean: false },
  FedAdam: { words: "FedAdam: mean, then Adam", mean: true },
};

// The new global numbers from the replies; `state` is the server's own and may be changed.
function aggregate(name, layout, current, replies, weights, state, { trim = 0.2, serverRate = 0.02 } = {}) {
  if (name === "FedAvg") return weightedMean(replies, weights);
  if (name === "EqualWeights") return weightedMean(replies, replies.map(() => 1));
  if (name === "FedMedian") return coordinatewise(replies, median);
  if (name === "FedTrimmedMean") return coordinatewise(replies, (sorted) => trimmedMean(sorted, trim));
  if (name === "Krum") return krum(replies);
  if (name === "FedAdam") return adamStep(layout, current, weightedMean(replies, weights), state, serverRate);
  throw new Error(`There is no aggregator ${name}.`);
}

// Privacy of a whole hospital, as hemafl_lib.privacy.ClientPrivacy: updates are cut to a norm of `clip`, and
// their mean gets normal noise for the most that one hospital can add. `replies` are those drawn, `weights` are
// of all that were there to be drawn with probability `sampling`, and `normal` holds standard normal numbers.
function privateMean(current, replies, shares, { clip, noise, sampling, largestShare }, normal) {
  const deviation = noise * clip * largestShare / sampling, sum = new Float64Array(current.length);
  replies.forEach((reply, k) => {
    const norm = Math.sqrt(squaredDistance(reply, current)), factor = norm > clip ? clip / norm : 1;
    for (let i = 0; i < sum.length; i++) sum[i] += shares[k] * factor * (reply[i] - current[i]);
  });
  return Float32Array.from(sum, (value, i) => current[i] + value / sampling + deviation * normal[i]);
}
