"use strict";

// One run of a setting, in a worker: the federation, or one of its rivals (each hospital alone; all cells in one
// place). What chance decides depends on the seed, the hospital and the round only.

function startRun(data, sheet, setting, role) {
  const count = data.label.length, stains = Math.min(data.stains.length, setting.hospitals);
  const hospitals = deal(data, setting);
  for (const hospital of hospitals) {
    hospital.labels = hospital.cells.map((cell) => data.label[cell]);
    hospital.pictures = hospital.cells.map((cell) => hospital.stain * count + cell);
  }
  const bad = setting.bad === "none" ? null
    : { hospital: Math.floor(makeRandom(setting.seed, "bad")() * hospitals.length), kind: setting.bad };
  const network = makeNetwork(data.classes.length, setting.norm !== "none");
  const test = [...data.test.keys()].filter((cell) => data.test[cell] === 1);
  const run = {
    data, setting, hospitals, stains, count, bad, network, test, round: 0, models: [],
    bytes: inAllStains(sheet, data, stains, setting.stain),
    initial: initialWeights(network, makeRandom(setting.seed, "weights")),
    testLabels: Array.from({ length: stains }, () => test.map((cell) => data.label[cell])).flat(),
  };
  if (role === "federation") run.federation = federationOf(run, hospitals, bad);
  else if (role === "central") startCentral(run);
  else startAlone(run);
  return run;
}

function federationOf(run, hospitals, bad) {
  const { setting, network, bytes, initial } = run;
  const list = hospitals.map(({ pictures, labels }) => ({ cells: pictures, labels }));
  const privacy = setting.clip > 0 ? { clip: setting.clip, noise: setting.noise, sampling: setting.participation } : null;
  return startFederation(network, bytes, list, initial, {
    epochs: setting.epochs, rate: setting.rate, proximal: setting.proximal, aggregator: setting.aggregator,
    keepNorm: setting.norm === "local", privacy,
  }, bad);
}

// --- the federation ----------------------------------------------------------------------------------

function ordersOf(run, name, length, round) {
  const random = makeRandom(run.setting.seed, "order", name, round);
  return Array.from({ length: run.setting.epochs }, () => random.order(length));
}

function normalNumbers(run, kind, hospital, round) {
  const random = makeRandom(run.setting.seed, kind, hospital, round);
  return Float64Array.from({ length: run.network.layout.size }, () => random.normal());
}

// Plays a round and returns all that the page shows of it; `report` hears which hospital begins to train.
function playFederation(run, report) {
  const { setting, hospitals, federation } = run, chance = makeRandom(setting.seed, "absent", federation.round + 1);
  const luck = hospitals.map(() => ({ asked: chance() < setting.participation, lost: chance() < setting.lost }));
  const numbers = hospitals.map(({ number }) => number), lost = numbers.filter((h) => luck[h].lost);
  const played = playRound(federation, {
    asked: numbers.filter((h) => luck[h].asked), lost, there: numbers.filter((h) => !luck[h].lost), report,
    orders: (h, round) => ordersOf(run, h, hospitals[h].cells.length, round),
    normal: (kind, h, round) => needsNormal(run, kind, h) ? normalNumbers(run, kind, h, round) : null,
  });
  run.models.push(modelOf(run, 0));
  return {
    ...played, ...judgeFederation(run), losses: [...played.losses], lost: lost.filter((h) => luck[h].asked),
    bytesSent: federation.bytesSent, krum: krumOf(played.distance),
  };
}

const needsNormal = ({ bad, setting }, kind, h) => kind === "server" ? setting.clip > 0
  : bad !== null && bad.kind === "noise" && bad.hospital === h;

// The model that hospital h uses: the shared one, under FedBN with its own norms.
const modelOf = ({ federation }, h) => withOwnNorm(federation, federation.current, federation.hospitals[h]);

// Scores on the cells for testing. Under FedBN each hospital has its own model, and the joint score is their mean.
function judgeFederation(run) {
  const { setting, hospitals } = run;
  if (setting.norm !== "local") {
    const named = predictAll(run, run.federation.current), byStain = scoresOf(run, named);
    return { named, joint: jointAccuracy(byStain), own: hospitals.map((hospital) => ownAccuracy(byStain, hospital)) };
  }
  const judged = hospitals.map((hospital, h) => {
    const named = predictAll(run, modelOf(run, h)), byStain = scoresOf(run, named);
    return { named, joint: jointAccuracy(byStain), own: ownAccuracy(byStain, hospital) };
  });
  return { named: judged[0].named, joint: mean(judged.map(({ joint }) => joint)), own: judged.map(({ own }) => own) };
}

// The classes that a model names for all test cells, in each stain in turn.
function predictAll({ network, bytes, stains, test, count }, vector) {
  const pictures = Array.from({ length: stains }, (_, stain) => test.map((cell) => stain * count + cell)).flat();
  return predict(network, vector, bytes, pictures);
}

const scoresOf = ({ testLabels, stains, data }, named) => recalls(testLabels, named, stains, data.classes.length);

// Krum's scores from the distances between replies, with one liar among them.
function krumOf(distance) {
  const neighbours = Math.max(1, distance.length - 3);
  return distance.map((row) => row.map((value) => value * value).sort((a, b) => a - b)
    .slice(1, neighbours + 1).reduce((a, b) => a + b, 0));
}

// Where the model of each round saw evidence for a class in a picture: a grid a round, the first untrained.
const mapsOf = (run, picture, kind) => [run.initial, ...run.models]
  .map((model) => [...run.network.evidence(model, run.bytes, picture, kind)]);

// --- its rivals --------------------------------------------------------------------------------------

function startAlone(run) {
  const { hospitals, bad } = run;
  run.alone = hospitals.map((hospital, h) => rivalOf(run, [hospital], bad?.kind === "mislabels" && bad.hospital === h));
}

// One model of all hospitals' cells, as each hospital names them; and what colours alone tell.
function startCentral(run) {
  startAlone(run);
  const all = run.alone.map(({ hospitals: [only] }) => only);
  run.central = rivalOf(run, [{ pictures: all.flatMap(({ cells }) => cells), labels: all.flatMap(({ labels }) => labels) }], false);
  const cells = run.central.hospitals[0];
  const named = predictFromColours(run.bytes, cells.cells, cells.labels,
    Array.from({ length: run.stains }, (_, stain) => run.test.map((cell) => stain * run.count + cell)).flat(), run.data.classes.length);
  run.colour = jointAccuracy(scoresOf(run, named));
}

// Training without a federation, by the same rounds: the mean of one.
function rivalOf(run, hospitals, mislabels) {
  const federation = federationOf(run, hospitals, mislabels ? { hospital: 0, kind: "mislabels" } : null);
  federation.setting = { ...federation.setting, aggregator: "FedAvg", privacy: null, keepNorm: false };
  return federation;
}

// Whether hospitals alone are judged in this round; of many, not in each, for the time that it takes.
const judgesAlone = ({ rounds, hospitals }, round) => round % Math.ceil(hospitals / 3) === 0 || round === rounds;

function playRival(run, federation, name, round) {
  playRound(federation, {
    asked: [0], orders: (h) => ordersOf(run, name, federation.hospitals[h].cells.length, round), normal: () => null,
  });
}

function playCentral(run) {
  const round = run.central.round + 1;
  playRival(run, run.central, "all", round);
  return { round, central: jointAccuracy(scoresOf(run, predictAll(run, run.central.current))) };
}

function playAlone(run) {
  const { setting, hospitals, bad, alone } = run, round = alone[0].round + 1;
  alone.forEach((federation, h) => playRival(run, federation, h, round));
  if (!judgesAlone(setting, round)) return { round, alone: null };
  const judged = alone.map(({ current }, h) => {
    const byStain = scoresOf(run, predictAll(run, current));
    return { joint: jointAccuracy(byStain), own: ownAccuracy(byStain, hospitals[h]) };
  });
  const honest = judged.filter((_, h) => bad?.hospital !== h), counted = honest.length > 0 ? honest : judged;
  return { round, alone: { joint: mean(counted.map(({ joint }) => joint)), own: judged.map(({ own }) => own) } };
}
