// Draws a cell with a relevance map over it on a canvas. Loaded after charts.js and before explorer.js.
"use strict";

const VIRIDIS = (
  "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d " +
  "2f6b8e 2c728e 297a8e 26828e 23898e 21918c 1f988b 1fa088 22a785 28ae80 32b67a " +
  "3fbc73 4ec36b 5ec962 70cf57 84d44b 98d83e addc30 c2df23 d8e219 ece51b fde725"
).split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const CANVAS_SIZE = 384;    // about how many pixels a cell is wide, whatever the image's own size

// The opaque colour of each relevance from 0 to 255.
const COLOUR_OF = Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return [...VIRIDIS[i].map((from, channel) => from + (place - i) * (VIRIDIS[i + 1][channel] - from)), 255];
});

// The map's value at a place in grid units, where the middle of the first square is (0, 0).
function nearest(grid, x, y) {
  return grid.values[Math.round(y) * grid.columns + Math.round(x)];
}

function bilinear(grid, x, y) {
  const clamp = (value, last) => Math.min(Math.max(value, 0), last);
  const [u, v] = [clamp(x, grid.columns - 1), clamp(y, grid.rows - 1)];
  const [left, top] = [Math.floor(u), Math.floor(v)];
  const [right, bottom] = [Math.min(left + 1, grid.columns - 1), Math.min(top + 1, grid.rows - 1)];
  const row = (line) => {
    const [from, to] = [grid.values[line * grid.columns + left], grid.values[line * grid.columns + right]];
    return from + (u - left) * (to - from);
  };
  return row(top) + (v - top) * (row(bottom) - row(top));
}

// The whole map in colours, at the size of the canvas.
function colouredMap(grid, width, height, smooth) {
  const canvas = htmlElement("canvas", { width, height });
  const pixels = new ImageData(width, height);
  const value = smooth ? bilinear : nearest;
  for (let i = 0; i < width * height; i += 1) {
    const x = ((i % width) + 0.5) / width * grid.columns - 0.5;
    const y = (Math.floor(i / width) + 0.5) / height * grid.rows - 0.5;
    pixels.data.set(COLOUR_OF[Math.round(value(grid, x, y))], 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function relevanceGrid(picture) {
  const [rows, columns] = picture.shape;
  return { rows, columns, values: Uint8Array.from(atob(picture.relevance), (character) => character.charCodeAt(0)) };
}

function drawCell(picture, alt, image, view) {
  const factor = Math.ceil(CANVAS_SIZE / image.naturalWidth);
  const [width, height] = [factor * image.naturalWidth, factor * image.naturalHeight];
  const canvas = htmlElement("canvas", { class: "hemafl-cell", width, height, role: "img", "aria-label": `${alt} ${picture.title}` });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, width, height);
  context.globalAlpha = view.opacity;
  context.drawImage(colouredMap(relevanceGrid(picture), width, height, view.smooth), 0, 0);
  return canvas;
}

function drawColourScale() {
  const scale = htmlElement("div", { class: "hemafl-scale", "aria-hidden": "true" });
  const ramp = htmlElement("span", {});
  ramp.style.background = `linear-gradient(to right, ${VIRIDIS.map((colour) => `rgb(${colour})`)})`;
  scale.append("relevance 0", ramp, "1");
  return scale;
}

function drawOverlay(picture, alt, image, view) {
  const title = htmlElement("p", { class: "hemafl-title" }, picture.title);
  return [title, drawCell(picture, alt, image, view), drawColourScale()];
}

// Controls of the view, which need no recording: how opaque the map is, and whether it is smooth.
function viewControls(name, view, update) {
  const opacity = htmlElement("div", { class: "hemafl-control" });
  const slider = htmlElement("input", { type: "range", id: `${name}-view-opacity`, min: 0, max: 100, step: 5, value: 100 * view.opacity });
  const output = htmlElement("output", { for: slider.id });
  opacity.append(htmlElement("label", { for: slider.id }, "Opacity of the map"), slider, output);
  const smooth = htmlElement("div", { class: "hemafl-choice" });
  const box = htmlElement("input", { type: "checkbox", id: `${name}-view-smooth` });
  smooth.append(box, htmlElement("label", { for: box.id }, "Smooth the map (it hides how coarse it is)"));
  const change = () => {
    view.opacity = slider.value / 100;
    view.smooth = box.checked;
    output.textContent = `${slider.value} %`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  for (const input of [slider, box]) input.addEventListener("input", () => { change(); update(); });
  change();
  return [opacity, smooth];
}
