"use strict";

// Who gets which patients. `data` is what the page was built with: the kind and the patient of every cell, and
// whether it is for testing. A patient goes to one hospital with all her cells, which are of one kind.
//
// The chance that hospital h gets a patient of kind c is its share of that kind (Dirichlet, alpha) times its
// size (log-normal). Hospital h stains in the way number h, or h less the number of ways.

const SIZE_SPREAD = 1.2;  // standard deviation of the logarithm of sizes at full quantity skew

function patientsOf(data) {
  const patients = new Map();
  data.patient.forEach((number, cell) => {
    if (!patients.has(number)) {
      patients.set(number, { number, label: data.label[cell], test: data.test[cell] === 1, cells: [] });
    }
    patients.get(number).cells.push(cell);
  });
  return [...patients.values()];
}

// Returns the hospitals: number, stain, patients, cells, and `mix`, the share of each kind among its cells.
function deal(data, { hospitals, alpha, quantity, patients, seed }) {
  const random = makeRandom(seed, "deal"), everybody = patientsOf(data).filter((patient) => !patient.test);
  const sizes = Array.from({ length: hospitals }, () => Math.exp(SIZE_SPREAD * quantity * random.normal()));
  const part = Math.min(1, hospitals * patients / everybody.length);
  const dealt = Array.from({ length: hospitals }, () => []);
  data.classes.forEach((_, label) => {
    const group = everybody.filter((patient) => patient.label === label);
    const chosen = random.order(group.length).slice(0, Math.round(part * group.length));
    const weights = random.dirichlet(alpha, hospitals).map((share, h) => share * sizes[h]);
    const total = weights.reduce((a, b) => a + b, 0), offset = random();
    chosen.forEach((place, j) => {
      let left = (j + offset) / chosen.length * total, h = 0;
      while (h < hospitals - 1 && left >= weights[h]) left -= weights[h++];
      dealt[h].push(group[place]);
    });
  });
  leaveNoneEmpty(dealt);
  return dealt.map((own, number) => describe(data, number, own));
}

// A hospital without any patient gets one of the largest.
function leaveNoneEmpty(dealt) {
  for (const own of dealt) {
    if (own.length > 0) continue;
    const largest = dealt.reduce((a, b) => b.length > a.length ? b : a);
    own.push(largest.pop());
  }
}

function describe(data, number, patients) {
  const cells = patients.flatMap((patient) => patient.cells), mix = new Float64Array(data.classes.length);
  for (const cell of cells) mix[data.label[cell]] += 1 / cells.length;
  return { number, stain: number % data.stains.length, patients, cells, mix };
}

// How many of the patients of a class a hospital has.
const countOf = (hospital, label) => hospital.patients.filter((patient) => patient.label === label).length;
