// Brings an explorer to life: its sliders choose among recorded pictures, which charts.js and overlays.js
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
  return { ...picture, series: packing.heads[picture.head].map((head) => ({ ...head, y: head.x.map(number) })) };
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

function addNumbers(summary) {
  const numbers = htmlElement("details", { class: "hemafl-numbers" });
  numbers.append(htmlElement("summary", {}, "The numbers"), htmlElement("div", {}));
  summary.after(numbers);
  return numbers;
}

// Starts the explorer `element` on a recording. `live` is for Jupyter only: `live.answer()` is Python's
// latest answer, with the place of the sliders that it is for, and `live.ask(place)` asks for another.
// Returns `update`, to be called after an answer, `moveTo`, after a question of any view, and `stop`.
function startExplorer(element, content, live) {
  const sliders = [...element.querySelectorAll("input[type=range]")];
  const canvas = element.querySelector(".hemafl-picture");
  const summary = element.querySelector(".hemafl-summary");
  const numbers = addNumbers(summary);
  const view = { opacity: 0.5, smooth: false };
  const image = imageStore(draw);
  let shown;    // the picture on the page

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

  const place = () => sliders.map((slider) => slider.value).join(",");

  // The picture, if there is one already, and the words of the sliders' setting.
  function lookUp() {
    const recorded = content.pictures[place()];
    if (recorded !== undefined) {
      const picture = unpack({ ...content.shared, ...recorded }, content.packing);
      return { picture, text: picture.summary };
    }
    const answer = live?.answer();
    return answer?.place === place() ? answer : undefined;
  }

  function label(slider, i) {
    const text = content.controls[i][slider.value];
    slider.setAttribute("aria-valuetext", text);
    slider.nextElementSibling.textContent = text;
  }

  function update() {
    sliders.forEach(label);
    const found = lookUp();
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
    there.split(",").forEach((position, i) => { sliders[i].value = position; });
    update();
    if (lookUp() === undefined) say("Computing ...");
  }

  (content.images ?? []).forEach(image);
  if (content.images !== undefined) element.querySelector(".hemafl-controls").append(...viewControls(element.id, view, draw));
  for (const slider of sliders) {
    slider.addEventListener("input", update);
    // While a slider is dragged, nothing is asked for; "change" comes when it is let go.
    if (live !== undefined) slider.addEventListener("change", () => live.ask(place()));
  }
  let width = 0;
  const resized = new ResizeObserver(() => {
    if (canvas.clientWidth === width) return;
    width = canvas.clientWidth;
    draw();
  });
  resized.observe(canvas);
  update();
  return { update, moveTo, stop: () => resized.disconnect() };
}
