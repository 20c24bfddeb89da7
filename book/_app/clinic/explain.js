// Where a model looked, and how far to trust that picture. Shared by the page and its worker.
"use strict";

// What each place adds to the logit of a class, less what it adds to another's if one is named, in calibrated
// log-odds: float64[side * side]. Its positive part is Grad-CAM up to a factor; with the bias the sum is the logit.
function contributions(model, found, target, against = null) {
  const weight = model.network.tensors["head.weight"];
  const places = found.side * found.side;
  const count = found.features.length / places;
  const map = new Float64Array(places);
  for (let k = 0; k < count; k += 1) {
    const factor = weight[target * count + k] - (against === null ? 0 : weight[against * count + k]);
    for (let i = 0; i < places; i += 1) map[i] += factor * found.features[k * places + i];
  }
  return map.map((value) => value / places / model.card.temperature);
}

// The levels that part 256 grey levels into three groups of least spread (Otsu 1979, with two thresholds):
// the darkest group ends at the level that is returned.
function darkestLevel(levels) {
  const [count, sum] = [new Float64Array(257), new Float64Array(257)];
  for (const level of levels) count[level + 1] += 1;
  for (let i = 1; i <= 256; i += 1) {
    sum[i] = sum[i - 1] + count[i] * (i - 1);
    count[i] += count[i - 1];
  }
  const part = (from, to) => (count[to] > count[from] ? (sum[to] - sum[from]) ** 2 / (count[to] - count[from]) : 0);
  let [best, level] = [-1, 0];
  for (let low = 1; low < 255; low += 1) {
    for (let high = low + 1; high < 256; high += 1) {
      const between = part(0, low) + part(low, high) + part(high, 256);
      if (between > best) [best, level] = [between, low - 1];
    }
  }
  return level;
}

// Where nuclei seem to be: the darkest of three groups of the mean of red and green, which a nuclear stain
// takes and a red cell takes half. uint8[size * size] of 0 and 1.
function likelyNucleus(pixels) {
  const places = pixels.length / 3;
  const levels = Uint8Array.from({ length: places }, (_, i) => (pixels[i] + pixels[places + i]) >> 1);
  const level = darkestLevel(levels);
  return levels.map((value) => (value <= level ? 1 : 0));
}

// The square of a coarse map in which each pixel of a row lies.
function squareOf(size, side) {
  return Array.from({ length: size }, (_, i) => Math.min(side - 1, Math.floor(((i + 0.5) * side) / size)));
}

// The share of a map's positive relevance inside a mask.
function shareInside(map, side, mask) {
  const size = Math.sqrt(mask.length);
  const square = squareOf(size, side);
  let [inside, all] = [0, 0];
  for (let i = 0; i < mask.length; i += 1) {
    const value = Math.max(0, map[square[Math.floor(i / size)] * side + square[i % size]]);
    all += value;
    if (mask[i]) inside += value;
  }
  return all > 0 ? inside / all : null;
}

// What somebody would draw who knows only that cells lie in the middle: a Gaussian of 0.15 of the side.
function centred(side) {
  const place = (i) => (i + 0.5) / side - 0.5;
  return Float64Array.from({ length: side * side }, (_, i) => (
    Math.exp(-0.5 * ((place(i % side) ** 2 + place(Math.floor(i / side)) ** 2) / 0.15 ** 2))
  ));
}

// The squares of a map, those with the largest values first.
function ranked(map) {
  return Array.from(map.keys()).sort((a, b) => map[b] - map[a] || a - b);
}

function meanColour(image) {
  const places = image.length / 3;
  return [0, 1, 2].map((c) => image.subarray(c * places, (c + 1) * places).reduce((a, b) => a + b, 0) / places);
}

// The mean probability of a class while the squares are painted over with the mean colour, in this order:
// the area under the deletion curve (Petsiuk, Das and Saenko 2018), in `steps` equal portions. Its ends, nothing
// painted and all, are the same for each order.
function deletionArea(model, image, target, order, side, steps, ends) {
  const size = model.network.size;
  const square = squareOf(size, side);
  const colour = meanColour(image);
  const rank = new Int32Array(order.length);
  order.forEach((place, i) => { rank[place] = i; });
  const between = Array.from({ length: steps - 1 }, (_, step) => {
    const painted = Float32Array.from(image);
    const gone = ((step + 1) * order.length) / steps;
    for (let i = 0; i < size * size; i += 1) {
      if (rank[square[Math.floor(i / size)] * side + square[i % size]] < gone) {
        for (let c = 0; c < 3; c += 1) painted[c * size * size + i] = colour[c];
      }
    }
    return shareOf(model, painted, target);
  });
  return (between.reduce((a, b) => a + b, 0) + (ends[0] + ends[1]) / 2) / steps;
}

function shareOf(model, image, target) {
  return softmax(run(model.network, image).logits, model.card.temperature)[target];
}

// A random order of so many squares, the same at each visit (mulberry32 and Fisher and Yates).
function shuffled(count, seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i -= 1) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const STEPS = 8;
const RANDOM_ORDERS = 19;    // beating all of them by chance happens once in twenty

// Does the class hang on the squares that the map shows? Areas under the deletion curves of the map, of the
// middle first, and of random orders (their mean and their smallest).
function deletionTest(model, image, target, map, side) {
  const blank = Float32Array.from(image);
  meanColour(image).forEach((value, c) => blank.fill(value, (c * image.length) / 3, ((c + 1) * image.length) / 3));
  const ends = [image, blank].map((picture) => shareOf(model, picture, target));
  const area = (order) => deletionArea(model, image, target, order, side, STEPS, ends);
  const chance = Array.from({ length: RANDOM_ORDERS }, (_, seed) => area(shuffled(side * side, seed + 1)));
  return {
    map: area(ranked(map)),
    middle: area(ranked(centred(side))),
    random: chance.reduce((a, b) => a + b, 0) / RANDOM_ORDERS,
    luckiest: Math.min(...chance),
  };
}

// The parts of a network that have weights, the last first: hemafl_lib.explain.layer_groups.
const PARTS = ["head", "embed.0", "blocks.2", "blocks.1", "blocks.0"];
const FORGETTINGS = 5;    // draws of the weights that a model forgets

// A network of which one part has forgotten what it learned: each of its tensors is shuffled. What training
// noted of its pictures (running means and variances) is no weight and stays.
function forgetful(network, part, seed) {
  const tensors = { ...network.tensors };
  Object.keys(tensors).forEach((name, i) => {
    if (!name.startsWith(`${part}.`) || name.includes(".running_")) return;
    const values = tensors[name];
    tensors[name] = Float64Array.from(shuffled(values.length, 1000 * seed + i + 1), (place) => values[place]);
  });
  return { ...network, tensors };
}

// The rank of each value, from 1; equal values share theirs.
function ranksOf(values) {
  const order = Array.from(values.keys()).sort((a, b) => values[a] - values[b]);
  const ranks = new Float64Array(values.length);
  for (let i = 0; i < order.length;) {
    let end = i;
    while (end < order.length && values[order[end]] === values[order[i]]) end += 1;
    for (let k = i; k < end; k += 1) ranks[order[k]] = (i + 1 + end) / 2;
    i = end;
  }
  return ranks;
}

// Whether two maps put what speaks for a class in the same order: Spearman's rank correlation of their positive
// parts; null where one of them is flat.
function likeness(first, second) {
  const centredRanks = (map) => {
    const ranks = ranksOf(map.map((value) => Math.max(0, value)));
    return ranks.map((rank) => rank - (map.length + 1) / 2);
  };
  const [a, b] = [centredRanks(first), centredRanks(second)];
  const product = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const size = Math.sqrt(product(a, a) * product(b, b));
  return size > 0 ? product(a, b) / size : null;
}

// Does the map change when the model forgets what it learned (Adebayo et al. 2018)? The parts are shuffled one
// after the other; for each the mean likeness of the map to the one on screen, null where none is left of any draw.
function forgettingTest(model, image, target, map) {
  const found = PARTS.map(() => []);
  for (let draw = 0; draw < FORGETTINGS; draw += 1) {
    let { network } = model;
    PARTS.forEach((part, i) => {
      network = forgetful(network, part, draw);
      const alike = likeness(map, contributions({ ...model, network }, run(network, image), target));
      if (alike !== null) found[i].push(alike);
    });
  }
  return found.map((values) => (values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : null));
}

// What each place is worth to the class: the mean fall of its calibrated log-odds while a window of two by two
// squares over it is painted with the mean colour. There are 16 squares a side. `tell` hears how far it is.
function occlusion(model, image, target, tell) {
  const size = model.network.size;
  const side = Math.min(16, size >> 1);
  const edge = (i) => Math.round((i * size) / side);
  const colour = meanColour(image);
  const logit = (picture) => run(model.network, picture).logits[target] / model.card.temperature;
  const whole = logit(image);
  const [sum, count] = [new Float64Array(side * side), new Float64Array(side * side)];
  for (let row = 0; row + 1 < side; row += 1) {
    for (let column = 0; column + 1 < side; column += 1) {
      const painted = Float32Array.from(image);
      for (let c = 0; c < 3; c += 1) {
        for (let y = edge(row); y < edge(row + 2); y += 1) {
          painted.fill(colour[c], (c * size + y) * size + edge(column), (c * size + y) * size + edge(column + 2));
        }
      }
      const fall = whole - logit(painted);
      for (const corner of [0, 1, side, side + 1]) {
        sum[row * side + column + corner] += fall;
        count[row * side + column + corner] += 1;
      }
    }
    tell((row + 1) / (side - 1));
  }
  return { map: sum.map((value, i) => value / count[i]), side };
}
