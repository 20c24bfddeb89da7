// Brings the page's figures to life without a network: explorers (sliders over recorded pictures, which
// charts.js and overlays.js draw) and interactive plots, for which the book carries plotly and loads it
// when the first one comes into view.
"use strict";

const ASSETS = new URL(".", document.currentScript.src);

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

function startExplorer(explorer) {
  const content = JSON.parse(explorer.querySelector("script").textContent);
  const sliders = [...explorer.querySelectorAll("input[type=range]")];
  const canvas = explorer.querySelector(".hemafl-picture");
  const summary = explorer.querySelector(".hemafl-summary");
  const numbers = htmlElement("details", { class: "hemafl-numbers" });
  numbers.append(htmlElement("summary", {}, "The numbers"), htmlElement("div", {}));
  summary.after(numbers);
  const view = { opacity: 0.5, smooth: false };
  const images = (content.images ?? []).map((source) => {
    const image = new Image();
    image.addEventListener("load", update);
    image.src = source;
    return image;
  });

  function showChart(picture) {
    const legend = picture.series.length > 1 ? [drawLegend(picture)] : [];
    canvas.replaceChildren(...legend, drawChart(picture, content.alt, Math.max(280, canvas.clientWidth)));
    numbers.lastElementChild.replaceChildren(drawNumbers(picture));
    numbers.hidden = false;
  }

  function showOverlay(picture) {
    const image = images[picture.image];
    if (image.naturalWidth > 0) canvas.replaceChildren(...drawOverlay(picture, content.alt, image, view));
    numbers.hidden = true;
  }

  function update() {
    sliders.forEach((slider, i) => {
      const text = content.controls[i][slider.value];
      slider.setAttribute("aria-valuetext", text);
      slider.nextElementSibling.textContent = text;
    });
    const recorded = content.pictures[sliders.map((slider) => slider.value).join(",")];
    if (recorded === undefined) {
      canvas.replaceChildren();
      numbers.hidden = true;
      summary.textContent = "This setting was not recorded for the page. Open the notebook in Jupyter to compute it.";
      return;
    }
    const picture = unpack({ ...content.shared, ...recorded }, content.packing);
    (picture.kind === "overlay" ? showOverlay : showChart)(picture);
    // Only a change of the text is worth reading aloud; the opacity is none.
    if (summary.textContent !== picture.summary) summary.textContent = picture.summary;
  }

  if (images.length > 0) explorer.querySelector(".hemafl-controls").append(...viewControls(explorer.id, view, update));
  for (const slider of sliders) slider.addEventListener("input", update);
  let width = 0;
  new ResizeObserver(() => {
    if (canvas.clientWidth === width) return;
    width = canvas.clientWidth;
    update();
  }).observe(canvas);
  update();
}

let plotly;

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = htmlElement("script", { src: new URL("vendor/plotly.min.js", ASSETS).href });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error("The book's copy of plotly is missing.")));
    document.head.append(script);
  });
  return plotly;
}

async function startPlot(figure) {
  const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
  const canvas = figure.querySelector(".hemafl-plot-canvas");
  const Plotly = await loadPlotly();
  await Plotly.newPlot(canvas, data, layout, { responsive: true, displaylogo: false });
}

function whenSeen(elements, start) {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((item) => item.isIntersecting)) {
      observer.unobserve(entry.target);
      start(entry.target);
    }
  }, { rootMargin: "300px" });
  elements.forEach((element) => observer.observe(element));
}

document.querySelectorAll(".hemafl-explorer").forEach(startExplorer);
whenSeen(document.querySelectorAll(".hemafl-plot"), startPlot);
