// Draws charts as SVG, with a legend and a table of the numbers. Loaded before explorer.js and figures.js.
"use strict";

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#808080"];
const DASHES = ["", "9 5", "2 4", "9 4 2 4", "14 5", "14 4 3 4", "4 4"];
const OPACITIES = [1, 0.5, 0.15, 0.75, 0.3];    // bars that stay apart in print
const QUIET = { stroke: "#888888", "stroke-width": 1, "stroke-opacity": 0.6 };    // one of many clients
const FONT = 13;
const LETTER = FONT * 0.56;    // about how wide a letter is

function svgElement(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function htmlElement(name, attributes, text) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function shortNumber(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
}

// Round numbers between low and high, about `count` of them.
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

// A text in lines of at most so many letters, broken at its spaces.
function broken(text, letters) {
  const lines = [];
  for (const word of text.split(" ").filter(Boolean)) {
    const last = lines.length - 1;
    if (last >= 0 && lines[last].length + word.length < letters) lines[last] += ` ${word}`;
    else lines.push(word);
  }
  return lines;
}

function scale([low, high], [from, to]) {
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

function marker(shape, x, y, colour) {
  const place = { fill: colour, transform: `translate(${x} ${y})` };
  const outlines = [
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", "M-4-4h8v8h-8z", "M0-5L5 0L0 5L-5 0z", "M0-5L5 4H-5z",
    "M-4-2L-2-4L0-2L2-4L4-2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0z", "M-2-5h4v3h3v4h-3v3h-4v-3h-3v-4h3z", "M0 5L5-4H-5z",
  ];
  return svgElement("path", { ...place, d: outlines[shape % outlines.length] });
}

// Where the axes lie in a chart of a given width, in pixels.
function layout(picture, width) {
  const height = Math.round(Math.min(340, Math.max(240, width * 0.55)));
  const up = broken(picture.y_title, (height - 70) / LETTER);
  const along = broken(picture.x_title, (width - 75) / LETTER);
  const left = 44 + 16 * up.length;
  const frame = { width, left, right: width - 14, top: 18, bottom: height - 52, height: height + 16 * (along.length - 1), up, along };
  const names = picture.kind === "lines" ? [] : picture.series[0].x;
  const longest = Math.max(0, ...names.map((name) => String(name).length));
  const slot = (frame.right - frame.left) / Math.max(1, names.length);
  frame.tilted = longest * FONT * 0.6 > slot;
  frame.every = frame.tilted ? Math.ceil(FONT * 1.75 / slot) : 1;    // tilted names need room for a line
  if (frame.tilted) frame.height += Math.round(longest * FONT * 0.4);
  return frame;
}

// A loud series has a colour by its place among the loud ones; quiet ones are grey and lie behind.
function byLoudness(picture) {
  const loud = picture.series.filter((series) => !series.quiet);
  return { loud, quiet: picture.series.filter((series) => series.quiet) };
}

function fill(number) {
  const colour = COLOURS[number % COLOURS.length];
  return { fill: colour, "fill-opacity": OPACITIES[number % OPACITIES.length], stroke: colour };
}

function stroke(number) {
  return { stroke: COLOURS[number % COLOURS.length], "stroke-width": 2.5, "stroke-dasharray": DASHES[number % DASHES.length] };
}

function whisker(number) {
  return { stroke: COLOURS[number % COLOURS.length], "stroke-width": 2 };
}

// Calls `draw` whenever an element gets another width, the first time included; returns how to stop it.
function onWidth(element, draw) {
  let width;
  const resized = new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    draw(width);
  });
  resized.observe(element);
  return () => resized.disconnect();
}

function drawAxes(chart, picture, frame, x, y) {
  const text = (attributes, content) => chart.append(svgElement("text", { "text-anchor": "middle", "font-size": FONT, ...attributes }, content));
  for (const value of ticks(picture.y_range, 5)) {
    chart.append(svgElement("line", { class: "grid", x1: frame.left, x2: frame.right, y1: y(value), y2: y(value) }));
    text({ x: frame.left - 8, y: y(value) + 4, "text-anchor": "end" }, shortNumber(value));
  }
  const places = picture.kind === "lines"
    ? ticks(picture.x_range, Math.max(4, frame.width / 90)).map((value) => [x(value), shortNumber(value)])
    : picture.series[0].x.map((name, i) => [x(i), name]).filter((_, i) => i % frame.every === 0);
  for (const [place, name] of places) {
    const tilt = frame.tilted ? { "text-anchor": "end", transform: `rotate(-35 ${place} ${frame.bottom + 14})` } : {};
    text({ x: place, y: frame.bottom + 18, ...tilt }, name);
  }
  chart.append(svgElement("path", { class: "frame", d: `M${frame.left} ${frame.top}V${frame.bottom}H${frame.right}` }));
  const middle = (frame.top + frame.bottom) / 2;
  const below = frame.height - 8 - 16 * (frame.along.length - 1);
  frame.along.forEach((line, i) => text({ x: (frame.left + frame.right) / 2, y: below + 16 * i }, line));
  frame.up.forEach((line, i) => text({ x: 14 + 16 * i, y: middle, transform: `rotate(-90 ${14 + 16 * i} ${middle})` }, line));
}

function drawBars(chart, picture, x, y) {
  const width = (x(1) - x(0)) * 0.8 / picture.series.length;
  const floor = y(Math.max(0, picture.y_range[0]));
  picture.series.forEach((series, s) => series.y.forEach((value, i) => {
    const left = x(i) + width * (s - picture.series.length / 2);
    const top = Math.min(y(value), floor);
    chart.append(svgElement("rect", {
      x: left + 1, y: top, width: Math.max(1, width - 2), height: Math.abs(floor - y(value)), ...fill(s),
    }));
    if (width > 38) {
      chart.append(svgElement("text", { x: left + width / 2, y: top - 4, "text-anchor": "middle", "font-size": FONT }, shortNumber(value)));
    }
  }));
}

// One bar a category; the first series lies at the bottom.
function drawStacked(chart, picture, x, y) {
  const width = (x(1) - x(0)) * 0.8;
  picture.series[0].x.forEach((_, i) => {
    let below = 0;
    picture.series.forEach((series, s) => {
      const top = y(below + series.y[i]);
      chart.append(svgElement("rect", { x: x(i) - width / 2, y: top, width, height: y(below) - top, ...fill(s) }));
      below += series.y[i];
    });
  });
}

function polyline(series, x, y, look) {
  const points = series.x.map((value, i) => `${x(value)},${y(series.y[i])}`).join(" ");
  return svgElement("polyline", { points, fill: "none", ...look });
}

// The band of a series: up along its low ends, back along its high ones.
function shade(series, x, y, colour) {
  const low = series.x.map((value, i) => `${x(value)},${y(series.low[i])}`);
  const high = series.x.map((value, i) => `${x(value)},${y(series.high[i])}`);
  return svgElement("polygon", { points: [...low, ...high.reverse()].join(" "), fill: colour, "fill-opacity": 0.16 });
}

function drawLines(chart, picture, x, y) {
  const { loud, quiet } = byLoudness(picture);
  for (const series of quiet) chart.append(polyline(series, x, y, QUIET));
  loud.forEach((series, s) => {
    if (series.band) chart.append(shade(series, x, y, COLOURS[s % COLOURS.length]));
  });
  loud.forEach((series, s) => {
    chart.append(polyline(series, x, y, stroke(s)));
    if (series.x.length > 40) return;
    series.x.forEach((value, i) => chart.append(marker(s, x(value), y(series.y[i]), COLOURS[s % COLOURS.length])));
  });
}

const DRAW = { lines: drawLines, bars: drawBars, stacked: drawStacked };

function drawChart(picture, alt, width) {
  const frame = layout(picture, width);
  const chart = svgElement("svg", {
    class: "hemafl-chart", viewBox: `0 0 ${width} ${frame.height}`, role: "img", "aria-label": alt,
  });
  const across = [frame.left, frame.right];
  const y = scale(picture.y_range, [frame.bottom, frame.top]);
  const x = scale(picture.kind === "lines" ? picture.x_range : [-0.5, picture.series[0].x.length - 0.5], across);
  drawAxes(chart, picture, frame, x, y);
  DRAW[picture.kind](chart, picture, x, y);
  return chart;
}

function drawLegend(picture) {
  const legend = htmlElement("ul", { class: "hemafl-legend" });
  const add = (name, ...shapes) => {
    const swatch = svgElement("svg", { viewBox: "0 0 40 16", "aria-hidden": "true" });
    swatch.append(...shapes);
    const item = htmlElement("li", {});
    item.append(swatch, name);
    legend.append(item);
  };
  const line = (look) => svgElement("line", { x1: 0, x2: 40, y1: 8, y2: 8, ...look });
  const dot = (s) => marker(s, 20, 8, COLOURS[s % COLOURS.length]);
  const swatch = {
    lines: (s) => [line(stroke(s)), dot(s)],
    intervals: (s) => [line(whisker(s)), dot(s)],
  }[picture.kind] ?? ((s) => [svgElement("rect", { x: 12, y: 1, width: 16, height: 14, ...fill(s) })]);
  const { loud, quiet } = byLoudness(picture);
  loud.forEach((series, s) => add(series.name, ...swatch(s)));
  for (const name of new Set(quiet.map((series) => series.name))) add(name, line(QUIET));
  return legend;
}

// The names of the series, counted where several have the same.
function columnNames(picture) {
  const names = picture.series.map((series) => series.name);
  const count = (list, name) => list.filter((other) => other === name).length;
  return names.map((name, i) => (count(names, name) > 1 ? `${name} ${count(names.slice(0, i + 1), name)}` : name));
}

// The columns of the table of numbers: a series, and the two ends of its band.
function columnsOf(picture) {
  return columnNames(picture).flatMap((name, i) => {
    const { x, y, low, high, band } = picture.series[i];
    const rows = band ? { [name]: y, "from": low, "to": high } : { [name]: y };
    return Object.entries(rows).map(([title, numbers]) => ({ title, x, numbers }));
  });
}

// One row a place on the x axis, one column a series.
function drawNumbers(picture) {
  const places = [...new Set(picture.series.flatMap((series) => series.x))];
  const table = htmlElement("table", {});
  const head = table.createTHead().insertRow();
  const columns = columnsOf(picture);
  for (const name of [picture.x_title, ...columns.map(({ title }) => title)]) {
    head.append(htmlElement("th", { scope: "col" }, name));
  }
  const body = table.createTBody();
  for (const place of places) {
    const row = body.insertRow();
    row.append(htmlElement("th", { scope: "row" }, shortNumber(place)));
    for (const { x, numbers } of columns) {
      const i = x.indexOf(place);
      row.append(htmlElement("td", {}, i < 0 ? "" : shortNumber(numbers[i])));
    }
  }
  return table;
}

// A fold for the table of a chart's numbers, which is its last child.
function foldedNumbers() {
  const numbers = htmlElement("details", { class: "hemafl-numbers" });
  numbers.append(htmlElement("summary", {}, "The numbers"), htmlElement("div", {}));
  return numbers;
}
