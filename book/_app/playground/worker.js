"use strict";

// What the page asks of a worker: `start` a run, `step` one round, and `maps` of a cell. Answers bear the same
// name; `training` is said while a round is under way.
let run = null;

const ANSWERS = {
  start({ data, sheet, setting, role }) {
    run = startRun(data, sheet, setting, role);
    const hospitals = run.hospitals.map(({ number, stain, patients, cells, mix }) => (
      { number, stain, cells, mix: [...mix], kinds: data.classes.map((_, kind) => countOf({ patients }, kind)) }));
    return { role, hospitals, bad: run.bad, colour: run.colour ?? null, parameters: run.network.layout.size };
  },
  step() {
    if (run.federation !== undefined) return playFederation(run, (hospital) => postMessage({ kind: "training", hospital }));
    return run.central !== undefined ? playCentral(run) : playAlone(run);
  },
  maps: ({ cell, stain, label }) => ({ cell, stain, label, maps: mapsOf(run, stain * run.count + cell, label) }),
};

onmessage = ({ data: message }) => postMessage({ ...ANSWERS[message.kind](message), kind: message.kind });
