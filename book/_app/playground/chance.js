"use strict";

// Random numbers that depend on a seed and a path of names, so that what happens at one hospital does not
// change what happens at another. Returns a function for numbers in [0, 1), with further draws as its members.
function makeRandom(...path) {
  let state = 2166136261;
  for (const character of path.join("/")) state = Math.imul(state ^ character.codePointAt(0), 16777619);
  const random = () => {      // mulberry32, by Tommy Ettinger, in the public domain
    state = (state + 0x6D2B79F5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  for (let i = 0; i < 8; i++) random();
  random.normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  random.order = (n) => {
    const order = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  };
  // The logarithm of a gamma variate (Marsaglia and Tsang 2000), which for a small shape may be next to nothing.
  random.logGamma = (shape) => {
    if (shape < 1) return random.logGamma(shape + 1) + Math.log(1 - random()) / shape;
    const d = shape - 1 / 3, c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const z = random.normal(), v = (1 + c * z) ** 3;
      if (v > 0 && Math.log(1 - random()) < z * z / 2 + d - d * v + d * Math.log(v)) return Math.log(d * v);
    }
  };
  // Shares that add up to one: uneven for a small alpha, even for a large one.
  random.dirichlet = (alpha, length) => {
    const logs = Array.from({ length }, () => random.logGamma(alpha)), top = Math.max(...logs);
    const shares = logs.map((log) => Math.exp(log - top)), sum = shares.reduce((a, b) => a + b, 0);
    return shares.map((share) => share / sum);
  };
  return random;
}
