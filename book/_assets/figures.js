// Draws the page's figures of numbers for the width that they have: lines by charts.js, and here dots with
// whiskers, one row a name. Loaded after charts.js.
"use strict";

const LANE = 15;    // the height of one series in a row

// Names in the order in which they come.
function rowNames(picture) {
  return [...new Set(picture.series.flatMap((series) => series.y))];
}

function valueRange(picture) {
  const values = picture.series.flatMap((series) => [...series.x, ...(series.low ?? []), ...(series.high ?? [])])
    .concat(picture.marks).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.04 * (high - low) || 0.5;
  return [low - room, high + room];
}

// How many letters wide a name is; a capital is wider than the others.
function lettersOf(name) {
  return name.length + 0.4 * name.replace(/[^A-Z]/g, "").length;
}

// Where everything lies; where names would take more than a third of the width, each stands above its row.
function intervalLayout(picture, width) {
  const names = rowNames(picture);
  const widest = Math.max(...names.map(lettersOf)) * LETTER + 14;
  const above = widest > width * 0.36;
  const title = broken(picture.x_title, width / LETTER);
  const frame = { width, left: above ? 16 : widest, right: width - 14, top: 6, rows: new Map(), title };
  frame.bottom = frame.top;
  for (const name of names) {
    const lines = above ? broken(name, width / LETTER) : [];
    const lanes = frame.bottom + (above ? 4 + 16 * lines.length : 4);
    frame.rows.set(name, { top: frame.bottom, lines, lanes });
    frame.bottom = lanes + LANE * picture.series.length + 4;
  }
  frame.height = frame.bottom + 30 + 18 * title.length;
  return frame;
}

function drawIntervalAxes(chart, picture, frame, x, range) {
  const text = (attributes, content) => chart.append(svgElement("text", { "font-size": FONT, ...attributes }, content));
  const down = (look, value) => chart.append(svgElement("line", { ...look, x1: x(value), x2: x(value), y1: frame.top, y2: frame.bottom }));
  for (const value of ticks(range, Math.min(8, frame.width / 80))) {
    down({ class: "grid" }, value);
    text({ x: x(value), y: frame.bottom + 18, "text-anchor": "middle" }, shortNumber(value));
  }
  for (const value of picture.marks) down({ class: "frame", "stroke-dasharray": "6 4" }, value);
  chart.append(svgElement("path", { class: "frame", d: `M${frame.left} ${frame.bottom}H${frame.right}` }));
  frame.title.forEach((line, i) => text({ x: (frame.left + frame.right) / 2, y: frame.bottom + 38 + 18 * i, "text-anchor": "middle" }, line));
  for (const [name, row] of frame.rows) {
    const middle = row.lanes + LANE * picture.series.length / 2 + 4;
    if (row.lines.length === 0) text({ x: frame.left - 8, y: middle, "text-anchor": "end" }, name);
    row.lines.forEach((line, i) => text({ x: 2, y: row.top + 16 * (i + 1) }, line));
  }
}

function drawIntervals(picture, alt, width) {
  const frame = intervalLayout(picture, width);
  const range = valueRange(picture);
  const x = scale(range, [frame.left, frame.right]);
  const chart = svgElement("svg", { class: "hemafl-chart", viewBox: `0 0 ${width} ${frame.height}`, role: "img", "aria-label": alt });
  drawIntervalAxes(chart, picture, frame, x, range);
  picture.series.forEach((series, s) => series.y.forEach((name, i) => {
    const y = frame.rows.get(name).lanes + LANE * (s + 0.5);
    const [low, high] = [series.low?.[i], series.high?.[i]];
    if (low !== undefined && low !== null) chart.append(svgElement("line", { x1: x(low), x2: x(high), y1: y, y2: y, ...whisker(s) }));
    chart.append(marker(s, x(series.x[i]), y, COLOURS[s % COLOURS.length]));
  }));
  return chart;
}

// One row a name, one column a series, a value with its interval.
function intervalNumbers(picture) {
  const table = htmlElement("table", {});
  const head = table.createTHead().insertRow();
  for (const name of ["", ...columnNames(picture)]) head.append(htmlElement(name ? "th" : "td", name ? { scope: "col" } : {}, name));
  const body = table.createTBody();
  for (const name of rowNames(picture)) {
    const row = body.insertRow();
    row.append(htmlElement("th", { scope: "row" }, name));
    for (const series of picture.series) {
      const i = series.y.indexOf(name);
      const known = series.low?.[i] !== undefined && series.low[i] !== null;
      const whiskers = known ? ` (${shortNumber(series.low[i])} to ${shortNumber(series.high[i])})` : "";
      row.append(htmlElement("td", {}, i < 0 ? "" : shortNumber(series.x[i]) + whiskers));
    }
  }
  return table;
}

function startFigure(figure) {
  const picture = JSON.parse(figure.querySelector("script").textContent);
  const caption = figure.querySelector("figcaption");
  const canvas = figure.querySelector(".hemafl-plot-canvas");
  const [draw, tabulate] = picture.kind === "intervals" ? [drawIntervals, intervalNumbers] : [drawChart, drawNumbers];
  const legend = picture.series.length > 1 ? [drawLegend(picture)] : [];
  onWidth(canvas, (width) => {
    if (width > 0) canvas.replaceChildren(...legend, draw(picture, caption.textContent, Math.max(260, width)));
  });
  if (figure.dataset.numbers === "beside") return;
  const numbers = foldedNumbers();
  numbers.lastElementChild.append(tabulate(picture));
  caption.after(numbers);
}

document.querySelectorAll(".hemafl-plot").forEach(startFigure);
