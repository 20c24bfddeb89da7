"use strict";

// Small helpers to draw: HTML, SVG and cells. Attributes and text only, never markup from a string.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A picture of a cell, from the bytes of all cells, as a bitmap that canvases draw.
function cellImage(bytes, cell) {
  const area = SIDE * SIDE, image = new ImageData(SIDE, SIDE);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[(3 * cell + c) * area + i];
    image.data[4 * i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// A canvas with cells side by side, `size` pixels each; pictures have a text beside them and are decoration.
function cellStrip(images, size) {
  const ratio = Math.max(1, Math.min(3, window.devicePixelRatio));
  const canvas = element("canvas", { width: images.length * size * ratio, height: size * ratio, "aria-hidden": "true" });
  canvas.style.width = `${images.length * size}px`;
  canvas.style.height = `${size}px`;
  const context = canvas.getContext("2d");
  images.forEach((image, i) => context.drawImage(image, i * size * ratio, 0, size * ratio, size * ratio));
  return canvas;
}

// A cell with what speaks for a class (orange) and against it (blue) on the map's own grid; `top` is full colour.
function cellWithMap(image, map, size, top) {
  const canvas = cellStrip([image], size), context = canvas.getContext("2d");
  const grid = Math.sqrt(map.length), step = canvas.width / grid;
  map.forEach((value, i) => {
    const strength = Math.min(1, Math.abs(value) / top);
    context.fillStyle = value > 0 ? `rgba(255, 140, 0, ${0.8 * strength})` : `rgba(0, 80, 220, ${0.6 * strength})`;
    context.fillRect(i % grid * step, Math.floor(i / grid) * step, step, step);
  });
  return canvas;
}

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

// Places labels of at least `gap` pixels apart, as near as they go to where they belong.
function spread(places, gap, low, high) {
  const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]), result = [...places];
  for (let n = 1; n < order.length; n++) result[order[n]] = Math.max(result[order[n]], result[order[n - 1]] + gap);
  const over = Math.max(0, (result[order.at(-1)] ?? 0) - high);
  if (over > 0) {
    result[order.at(-1)] = high;
    for (let n = order.length - 2; n >= 0; n--) result[order[n]] = Math.min(result[order[n]], result[order[n + 1]] - gap);
  }
  return result.map((place) => Math.max(low, place));
}
