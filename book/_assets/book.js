// Brings the explorers of the page to life: sliders over recorded pictures, by explorer.js.
"use strict";

function startRecorded(explorer) {
  startExplorer(explorer, JSON.parse(explorer.querySelector("script").textContent));
}

document.querySelectorAll(".hemafl-explorer").forEach(startRecorded);
