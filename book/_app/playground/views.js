"use strict";

// What the page shows of a run: each function returns elements, or fills one.

// --- curves ------------------------------------------------------------------------------------------

const CURVES = {
  federation: "federation", central: "all in one place", alone: "one alone", colour: "colours only", chance: "chance",
};

function curvePoints(run) {
  const rivals = run.rivals, flat = (value) => value === null ? [] : [[0, value], [run.setting.rounds, value]];
  return {
    federation: run.rounds.map(({ round, joint }) => [round, joint]),
    central: rivals.filter(({ central }) => central !== null).map(({ round, central }) => [round, central]),
    alone: rivals.filter(({ alone }) => alone !== null).map(({ round, alone }) => [round, alone.joint]),
    colour: flat(run.colour),
    chance: flat(1 / run.classes),
  };
}

function drawCurves(run, width) {
  const height = 300, left = 38, right = 128, top = 10, bottom = 34;
  const x = (round) => left + (width - left - right) * round / run.setting.rounds;
  const y = (value) => top + (height - top - bottom) * (1 - value);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": curveWords(run) });
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    picture.append(svg("text", { class: "quiet", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, `${100 * value}`));
  }
  const step = run.setting.rounds > 10 ? 5 : run.setting.rounds > 5 ? 2 : 1;
  for (let round = 0; round <= run.setting.rounds; round += step) {
    picture.append(svg("text", { class: "quiet", x: x(round), y: height - 16, "text-anchor": "middle" }, `${round}`));
  }
  picture.append(svg("text", { class: "quiet", x: (left + width - right) / 2, y: height - 1, "text-anchor": "middle" }, "round"));
  const points = curvePoints(run), names = Object.keys(points).filter((name) => points[name].length > 0);
  const labels = spread(names.map((name) => y(last(points[name])[1])), 17, top + 6, height - bottom);
  // The federation is drawn last, on top of the others.
  [...names.keys()].reverse().forEach((i) => {
    const name = names[i];
    const way = points[name].map(([round, value]) => `${x(round).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    picture.append(svg("polyline", { class: `curve s-${name}`, points: way }));
    if (points[name].length < 2) {
      const [round, value] = points[name][0];
      picture.append(svg("circle", { class: `f-${name}`, cx: x(round), cy: y(value), r: 4 }));
    }
    const [, value] = last(points[name]);
    picture.append(svg("text", { class: `f-${name}`, x: width - right + 8, y: labels[i] + 4 }, `${CURVES[name]} ${Math.round(100 * value)}`));
  });
  return picture;
}

function curveWords(run) {
  const points = curvePoints(run), so = (round) => round < run.rounds.length ? ` in round ${round}` : "";
  return Object.entries(points).filter(([, list]) => list.length > 0)
    .map(([name, list]) => `${CURVES[name]} ${rounded(last(list)[1])}${so(last(list)[0])}`).join(", ");
}

// --- hospitals ---------------------------------------------------------------------------------------

function drawLegend(data) {
  return data.classes.map((name, kind) => element("li", {}, element("i", { class: `k${kind}` }), name));
}

function drawHospitals(run, images) {
  const most = Math.max(...run.hospitals.map(({ kinds }) => kinds.reduce((a, b) => a + b, 0)));
  const rival = aloneOf(run), alone = rival?.own;
  const shared = (rival === null ? last(run.rounds) : run.rounds[rival.round - 1])?.own;
  const head = element("tr", {}, ...["Hospital", "Patients", "Cells", `Own patients, 0 to 100 %${rival === null ? "" : `, round ${rival.round}`}`, "Gain"].map((text) => element("th", { scope: "col" }, text)));
  const rows = run.hospitals.map((hospital, h) => {
    const name = element("th", { scope: "row" }, hospital.name);
    if (hospital.marked) name.append(" ", element("span", { class: "bad" }, "bad"));
    const gain = alone && shared ? Math.round(100 * (shared[h] - alone[h])) : null;
    return element("tr", {}, name, element("td", { class: "bars" }, drawKinds(hospital, most, run.names)),
      element("td", {}, cellStrip(images(hospital).slice(0, 5), 28)),
      element("td", { class: "dumbbell" }, drawDumbbell(alone?.[h], shared?.[h])),
      element("td", {}, gain === null ? "–" : `${gain > 0 ? "+" : gain < 0 ? "−" : ""}${Math.abs(gain)}`));
  });
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

function drawKinds({ kinds }, most, names) {
  const words = kinds.map((count, kind) => `${count} ${names[kind]}`).join(", ");
  const picture = svg("svg", { viewBox: "0 0 176 22", role: "img", "aria-label": `Patients: ${words}` });
  let from = 0;
  kinds.forEach((count, kind) => {
    const wide = 150 * count / most;
    picture.append(svg("rect", { class: `k${kind} cell`, x: from, y: 3, width: wide, height: 16 }));
    from += wide;
  });
  picture.append(svg("text", { class: "quiet", x: from + 4, y: 16 }, `${kinds.reduce((a, b) => a + b, 0)}`));
  return picture;
}

function drawDumbbell(alone, shared) {
  const x = (value) => 8 + 240 * value, known = [alone, shared].map((v) => v === undefined ? "not yet" : rounded(v));
  const picture = svg("svg", { viewBox: "0 0 256 22", role: "img", "aria-label": `Alone ${known[0]}, shared model ${known[1]}` });
  picture.append(svg("line", { class: "axis", x1: x(0), x2: x(1), y1: 11, y2: 11 }));
  if (alone !== undefined && shared !== undefined) {
    picture.append(svg("line", { class: shared >= alone ? "gain" : "loss", x1: x(alone), x2: x(shared), y1: 11, y2: 11 }));
  }
  if (alone !== undefined) picture.append(svg("rect", { class: "f-alone", x: x(alone) - 5, y: 6, width: 10, height: 10 }));
  if (shared !== undefined) picture.append(svg("circle", { class: "f-federation", cx: x(shared), cy: 11, r: 6 }));
  return picture;
}

// --- distances ---------------------------------------------------------------------------------------

function drawDistances({ replies, distance, length }) {
  const n = replies.length, wide = 360, side = Math.min(40, 230 / n), left = 22;
  const most = Math.max(...distance.flat(), 1e-9), longest = Math.max(...length, 1e-9);
  const words = `Mean distance to the others: ${replies.map((h, i) => `${hospitalName(h)} ${(distance[i].reduce((a, b) => a + b, 0) / Math.max(1, n - 1)).toFixed(2)}`).join(", ")}`;
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${n * side + 22}`, role: "img", "aria-label": words });
  replies.forEach((h, i) => {
    picture.append(svg("text", { x: left - 6, y: 18 + (i + 0.5) * side + 4, "text-anchor": "end" }, hospitalName(h)));
    picture.append(svg("text", { x: left + (i + 0.5) * side, y: 13, "text-anchor": "middle" }, hospitalName(h)));
    distance[i].forEach((value, j) => picture.append(svg("rect", {
      class: "far cell", x: left + j * side, y: 18 + i * side, width: side, height: side, "fill-opacity": (0.06 + 0.94 * value / most).toFixed(3),
    })));
    const from = left + n * side + 12, room = wide - from - 44;
    picture.append(svg("rect", { class: "f-federation", x: from, y: 18 + i * side + side * 0.25, width: Math.max(1, room * length[i] / longest), height: side * 0.5 }));
    picture.append(svg("text", { class: "quiet", x: from + room * length[i] / longest + 5, y: 18 + (i + 0.5) * side + 4 }, length[i].toPrecision(2)));
  });
  return picture;
}

// --- cells -------------------------------------------------------------------------------------------

// Which test cells the shared model misreads, as { cell, stain, is, named }, those of rare mistakes among them.
function misreadCells(run, named) {
  const found = [];
  for (let i = 0; i < named.length; i++) {
    const stain = Math.floor(i / run.test.length), cell = run.test[i % run.test.length], is = run.labels[cell];
    if (named[i] !== is) found.push({ cell, stain, is, named: named[i] });
  }
  return found;
}

// Up to `count` of a list, spread over it.
const some = (list, count) => list.filter((_, i) => Math.floor(i * count / list.length) !== Math.floor((i - 1) * count / list.length) || i === 0);

function drawMaps({ maps, label, cell, stain }, image, run) {
  // One scale for all rounds; single squares may go beyond it, so that the others are seen.
  const top = 0.5 * Math.max(...maps.flat().map(Math.abs), 1e-9);
  const figures = maps.map((map, round) => element("figure", {}, cellWithMap(image, map, 80, top), round === 0 ? "untrained" : `round ${round}`));
  const sum = last(maps).reduce((a, b) => a + b, 0);
  const words = `What speaks for ${run.names[label]} (orange) and against it (blue) in this ${run.names[run.labels[cell]]}, `
    + `stained as in ${hospitalName(stain)}. The squares of the last picture add up to ${sum.toFixed(1)}, the score but for a constant.`;
  const plain = element("figure", {}, cellStrip([image], 80), "the cell");
  return [element("p", { class: "told" }, words), plain, ...figures.slice(0, 1), ...some(figures.slice(1), 10)];
}
