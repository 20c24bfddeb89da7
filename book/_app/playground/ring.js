"use strict";

// The animated round: the model travels from the server to the hospitals, each trains on cells that stay, and
// numbers travel back. `ring.hospitals(list)` gives who is there, `ring.phase(name, details)` what happens, and
// `ring.draw()` draws it anew, as after a change of the page's size or colours.

const TRAVEL = 450;    // milliseconds that the model or the numbers take

function makeRing(canvas) {
  let hospitals = [], state = { phase: "rest", since: 0, training: null, asked: new Set(), lost: new Set(), score: null, round: 0 };
  let frame = null;

  function placeOf(h, width, height) {
    const angle = -Math.PI / 2 + 2 * Math.PI * (h + 0.5) / hospitals.length;
    return { x: width / 2 + (width / 2 - Math.min(110, width * 0.15)) * Math.cos(angle), y: height / 2 + (height / 2 - 52) * Math.sin(angle) };
  }

  function draw() {
    const ratio = window.devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const part = Math.min(1, (performance.now() - state.since) / TRAVEL);
    hospitals.forEach((hospital, h) => drawWay(context, placeOf(h, width, height), width, height, h, part));
    drawServer(context, width / 2, height / 2);
    hospitals.forEach((hospital, h) => drawHospital(context, hospital, placeOf(h, width, height), width));
    if (part < 1 && (state.phase === "out" || state.phase === "back")) again();
  }

  function again() {
    if (frame === null) frame = requestAnimationFrame(() => { frame = null; draw(); });
  }

  // The line between server and hospital, and what travels on it: squares outward, dots homeward.
  function drawWay(context, place, width, height, h, part) {
    context.strokeStyle = colourOf("line");
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(width / 2, height / 2);
    context.lineTo(place.x, place.y);
    context.stroke();
    if (!state.asked.has(h) || (state.phase !== "out" && state.phase !== "back")) return;
    const share = state.phase === "out" ? part : 1 - part;
    if (state.phase === "back" && state.lost.has(h) && part > 0.5) return;
    for (let n = 0; n < 5; n++) {
      const at = Math.max(0, Math.min(1, share - 0.035 * (n - 2)));
      const x = width / 2 + (place.x - width / 2) * at, y = height / 2 + (place.y - height / 2) * at;
      context.fillStyle = colourOf(state.phase === "out" ? "federation" : `kind${hospitals[h].main}`);
      context.beginPath();
      if (state.phase === "out") context.rect(x - 4, y - 4, 8, 8);
      else context.arc(x, y, 3.5, 0, 2 * Math.PI);
      context.fill();
    }
  }

  function drawServer(context, x, y) {
    context.fillStyle = colourOf("panel");
    context.strokeStyle = colourOf("federation");
    context.lineWidth = 3;
    context.beginPath();
    context.arc(x, y, 56, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
    context.textAlign = "center";
    context.fillStyle = colourOf("text");
    context.font = "700 26px system-ui, sans-serif";
    context.fillText(state.score === null ? "–" : `${Math.round(100 * state.score)} %`, x, y + 5);
    context.font = "12.5px system-ui, sans-serif";
    context.fillStyle = colourOf("quiet");
    context.fillText("shared model", x, y - 22);
    context.fillText(`round ${state.round}`, x, y + 26);
  }

  // A hospital: its cells, its kinds as a bar, and its name. The one that trains has a strong frame.
  function drawHospital(context, hospital, { x, y }, width) {
    const many = hospitals.length > 8 || width < 500, shown = hospitals.length > 12 ? 1 : many ? 2 : 4, size = many ? 22 : 30;
    const wide = Math.max(shown * size, 34) + 12, high = size + 34, left = x - wide / 2, top = y - high / 2;
    const training = state.phase === "training" && state.training === hospital.number;
    context.fillStyle = colourOf("panel");
    context.strokeStyle = hospital.marked ? colourOf("warn") : training ? colourOf("federation") : colourOf("line");
    context.lineWidth = training || hospital.marked ? 3 : 1.5;
    context.beginPath();
    context.roundRect(left, top, wide, high, 8);
    context.fill();
    context.stroke();
    hospital.images.slice(0, shown).forEach((image, i) => {
      context.drawImage(image, x - shown * size / 2 + i * size, top + 6, size, size);
    });
    let from = left + 6;
    const all = hospital.kinds.reduce((a, b) => a + b, 0);
    hospital.kinds.forEach((count, kind) => {
      context.fillStyle = colourOf(`kind${kind}`);
      context.fillRect(from, top + size + 9, (wide - 12) * count / all, 5);
      from += (wide - 12) * count / all;
    });
    context.textAlign = "center";
    context.fillStyle = hospital.marked ? colourOf("warn") : colourOf("text");
    context.font = "600 12.5px system-ui, sans-serif";
    const absent = state.phase !== "rest" && !state.asked.has(hospital.number) ? " (not asked)" : "";
    context.fillText(hospital.marked ? `${hospital.name} (bad)` : `${hospital.name}${absent}`, x, top + size + 28);
  }

  return {
    draw,
    hospitals(list) { hospitals = list; draw(); },
    phase(name, details = {}) {
      state = { ...state, ...details, phase: name, since: performance.now() };
      draw();
    },
  };
}
