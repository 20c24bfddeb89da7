// Brings an explorer to life: its sliders and lists choose among recorded pictures, which charts.js and overlays.js
// draw. In Jupyter, live.js adds Python's answers for the settings that are not recorded.
"use strict";

// A picture whose numbers were packed as text, two characters a number, with its series in full.
function unpack(picture, packing) {
  if (packing === undefined || picture.head === undefined) return picture;
  const code = (i) => packing.alphabet.indexOf(picture.y[i]);
  let place = 0;
  const number = () => {
    place += 2;
    return (packing.first + 64 * code(place - 2) + code(place - 1)) / 10 ** packing.digits;
  };
  const row = (head) => head.x.map(number);
  const rows = (head) => (head.band ? { y: row(head), low: row(head), high: row(head) } : { y: row(head) });
  return { ...picture, series: packing.heads[picture.head].map((head) => ({ ...head, ...rows(head) })) };
}

// Images by their address, loaded once; `loaded` is called whenever one is ready to be drawn.
function imageStore(loaded) {
  const images = new Map();
  return (source) => {
    if (!images.has(source)) {
      const image = new Image();
      image.addEventListener("load", loaded);
      image.src = source;
      images.set(source, image);
    }
    return images.get(source);
  };
}

// A button that ends a computation and goes back to the last recorded setting.
function addStopper(summary, stop) {
  const button = htmlElement("button", { type: "button", class: "hemafl-stop", hidden: "" }, "Stop and go back");
  button.addEventListener("click", stop);
  summary.after(button);
  return button;
}

// The reader's answer is followed by whether it was right, why, and the setting that shows it.
function startPrediction(element, { right, because, place }, goTo) {
  const buttons = [...element.querySelectorAll("button")];
  const verdict = element.querySelector(".hemafl-verdict");
  buttons.forEach((button, i) => button.addEventListener("click", () => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    verdict.textContent = `${i === right ? "Yes." : `No: ${buttons[right].textContent}.`} ${because}`;
    goTo(place);
  }));
}

// Starts the explorer `element` on a recording. `live` is for Jupyter only: `live.answer()` is Python's
// latest answer, with the place of the controls that it is for, and `live.ask(place)` asks for another.
// Returns `update`, to be called after an answer, `moveTo`, after a question of any view, and `stop`.
function startExplorer(element, content, live) {
  const controls = [...element.querySelectorAll(".hemafl-control > input, .hemafl-control > select")];
  const canvas = element.querySelector(".hemafl-picture");
  const summary = element.querySelector(".hemafl-summary");
  const numbers = foldedNumbers();
  summary.after(numbers);
  const view = { opacity: 0.5, smooth: false };
  const image = imageStore(draw);
  const stopper = live === undefined ? null : addStopper(summary, () => goTo(recorded));
  let shown;       // the picture on the page
  let recorded;    // where the controls stood when a recorded picture was shown last

  function elementsOf(picture) {
    if (picture.kind !== "overlay") {
      const legend = picture.series.length > 1 ? [drawLegend(picture)] : [];
      return [...legend, drawChart(picture, content.alt, Math.max(280, canvas.clientWidth))];
    }
    const cell = image(typeof picture.image === "number" ? content.images[picture.image] : picture.image);
    return cell.naturalWidth > 0 ? drawOverlay(picture, content.alt, cell, view) : [...canvas.children];
  }

  function draw() {
    canvas.replaceChildren(...(shown === undefined ? [] : elementsOf(shown)));
    numbers.hidden = shown?.series === undefined;
    if (!numbers.hidden) numbers.lastElementChild.replaceChildren(drawNumbers(shown));
  }

  // Only a change of the text is worth reading aloud; the opacity is none.
  function say(text) {
    if (summary.textContent !== text) summary.textContent = text;
  }

  const place = () => controls.map((control) => control.value).join(",");

  // The picture, if there is one already, and the words of the controls' setting.
  function lookUp() {
    const recorded = content.pictures[place()];
    if (recorded !== undefined) {
      const picture = unpack({ ...content.shared, ...recorded }, content.packing);
      return { picture, text: picture.summary };
    }
    const answer = live?.answer();
    return answer?.place === place() ? answer : undefined;
  }

  function label(control, i) {
    if (control.type !== "range") return;
    const text = content.controls[i][control.value];
    control.setAttribute("aria-valuetext", text);
    control.nextElementSibling.textContent = text;
  }

  function update() {
    controls.forEach(label);
    const found = lookUp();
    if (content.pictures[place()] !== undefined) recorded = place();
    if (stopper !== null) stopper.hidden = content.pictures[place()] !== undefined || found?.done === true;
    if (found !== undefined) {
      shown = found.picture ?? shown;
      say(found.text);
    } else if (live === undefined) {
      shown = undefined;
      say("This setting was not recorded for the page. Open the notebook in Jupyter to compute it.");
    }
    draw();
  }

  function moveTo(there) {
    there.split(",").forEach((position, i) => { controls[i].value = position; });
    update();
    if (lookUp() === undefined) say("Computing ...");
  }

  // Where the reader is led, as if the controls had been moved.
  function goTo(there) {
    moveTo(there);
    live?.ask(there);
  }

  (content.images ?? []).forEach(image);
  if (content.images !== undefined) element.querySelector(".hemafl-controls").append(...viewControls(element.id, view, draw));
  for (const control of controls) {
    control.addEventListener("input", update);
    // While a slider is dragged, nothing is asked for; "change" comes when it is let go.
    if (live !== undefined) control.addEventListener("change", () => live.ask(place()));
  }
  if (content.prediction !== undefined) startPrediction(element.querySelector(".hemafl-prediction"), content.prediction, goTo);
  const stop = onWidth(canvas, draw);
  update();
  return { update, moveTo, stop };
}
