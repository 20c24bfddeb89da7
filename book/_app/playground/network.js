"use strict";

// The network and its gradient, written out by hand: two convolutions of 3 x 3, each followed by the largest
// of every 2 x 2 values, batch norm if wanted, and zero for what is negative; then one linear layer.
// Numbers are float32, in the order of PyTorch's state_dict; tests/show/test_playground.py holds it to PyTorch's.

const SIDE = 32;          // pixels of a cell's picture, each way
const FIRST = 8;          // maps of the first convolution
const SECOND = 16;        // and of the second
const BATCH_ROOM = 16;    // pictures that fit into a batch at most
const MIDDLE = 0.75;      // about the mean of a pixel, of which 0 is black and 1 white
const NORM_EPSILON = 1e-5;
const NORM_MOMENTUM = 0.1;

// Returns the arrays of the network by name, with shape and place in the vector of all numbers. Running
// statistics (`trained: false`) are no result of a gradient; arrays of a norm (`norm: true`) may stay at home.
function layoutOf(classes, withNorm) {
  const grid = SIDE / 4;
  const norm = (name, maps) => !withNorm ? [] : [
    { name: `${name}.weight`, shape: [maps], norm: true, trained: true },
    { name: `${name}.bias`, shape: [maps], norm: true, trained: true },
    { name: `${name}.running_mean`, shape: [maps], norm: true, trained: false },
    { name: `${name}.running_var`, shape: [maps], norm: true, trained: false },
  ];
  const layer = (name, shape) => [
    { name: `${name}.weight`, shape, norm: false, trained: true },
    { name: `${name}.bias`, shape: [shape[0]], norm: false, trained: true },
  ];
  const arrays = [
    ...layer("conv1", [FIRST, 3, 3, 3]), ...norm("norm1", FIRST),
    ...layer("conv2", [SECOND, FIRST, 3, 3]), ...norm("norm2", SECOND),
    ...layer("head", [classes, SECOND * grid * grid]),
  ];
  let place = 0;
  for (const array of arrays) {
    array.start = place;
    array.size = array.shape.reduce((product, length) => product * length, 1);
    place += array.size;
  }
  return { arrays, size: place };
}

// y[o] = b[o] + sum over c of w[o, c] * x[c], for a picture x of `maps` padded maps of `side` + 2 pixels. Two
// rows at a time and three columns kept at hand: each number is read once instead of six times.
function convolve(x, maps, side, w, b, y) {
  const wide = side + 2, area = side * side;
  for (let o = 0; o < b.length; o++) {
    y.fill(b[o], o * area, (o + 1) * area);
    for (let c = 0; c < maps; c++) {
      const k = 9 * (o * maps + c);
      const w0 = w[k], w1 = w[k + 1], w2 = w[k + 2], w3 = w[k + 3], w4 = w[k + 4], w5 = w[k + 5];
      const w6 = w[k + 6], w7 = w[k + 7], w8 = w[k + 8];
      for (let row = 0; row < side; row += 2) {
        let r0 = (c * wide + row) * wide, r1 = r0 + wide, r2 = r1 + wide, r3 = r2 + wide;
        let p0 = x[r0], p1 = x[r1], p2 = x[r2], p3 = x[r3];
        let q0 = x[r0 + 1], q1 = x[r1 + 1], q2 = x[r2 + 1], q3 = x[r3 + 1];
        let at = o * area + row * side;
        for (const end = at + side; at < end; at++, r0++, r1++, r2++, r3++) {
          const s0 = x[r0 + 2], s1 = x[r1 + 2], s2 = x[r2 + 2], s3 = x[r3 + 2];
          y[at] += w0 * p0 + w1 * q0 + w2 * s0 + w3 * p1 + w4 * q1 + w5 * s1 + w6 * p2 + w7 * q2 + w8 * s2;
          y[at + side] += w0 * p1 + w1 * q1 + w2 * s1 + w3 * p2 + w4 * q2 + w5 * s2 + w6 * p3 + w7 * q3 + w8 * s3;
          p0 = q0; p1 = q1; p2 = q2; p3 = q3;
          q0 = s0; q1 = s1; q2 = s2; q3 = s3;
        }
      }
    }
  }
}

// The largest of every 2 x 2 values of y into `best`, and its place in y into `winner` (both from `start`).
function pool(y, maps, side, best, winner, start) {
  const half = side / 2;
  let to = start;
  for (let c = 0; c < maps; c++) {
    for (let row = 0; row < half; row++) {
      let from = (c * side + 2 * row) * side;
      for (let column = 0; column < half; column++, from += 2, to++) {
        let place = from;
        if (y[from + 1] > y[place]) place = from + 1;
        if (y[from + side] > y[place]) place = from + side;
        if (y[from + side + 1] > y[place]) place = from + side + 1;
        best[to] = y[place];
        winner[to] = place;
      }
    }
  }
}

// Adds the gradient of a convolution's weights. After the pooling only the winners' gradients are not zero:
// `gradient` and `winner` hold `each` of them for every map of y, from `start`. If `dx` is given, adds that of x
// as well. `places` and `pulls` are working memory for the winners of one map that count.
function convolveBack(x, maps, side, w, gradient, winner, start, each, dw, db, dx, places, pulls) {
  const wide = side + 2, area = side * side, plane = wide * wide;
  for (let o = 0; o < db.length; o++) {
    let count = 0, sum = 0;
    for (let i = start + o * each, end = i + each; i < end; i++) {
      if (gradient[i] === 0) continue;
      const inside = winner[i] - o * area, row = (inside / side) | 0;
      places[count] = row * wide + inside - row * side;
      pulls[count++] = gradient[i];
      sum += gradient[i];
    }
    db[o] += sum;
    for (let c = 0; c < maps; c++) {
      addToWeights(x, c * plane, wide, places, pulls, count, dw, 9 * (o * maps + c));
      if (dx !== null) addToInput(w, 9 * (o * maps + c), dx, c * plane, wide, places, pulls, count);
    }
  }
}

function addToWeights(x, from, wide, places, pulls, count, dw, k) {
  let d0 = 0, d1 = 0, d2 = 0, d3 = 0, d4 = 0, d5 = 0, d6 = 0, d7 = 0, d8 = 0;
  for (let i = 0; i < count; i++) {
    const g = pulls[i], up = from + places[i], mid = up + wide, low = mid + wide;
    d0 += g * x[up]; d1 += g * x[up + 1]; d2 += g * x[up + 2];
    d3 += g * x[mid]; d4 += g * x[mid + 1]; d5 += g * x[mid + 2];
    d6 += g * x[low]; d7 += g * x[low + 1]; d8 += g * x[low + 2];
  }
  dw[k] += d0; dw[k + 1] += d1; dw[k + 2] += d2; dw[k + 3] += d3; dw[k + 4] += d4; dw[k + 5] += d5;
  dw[k + 6] += d6; dw[k + 7] += d7; dw[k + 8] += d8;
}

function addToInput(w, k, dx, from, wide, places, pulls, count) {
  const w0 = w[k], w1 = w[k + 1], w2 = w[k + 2], w3 = w[k + 3], w4 = w[k + 4], w5 = w[k + 5];
  const w6 = w[k + 6], w7 = w[k + 7], w8 = w[k + 8];
  for (let i = 0; i < count; i++) {
    const g = pulls[i], up = from + places[i], mid = up + wide, low = mid + wide;
    dx[up] += g * w0; dx[up + 1] += g * w1; dx[up + 2] += g * w2;
    dx[mid] += g * w3; dx[mid + 1] += g * w4; dx[mid + 2] += g * w5;
    dx[low] += g * w6; dx[low + 1] += g * w7; dx[low + 2] += g * w8;
  }
}

// Batch norm of `count` pictures of `maps` maps of `area` values, in place; what went in over its deviation is
// kept in `scaled` and 1 / deviation in `inverse`, for `normBack`. In training it uses the batch's own mean and
// variance and moves the running ones; else it uses those.
function normalise(values, count, maps, area, part, training, scaled, inverse) {
  const n = count * area;
  for (let c = 0; c < maps; c++) {
    let mean = part.running_mean[c], variance = part.running_var[c];
    if (training) {
      let sum = 0, squares = 0;
      for (let p = 0; p < count; p++) {
        for (let i = (p * maps + c) * area, end = i + area; i < end; i++) sum += values[i];
      }
      mean = sum / n;
      for (let p = 0; p < count; p++) {
        for (let i = (p * maps + c) * area, end = i + area; i < end; i++) squares += (values[i] - mean) ** 2;
      }
      variance = squares / n;
      part.running_mean[c] += NORM_MOMENTUM * (mean - part.running_mean[c]);
      part.running_var[c] += NORM_MOMENTUM * (squares / (n - 1) - part.running_var[c]);
    }
    inverse[c] = 1 / Math.sqrt(variance + NORM_EPSILON);
    for (let p = 0; p < count; p++) {
      for (let i = (p * maps + c) * area, end = i + area; i < end; i++) {
        scaled[i] = (values[i] - mean) * inverse[c];
        values[i] = scaled[i] * part.weight[c] + part.bias[c];
      }
    }
  }
}

// The gradient behind a batch norm in training, in place, and that of its weight and bias.
function normBack(gradient, count, maps, area, part, d, scaled, inverse) {
  const n = count * area;
  for (let c = 0; c < maps; c++) {
    let sum = 0, product = 0;
    for (let p = 0; p < count; p++) {
      for (let i = (p * maps + c) * area, end = i + area; i < end; i++) {
        sum += gradient[i];
        product += gradient[i] * scaled[i];
      }
    }
    d.bias[c] += sum;
    d.weight[c] += product;
    const factor = part.weight[c] * inverse[c];
    for (let p = 0; p < count; p++) {
      for (let i = (p * maps + c) * area, end = i + area; i < end; i++) {
        gradient[i] = factor * (gradient[i] - sum / n - scaled[i] * product / n);
      }
    }
  }
}

// A network with its working memory. `forward` and `backward` take the vector of all numbers.
function makeNetwork(classes, withNorm) {
  const layout = layoutOf(classes, withNorm);
  const half = SIDE / 2, grid = SIDE / 4, area = grid * grid, features = SECOND * area;
  const floats = (length) => new Float32Array(length), doubles = (length) => new Float64Array(length);
  const picture = 3 * (SIDE + 2) ** 2, middle = FIRST * (half + 2) ** 2, pooled = FIRST * half * half;
  const x = floats(BATCH_ROOM * picture), y1 = floats(FIRST * SIDE * SIDE), y2 = floats(SECOND * half * half);
  const u1 = floats(BATCH_ROOM * pooled), winner1 = new Int32Array(u1.length), x2 = floats(BATCH_ROOM * middle);
  const u2 = floats(BATCH_ROOM * features), winner2 = new Int32Array(u2.length);
  const scaled1 = floats(u1.length), scaled2 = floats(u2.length), inverse1 = floats(FIRST), inverse2 = floats(SECOND);
  const g1 = floats(u1.length), g2 = floats(u2.length), dx2 = floats(middle);
  const places = new Int32Array(half * half), pulls = doubles(half * half);
  const logits = floats(BATCH_ROOM * classes), probability = new Float64Array(classes);

  // Views into a vector, by layer: parts.conv1.weight and so on.
  function partsOf(vector) {
    const parts = {};
    for (const { name, start, size } of layout.arrays) {
      const [layer, array] = name.split(".");
      (parts[layer] ??= {})[array] = vector.subarray(start, start + size);
    }
    return parts;
  }

  // Reads picture number `cell` (bytes, planes of red, green and blue) as numbers around zero.
  function read(bytes, cell, place) {
    const wide = SIDE + 2;
    let from = cell * 3 * SIDE * SIDE;
    for (let c = 0; c < 3; c++) {
      for (let row = 0; row < SIDE; row++) {
        let to = place * picture + (c * wide + row + 1) * wide + 1;
        for (const end = to + SIDE; to < end; to++, from++) x[to] = (bytes[from] / 255 - MIDDLE) * 4;
      }
    }
  }

  // Returns the scores float32[cells.length, classes] of some pictures; at most BATCH_ROOM of them.
  function forward(vector, bytes, cells, training) {
    const part = partsOf(vector), count = cells.length;
    for (let p = 0; p < count; p++) {
      read(bytes, cells[p], p);
      convolve(x.subarray(p * picture, (p + 1) * picture), 3, SIDE, part.conv1.weight, part.conv1.bias, y1);
      pool(y1, FIRST, SIDE, u1, winner1, p * pooled);
    }
    if (withNorm) normalise(u1, count, FIRST, half * half, part.norm1, training, scaled1, inverse1);
    for (let p = 0; p < count; p++) {
      let from = p * pooled;
      for (let c = 0; c < FIRST; c++) {
        for (let row = 0; row < half; row++) {
          let to = p * middle + (c * (half + 2) + row + 1) * (half + 2) + 1;
          for (const end = to + half; to < end; to++, from++) x2[to] = u1[from] > 0 ? u1[from] : 0;
        }
      }
      convolve(x2.subarray(p * middle, (p + 1) * middle), FIRST, half, part.conv2.weight, part.conv2.bias, y2);
      pool(y2, SECOND, half, u2, winner2, p * features);
    }
    if (withNorm) normalise(u2, count, SECOND, area, part.norm2, training, scaled2, inverse2);
    for (let i = 0; i < count * features; i++) if (u2[i] < 0) u2[i] = 0;
    for (let p = 0; p < count; p++) {
      for (let k = 0; k < classes; k++) {
        let sum = part.head.bias[k];
        for (let i = 0; i < features; i++) sum += part.head.weight[k * features + i] * u2[p * features + i];
        logits[p * classes + k] = sum;
      }
    }
    return logits;
  }

  // Adds the gradient of the mean cross-entropy of the batch that `forward` has just seen in training to
  // `gradient`, a vector like the network's. Returns the sum of the losses.
  function backward(vector, gradient, labels) {
    const part = partsOf(vector), d = partsOf(gradient), count = labels.length;
    let loss = 0;
    g2.fill(0, 0, count * features);
    for (let p = 0; p < count; p++) {
      loss += softmax(logits, p * classes, probability, labels[p]);
      for (let k = 0; k < classes; k++) {
        const g = (probability[k] - (k === labels[p] ? 1 : 0)) / count;
        d.head.bias[k] += g;
        for (let i = 0; i < features; i++) {
          d.head.weight[k * features + i] += g * u2[p * features + i];
          g2[p * features + i] += g * part.head.weight[k * features + i];
        }
      }
    }
    for (let i = 0; i < count * features; i++) if (u2[i] <= 0) g2[i] = 0;
    if (withNorm) normBack(g2, count, SECOND, area, part.norm2, d.norm2, scaled2, inverse2);
    for (let p = 0; p < count; p++) {
      dx2.fill(0);
      const input = x2.subarray(p * middle, (p + 1) * middle);
      convolveBack(input, FIRST, half, part.conv2.weight, g2, winner2, p * features, area,
        d.conv2.weight, d.conv2.bias, dx2, places, pulls);
      let to = p * pooled;
      for (let c = 0; c < FIRST; c++) {
        for (let row = 0; row < half; row++) {
          let from = (c * (half + 2) + row + 1) * (half + 2) + 1;
          for (const end = to + half; to < end; to++, from++) g1[to] = u1[to] > 0 ? dx2[from] : 0;
        }
      }
    }
    if (withNorm) normBack(g1, count, FIRST, half * half, part.norm1, d.norm1, scaled1, inverse1);
    for (let p = 0; p < count; p++) {
      convolveBack(x.subarray(p * picture, (p + 1) * picture), 3, SIDE, part.conv1.weight, g1, winner1,
        p * pooled, half * half, d.conv1.weight, d.conv1.bias, null, places, pulls);
    }
    return loss;
  }

  // Where the evidence for a class lies: `grid` x `grid` numbers that, with the bias, add up to its score.
  function evidence(vector, bytes, cell, chosen) {
    forward(vector, bytes, [cell], false);
    const weight = partsOf(vector).head.weight, map = new Float64Array(area);
    for (let i = 0; i < features; i++) map[i % area] += weight[chosen * features + i] * u2[i];
    return map;
  }

  return { layout, classes, withNorm, forward, backward, evidence };
}

// Writes the probabilities of one row of scores; returns the cross-entropy of its label.
function softmax(scores, start, probability, label) {
  const classes = probability.length;
  let top = -Infinity, sum = 0;
  for (let k = 0; k < classes; k++) top = Math.max(top, scores[start + k]);
  for (let k = 0; k < classes; k++) sum += probability[k] = Math.exp(scores[start + k] - top);
  for (let k = 0; k < classes; k++) probability[k] /= sum;
  return Math.log(sum) - (scores[start + label] - top);
}

// Initial weights: normal with variance 2 / inputs for the convolutions and 1 / inputs for the head (He et al. 2015).
function initialWeights(network, random) {
  const vector = new Float32Array(network.layout.size);
  for (const { name, shape, start, size } of network.layout.arrays) {
    const part = vector.subarray(start, start + size);
    if (shape.length > 1) {
      const spread = Math.sqrt((name === "head.weight" ? 1 : 2) * shape[0] / size);
      for (let i = 0; i < size; i++) part[i] = spread * random.normal();
    } else if (name.startsWith("norm") && (name.endsWith("weight") || name.endsWith("running_var"))) {
      part.fill(1);
    }
  }
  return vector;
}
