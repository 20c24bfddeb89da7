"use strict";

// Trains `vector` in place on `cells`, by stochastic gradient descent with momentum, as PyTorch's SGD does.
// `orders` holds for each epoch the places in `cells` in the order in which they are seen. A last batch of one
// joins the one before. Returns the mean loss of the cells seen.
function fit(network, vector, bytes, cells, labels, orders, { rate, momentum = 0.9, batch = 10, proximal = 0 }) {
  const gradient = new Float32Array(vector.length), velocity = new Float32Array(vector.length);
  const start = proximal > 0 ? Float32Array.from(vector) : null;
  let loss = 0, seen = 0;
  for (const order of orders) {
    for (const places of batches(order, batch)) {
      gradient.fill(0);
      network.forward(vector, bytes, places.map((place) => cells[place]), true);
      loss += network.backward(vector, gradient, places.map((place) => labels[place]));
      seen += places.length;
      for (const { start: from, size, trained } of network.layout.arrays) {
        if (!trained) continue;
        for (let i = from; i < from + size; i++) {
          const pull = start === null ? 0 : proximal * (vector[i] - start[i]);
          velocity[i] = momentum * velocity[i] + gradient[i] + pull;
          vector[i] -= rate * velocity[i];
        }
      }
    }
  }
  return loss / seen;
}

function batches(order, size) {
  const parts = [];
  for (let i = 0; i < order.length; i += size) parts.push(order.slice(i, i + size));
  if (parts.length > 1 && parts.at(-1).length === 1) parts.at(-2).push(...parts.pop());
  return parts;
}

// The class that the network names for each cell.
function predict(network, vector, bytes, cells) {
  const named = new Uint8Array(cells.length);
  for (let from = 0; from < cells.length; from += BATCH_ROOM) {
    const part = cells.slice(from, from + BATCH_ROOM), scores = network.forward(vector, bytes, part, false);
    for (let p = 0; p < part.length; p++) {
      let best = 0;
      for (let k = 1; k < network.classes; k++) {
        if (scores[p * network.classes + k] > scores[p * network.classes + best]) best = k;
      }
      named[from + p] = best;
    }
  }
  return named;
}

// Means and deviations of red, green and blue: all that a model may know of a cell if it sees colours only.
function colourStatistics(bytes, cell) {
  const area = SIDE * SIDE, statistics = [];
  for (let c = 0; c < 3; c++) {
    let sum = 0, squares = 0;
    for (let i = (3 * cell + c) * area, end = i + area; i < end; i++) {
      sum += bytes[i] / 255;
      squares += (bytes[i] / 255) ** 2;
    }
    statistics.push(sum / area, Math.sqrt(Math.max(0, squares / area - (sum / area) ** 2)));
  }
  return statistics;
}

// The trivial rival: softmax regression on colour statistics, trained on the cells of all hospitals together.
// Returns the class that it names for each cell of `test`.
function predictFromColours(bytes, cells, labels, test, classes) {
  const rows = cells.map((cell) => colourStatistics(bytes, cell)), length = rows[0].length;
  const mean = new Float64Array(length), spread = new Float64Array(length);
  for (const row of rows) row.forEach((value, i) => { mean[i] += value / rows.length; });
  for (const row of rows) row.forEach((value, i) => { spread[i] += (value - mean[i]) ** 2 / rows.length; });
  const scale = (row) => row.map((value, i) => (value - mean[i]) / Math.sqrt(spread[i] + 1e-12));
  const inputs = rows.map(scale), weight = new Float64Array(classes * (length + 1));
  const scores = new Float64Array(classes), probability = new Float64Array(classes);
  const score = (input) => {
    for (let k = 0; k < classes; k++) {
      scores[k] = weight[k * (length + 1) + length];
      for (let i = 0; i < length; i++) scores[k] += weight[k * (length + 1) + i] * input[i];
    }
  };
  for (let step = 0; step < 300; step++) {
    const gradient = new Float64Array(weight.length);
    inputs.forEach((input, n) => {
      score(input);
      softmax(scores, 0, probability, labels[n]);
      for (let k = 0; k < classes; k++) {
        const g = (probability[k] - (k === labels[n] ? 1 : 0)) / inputs.length;
        for (let i = 0; i < length; i++) gradient[k * (length + 1) + i] += g * input[i];
        gradient[k * (length + 1) + length] += g;
      }
    });
    for (let i = 0; i < weight.length; i++) weight[i] -= gradient[i];
  }
  return test.map((cell) => {
    score(scale(colourStatistics(bytes, cell)));
    return scores.indexOf(Math.max(...scores));
  });
}
