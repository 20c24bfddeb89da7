// Brings the page's figures to life without a network: explorers (sliders over recorded pictures, by
// explorer.js) and interactive plots, for which the book carries plotly and loads it when the first one
// comes into view.
"use strict";

const ASSETS = new URL(".", document.currentScript.src);

function startRecorded(explorer) {
  startExplorer(explorer, JSON.parse(explorer.querySelector("script").textContent));
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

document.querySelectorAll(".hemafl-explorer").forEach(startRecorded);
whenSeen(document.querySelectorAll(".hemafl-plot"), startPlot);
