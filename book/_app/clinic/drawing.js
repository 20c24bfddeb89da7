// Draws a relevance map over a picture that is grey, so that neither violet cells nor a printer hide it.
"use strict";

const FOR = [224, 96, 0];
const AGAINST = [0, 90, 181];
const CANVAS = 512;    // pixels of the longer side
const FINE = 128;    // squares a side of a smooth map

function htmlElement(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function canvasLike(picture) {
  const factor = CANVAS / Math.max(picture.width, picture.height);
  return htmlElement("canvas", { width: Math.round(picture.width * factor), height: Math.round(picture.height * factor) });
}

// A map on another grid, bilinear between the middles of its squares.
function smoothed(map, side, fine) {
  const clamp = (value) => Math.min(Math.max(value, 0), side - 1);
  return Float64Array.from({ length: fine * fine }, (_, i) => {
    const [x, y] = [i % fine, Math.floor(i / fine)].map((at) => clamp(((at + 0.5) / fine) * side - 0.5));
    const [left, top] = [Math.floor(x), Math.floor(y)];
    const [right, bottom] = [clamp(left + 1), clamp(top + 1)];
    const row = (line) => map[line * side + left] * (1 - x + left) + map[line * side + right] * (x - left);
    return row(top) * (1 - y + top) + row(bottom) * (y - top);
  });
}

// Lines between squares that are in a mask and those that are not: dark on light, seen on any ground.
function outline(context, mask, side, dashes = []) {
  const [width, height] = [context.canvas.width / side, context.canvas.height / side];
  const is = (row, column) => row >= 0 && column >= 0 && row < side && column < side && mask[row * side + column];
  context.beginPath();
  for (let row = 0; row <= side; row += 1) {
    for (let column = 0; column <= side; column += 1) {
      const here = is(row, column);
      if (here !== is(row - 1, column)) {
        context.moveTo(column * width, row * height);
        context.lineTo((column + 1) * width, row * height);
      }
      if (here !== is(row, column - 1)) {
        context.moveTo(column * width, row * height);
        context.lineTo(column * width, (row + 1) * height);
      }
    }
  }
  context.lineCap = "square";
  for (const [colour, thick, dash] of [["#fff", 6, []], ["#111", 3, dashes]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.setLineDash(dash);
    context.stroke();
  }
  context.setLineDash([]);
}

// The picture as it is.
function drawOriginal(canvas, picture, nucleus) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = picture.width > 150;    // few pixels are shown as they are
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (nucleus) outline(context, nucleus, Math.sqrt(nucleus.length));
}

// The picture in grey and paler, so that colour upon it can only be the map's.
function drawGrey(context, picture) {
  context.imageSmoothingEnabled = picture.width > 150;
  context.filter = "grayscale(1)";
  context.drawImage(picture, 0, 0, context.canvas.width, context.canvas.height);
  context.filter = "none";
  context.fillStyle = "rgba(255, 255, 255, 0.35)";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

// White lines across a square, so that who sees no colours can tell what speaks against the class.
function hatch(context, x, y, width, height, strength) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.beginPath();
  for (let at = -height; at < width; at += 14) {
    context.moveTo(x + at, y + height);
    context.lineTo(x + at + height, y);
  }
  context.strokeStyle = `rgba(255, 255, 255, ${strength})`;
  context.lineWidth = 3;
  context.stroke();
  context.restore();
}

// The map over the picture: orange speaks for the class, hatched blue against it, full colour is the value `top`. The
// lines go round what has at least half of the map's own largest value, dashed for what speaks against.
function drawMap(canvas, picture, { map, side }, view, top, nucleus) {
  const context = canvas.getContext("2d");
  drawGrey(context, picture);
  const fine = view.smooth ? FINE : side;
  const values = view.smooth ? smoothed(map, side, fine) : map;
  const [width, height] = [canvas.width / fine, canvas.height / fine];
  values.forEach((value, i) => {
    if (value < 0 && !view.signed) return;
    const strength = Math.min(1, Math.abs(value) / top) * view.opacity;
    context.fillStyle = `rgba(${value > 0 ? FOR : AGAINST}, ${strength})`;
    const [x, y] = [(i % fine) * width, Math.floor(i / fine) * height];
    context.fillRect(Math.floor(x), Math.floor(y), Math.ceil(x + width) - Math.floor(x), Math.ceil(y + height) - Math.floor(y));
    if (value < 0 && !view.smooth) hatch(context, x, y, width, height, strength);
  });
  const highest = Math.max(...map.map((value) => (view.signed ? Math.abs(value) : value)));
  if (nucleus) outline(context, nucleus, Math.sqrt(nucleus.length), [2, 5]);
  if (highest <= 0) return;
  outline(context, Array.from(values, (value) => value >= highest / 2), fine);
  if (view.signed) outline(context, Array.from(values, (value) => -value >= highest / 2), fine, [8, 8]);
}
