// What the library computes in Python, in plain JavaScript: resizing, the attention CNN, calibrated
// probabilities, conformal sets and the scope. Shared by the page and its worker; touches no document.
"use strict";

// Pictures. Pixels are those of a canvas: red, green, blue and opacity of each, row by row.

const PRECISION = 2 ** 22;    // Pillow's weights are whole numbers of so many parts

// Pillow's triangle filter along one axis: for each new pixel where it begins, and the weights of the old ones.
function triangle(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => Math.max(0, 1 - Math.abs((k + first - centre + 0.5) * (1 / reach))));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => Math.floor(0.5 + (weight / sum) * PRECISION)) };
  });
}

// Pillow's bilinear resize with antialiasing, to the very grey level: uint8[3 * size * size], channel by channel.
function resized(pixels, width, height, size) {
  const [across, down] = [triangle(width, size), triangle(height, size)];
  const narrow = new Uint8ClampedArray(3 * height * size);
  const result = new Uint8ClampedArray(3 * size * size);
  for (let channel = 0; channel < 3; channel += 1) {
    for (let row = 0; row < height; row += 1) {
      for (let i = 0; i < size; i += 1) {
        const { first, weights } = across[i];
        let at = 4 * (row * width + first) + channel;
        let sum = PRECISION / 2;
        for (let k = 0; k < weights.length; k += 1, at += 4) sum += weights[k] * pixels[at];
        narrow[(channel * height + row) * size + i] = Math.floor(sum / PRECISION);
      }
    }
    for (let row = 0; row < size; row += 1) {
      const { first, weights } = down[row];
      for (let i = 0; i < size; i += 1) {
        let at = (channel * height + first) * size + i;
        let sum = PRECISION / 2;
        for (let k = 0; k < weights.length; k += 1, at += size) sum += weights[k] * narrow[at];
        result[(channel * size + row) * size + i] = Math.floor(sum / PRECISION);
      }
    }
  }
  return result;
}

// The value below which a share of sorted values lies, interpolated linearly.
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// Fifteen numbers that know colours and no shape: mean, standard deviation and 5th, 50th and 95th percentile,
// each of red, green and blue. `image` is float32[3 * size * size] in 0..1.
function colourStatistics(image) {
  const places = image.length / 3;
  const channels = [0, 1, 2].map((channel) => image.slice(channel * places, (channel + 1) * places).sort());
  const mean = channels.map((values) => values.reduce((a, b) => a + b, 0) / places);
  const deviation = channels.map((values, c) => Math.sqrt(values.reduce((a, b) => a + (b - mean[c]) ** 2, 0) / places));
  const percentiles = [0.05, 0.5, 0.95].flatMap((share) => channels.map((values) => quantile(values, share)));
  return [...mean, ...deviation, ...percentiles];
}

// The network: hemafl_lib/models/attention_cnn.py. Feature maps lie channel by channel. All is computed in
// double precision, of which JavaScript is faster than of single.

// A 3 x 3 convolution with padding 1, two output channels at a time: each value is read once for both.
function convolved(maps, inputs, side, weight, bias) {
  const outputs = bias.length;
  const [wide, places] = [side + 2, side * side];
  const padded = new Float64Array(inputs * wide * wide);
  for (let c = 0; c < inputs; c += 1) {
    for (let row = 0; row < side; row += 1) {
      padded.set(maps.subarray((c * side + row) * side, (c * side + row + 1) * side), (c * wide + row + 1) * wide + 1);
    }
  }
  const result = new Float64Array((outputs + (outputs % 2)) * places);
  for (let o = 0; o < outputs; o += 2) {
    const next = Math.min(o + 1, outputs - 1);    // of an odd number, the last is computed twice
    const first = result.subarray(o * places, (o + 1) * places).fill(bias[o]);
    const second = result.subarray((o + 1) * places, (o + 2) * places).fill(bias[next]);
    for (let c = 0; c < inputs; c += 1) {
      addTwo(first, second, padded, c * wide * wide, side, weight, 9 * (o * inputs + c), 9 * (next * inputs + c));
    }
  }
  return result.subarray(0, outputs * places);
}

// Adds what one input channel gives to two output channels, whose weights begin at `k` and `l`. The nine
// values under the window move along with it.
function addTwo(first, second, padded, start, side, weight, k, l) {
  const wide = side + 2;
  const [a0, a1, a2] = [weight[k], weight[k + 1], weight[k + 2]];
  const [a3, a4, a5] = [weight[k + 3], weight[k + 4], weight[k + 5]];
  const [a6, a7, a8] = [weight[k + 6], weight[k + 7], weight[k + 8]];
  const [b0, b1, b2] = [weight[l], weight[l + 1], weight[l + 2]];
  const [b3, b4, b5] = [weight[l + 3], weight[l + 4], weight[l + 5]];
  const [b6, b7, b8] = [weight[l + 6], weight[l + 7], weight[l + 8]];
  for (let row = 0; row < side; row += 1) {
    let p = start + row * wide;
    let [v0, v1, v3, v4] = [padded[p], padded[p + 1], padded[p + wide], padded[p + wide + 1]];
    let [v6, v7] = [padded[p + 2 * wide], padded[p + 2 * wide + 1]];
    const end = (row + 1) * side;
    for (let at = row * side; at < end; at += 1, p += 1) {
      const v2 = padded[p + 2];
      const v5 = padded[p + wide + 2];
      const v8 = padded[p + 2 * wide + 2];
      first[at] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3 + a4 * v4 + a5 * v5 + a6 * v6 + a7 * v7 + a8 * v8;
      second[at] += b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3 + b4 * v4 + b5 * v5 + b6 * v6 + b7 * v7 + b8 * v8;
      v0 = v1;
      v1 = v2;
      v3 = v4;
      v4 = v5;
      v6 = v7;
      v7 = v8;
    }
  }
}

const EPSILON = 1e-5;    // PyTorch's, in both kinds of normalisation

// Scales each channel in place, by statistics that training left (batch) or by those of a group of channels.
function normalise(maps, places, tensors, name) {
  const [weight, bias] = [tensors[`${name}.weight`], tensors[`${name}.bias`]];
  const [means, variances] = [tensors[`${name}.running_mean`], tensors[`${name}.running_var`]];
  const channels = weight.length;
  const perGroup = channels % 8 === 0 ? 8 : channels % 4 === 0 ? 4 : channels % 2 === 0 ? 2 : 1;
  let [mean, variance] = [0, 0];
  for (let c = 0; c < channels; c += 1) {
    if (means) [mean, variance] = [means[c], variances[c]];
    else if (c % perGroup === 0) [mean, variance] = moments(maps.subarray(c * places, (c + perGroup) * places));
    const factor = weight[c] / Math.sqrt(variance + EPSILON);
    const offset = bias[c] - mean * factor;
    for (let i = c * places; i < (c + 1) * places; i += 1) maps[i] = maps[i] * factor + offset;
  }
}

function moments(values) {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < values.length; i += 1) sum += values[i];
  const mean = sum / values.length;
  for (let i = 0; i < values.length; i += 1) squares += (values[i] - mean) * (values[i] - mean);
  return [mean, squares / values.length];
}

// The largest of each 2 x 2 places, or 0 if that is larger.
function pooledPositive(maps, channels, side) {
  const half = side >> 1;
  const result = new Float64Array(channels * half * half);
  let at = 0;
  for (let c = 0; c < channels; c += 1) {
    for (let row = 0; row < half; row += 1) {
      let i = (c * side + 2 * row) * side;
      for (let column = 0; column < half; column += 1, i += 2, at += 1) {
        result[at] = Math.max(0, maps[i], maps[i + 1], maps[i + side], maps[i + side + 1]);
      }
    }
  }
  return result;
}

function linear(weight, bias, values) {
  return Array.from(bias, (start, row) => {
    let sum = start;
    for (let i = 0; i < values.length; i += 1) sum += weight[row * values.length + i] * values[i];
    return sum;
  });
}

// The mean of each channel.
function channelMeans(maps, places) {
  return Array.from({ length: maps.length / places }, (_, c) => {
    let sum = 0;
    for (let i = c * places; i < (c + 1) * places; i += 1) sum += maps[i];
    return sum / places;
  });
}

const sigmoid = (value) => 1 / (1 + Math.exp(-value));

// Multiplies each channel by a factor, in place.
function weigh(maps, places, factors) {
  factors.forEach((factor, c) => {
    for (let i = c * places; i < (c + 1) * places; i += 1) maps[i] *= factor;
  });
}

// Each kind of attention, in place: it weighs channels, and the last one places too.
const ATTEND = {
  se: (maps, side, tensor) => {
    const squeezed = linear(tensor("squeeze.weight"), tensor("squeeze.bias"), channelMeans(maps, side * side));
    const excited = linear(tensor("excite.weight"), tensor("excite.bias"), squeezed.map((value) => Math.max(0, value)));
    weigh(maps, side * side, excited.map(sigmoid));
  },
  eca: (maps, side, tensor) => {
    const [before, own, after] = tensor("neighbours.weight");
    const means = channelMeans(maps, side * side);
    weigh(maps, side * side, means.map((mean, c) => sigmoid(before * (means[c - 1] ?? 0) + own * mean + after * (means[c + 1] ?? 0))));
  },
  cbam: (maps, side, tensor) => {
    const hidden = (values) => linear(tensor("channel.0.weight"), tensor("channel.0.bias"), values).map((value) => Math.max(0, value));
    const score = (values) => linear(tensor("channel.2.weight"), tensor("channel.2.bias"), hidden(values));
    const ofMeans = score(channelMeans(maps, side * side));
    const ofLargest = score(channelLargest(maps, side * side));
    weigh(maps, side * side, ofMeans.map((value, c) => sigmoid(value + ofLargest[c])));
    weighPlaces(maps, side, tensor("place.weight"));
  },
  none: () => {},
};

function channelLargest(maps, places) {
  return Array.from({ length: maps.length / places }, (_, c) => Math.max(...maps.subarray(c * places, (c + 1) * places)));
}

// Multiplies each place by a 7 x 7 convolution of the mean and the largest of its channels, in place.
function weighPlaces(maps, side, weight) {
  const places = side * side;
  const channels = maps.length / places;
  const summary = new Float64Array(2 * places).fill(-Infinity, places);
  for (let c = 0; c < channels; c += 1) {
    for (let i = 0; i < places; i += 1) {
      summary[i] += maps[c * places + i] / channels;
      summary[places + i] = Math.max(summary[places + i], maps[c * places + i]);
    }
  }
  for (let i = 0; i < places; i += 1) {
    const [row, column] = [Math.floor(i / side), i % side];
    let sum = 0;
    for (let k = 0; k < weight.length; k += 1) {
      const y = row + (Math.floor(k / 7) % 7) - 3;
      const x = column + (k % 7) - 3;
      if (y >= 0 && x >= 0 && y < side && x < side) sum += weight[k] * summary[Math.floor(k / 49) * places + y * side + x];
    }
    for (let c = 0; c < channels; c += 1) maps[c * places + i] *= sigmoid(sum);
  }
}

// The last convolution, of one place: what remains above 0 are the features.
function embedded(maps, places, weight, bias) {
  const inputs = maps.length / places;
  const result = new Float64Array(bias.length * places);
  for (let o = 0; o < bias.length; o += 1) {
    const out = result.subarray(o * places, (o + 1) * places).fill(bias[o]);
    for (let c = 0; c < inputs; c += 1) {
      const factor = weight[o * inputs + c];
      const start = c * places;
      for (let i = 0; i < places; i += 1) out[i] += factor * maps[start + i];
    }
    for (let i = 0; i < places; i += 1) if (out[i] < 0) out[i] = 0;
  }
  return result;
}

// Runs a network on an image, float32[3 * size * size] in 0..1. Returns logits, the feature maps, their side
// and their means.
function run(network, image) {
  const { tensors } = network;
  let maps = new Float64Array(image).map((value) => (value - 0.5) / 0.25);
  let [side, channels] = [network.size, 3];
  for (const block of ["blocks.0", "blocks.1", "blocks.2"]) {
    maps = convolved(maps, channels, side, tensors[`${block}.conv.weight`], tensors[`${block}.conv.bias`]);
    channels = tensors[`${block}.conv.bias`].length;
    if (network.norm !== "none") normalise(maps, side * side, tensors, `${block}.norm`);
    maps = pooledPositive(maps, channels, side);
    side >>= 1;
    ATTEND[network.attention](maps, side, (name) => tensors[`${block}.attention.${name}`]);
  }
  const features = embedded(maps, side * side, tensors["embed.0.weight"], tensors["embed.0.bias"]);
  const means = channelMeans(features, side * side);
  return { logits: linear(tensors["head.weight"], tensors["head.bias"], means), features, means, side };
}

// What a model says.

function softmax(logits, temperature) {
  const top = Math.max(...logits);
  const powers = logits.map((value) => Math.exp((value - top) / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

// How far numbers lie from those of the images that the model knows: a squared Mahalanobis distance.
function distance(detector, values) {
  const away = values.map((value, i) => value - detector.mean[i]);
  return detector.matrix.reduce((sum, row) => sum + row.reduce((a, weight, i) => a + weight * away[i], 0) ** 2, 0);
}

// A model's answer to resized pixels, uint8[3 * size * size].
function answer(model, pixels) {
  const image = new Float32Array(pixels).map((value) => value / 255);
  const ran = run(model.network, image);
  const probabilities = softmax(ran.logits, model.card.temperature);
  const numbers = { colours: colourStatistics(image), features: ran.means };
  const alarms = model.card.scope.filter((detector) => !(distance(detector, numbers[detector.of]) <= detector.threshold));
  if (!probabilities.every(Number.isFinite)) alarms.push({ of: "weights" });
  const { sets } = model.card;
  const set = sets ? probabilities.flatMap((value, c) => (1 - value <= sets.threshold ? [c] : [])) : [];
  return { ...ran, image, probabilities, best: Math.max(0, probabilities.indexOf(Math.max(...probabilities))), set, alarms };
}
