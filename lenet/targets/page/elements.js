// Elements of the page: numbers, colours, canvases of maps, tables of numbers.
"use strict";

/** An element with properties and children; a property may be an attribute or an event. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The Chinese term for what stands before it. */
function zh(term) {
  return el("span", { lang: "zh" }, term);
}

/** A number with a fixed number of digits; a smaller one by its power of ten, such as 3e−5. */
function number(v, digits = 2) {
  if (v === 0) return "0";
  const small = Math.abs(v) < 0.5 * 10 ** -digits;
  return (small ? v.toExponential(0) : v.toFixed(digits)).replaceAll("-", "−");
}

/** A number that is added to what stands before it. */
function term(v, digits = 3) {
  return (v < 0 ? " − " : " + ") + number(Math.abs(v), digits);
}

/** A number as a factor: in brackets if it is negative. */
function factor(v, digits) {
  return v < 0 ? `(${number(v, digits)})` : number(v, digits);
}

// --- Colours --------------------------------------------------------------------------------
//
// Two colours whose lightness falls from one end to the other, so that they can be distinguished in
// grey: light orange below zero, grey at zero, dark blue above.

const NEGATIVE = [255, 190, 80], ZERO = [150, 153, 158], POSITIVE = [8, 38, 110];

/** Red, green and blue of a number on a scale from -1 to 1. */
function colour(v) {
  const end = v < 0 ? NEGATIVE : POSITIVE, part = Math.min(Math.abs(v), 1);
  return ZERO.map((zero, k) => Math.round(zero + part * (end[k] - zero)));
}

/** Colour an element's background by a number on a scale from -1 to 1. */
function paint(element, v) {
  const [r, g, b] = colour(v);
  element.style.background = `rgb(${r}, ${g}, ${b})`;
  element.style.color = 0.3 * r + 0.59 * g + 0.11 * b > 125 ? "#000" : "#fff";
}

function largest(values) {
  return values.reduce((a, v) => Math.max(a, Math.abs(v)), 0) || 1;
}

// --- Maps -----------------------------------------------------------------------------------

/** Draw numbers (rows × columns) on a canvas, a pixel each. */
function drawMap(canvas, values, rows, columns, scale) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    const [r, g, b] = colour((values[k] ?? 0) / scale);
    image.data.set([r, g, b, k < values.length ? 255 : 0], 4 * k);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** How much larger than usual the page's letters are, on a projector; at least 1. */
function magnification() {
  return Math.max(1, parseFloat(getComputedStyle(document.documentElement).fontSize) / 16);
}

/**
 * A map with cells of `cell` screen pixels, more on a projector, and boxes [top, left, height, width, style] drawn on
 * it; pick(row, column) is called on a click.
 */
function mapFigure(values, rows, columns, { scale, cell, boxes = [], pick, label }) {
  cell = Math.round(cell * magnification());
  const small = drawMap(document.createElement("canvas"), values, rows, columns, scale);
  const canvas = el("canvas", {
    width: columns * cell, height: rows * cell, role: "img", "aria-label": label,
  });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  for (const [top, left, height, width, dashed] of boxes)
    outline(context, left * cell, top * cell, width * cell, height * cell, dashed);
  if (pick) {
    canvas.classList.add("pick");
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const part = (at, length, count) => Math.min(Math.floor((at / length) * count), count - 1);
      pick(part(event.clientY - box.top, box.height, rows),
        part(event.clientX - box.left, box.width, columns));
    });
  }
  return canvas;
}

/** A black and white outline, visible on every colour. */
function outline(context, x, y, width, height, dashed = false) {
  context.lineWidth = 4;
  context.setLineDash(dashed ? [5, 4] : []);
  context.strokeStyle = "#000";
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  context.lineWidth = 2;
  context.strokeStyle = dashed ? "#fff" : "#ff2d75";
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
}

// --- Tables ---------------------------------------------------------------------------------

/** A table of numbers; `marked` is a set of indexes, text(k) replaces the number k. */
function numberTable(values, rows, columns, { caption, scale, digits = 2, marked, text } = {}) {
  const table = el("table", { className: "numbers" });
  if (caption) table.append(el("caption", {}, caption));
  for (let i = 0; i < rows; i++) {
    const row = table.insertRow();
    for (let j = 0; j < columns; j++) {
      const k = i * columns + j, cell = row.insertCell();
      cell.textContent = text ? text(k) : number(values[k], digits);
      if (scale) paint(cell, values[k] / scale);
      if (marked?.has(k)) cell.classList.add("marked");
    }
  }
  return table;
}

/** A field for an integer; the label is a string, or a list with a Chinese term. */
function integerField(label, value, min, max, change) {
  const input = el("input", { type: "number", min, max, step: 1, value, required: true });
  input.addEventListener("change", () => {
    const given = Math.round(Number(input.value));
    change(Math.min(Math.max(Number.isFinite(given) ? given : min, min), max));
  });
  return el("label", {}, ...[label].flat(), " ", input);
}

function button(label, click, properties = {}) {
  return el("button", { type: "button", onclick: click, ...properties }, label);
}

/** A slider from 0 to max with a button that plays it; show(q) is called for every step. */
function stepper(label, max, show) {
  const slider = el("input", { type: "range", min: 0, max, value: max, "aria-label": label });
  const count = el("output");
  const set = (q) => {
    slider.value = q;
    count.textContent = `${q} of ${max}`;
    show(q);
  };
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶ play";
  };
  const advance = () => {
    const q = Number(slider.value);
    if (q >= max || !slider.isConnected) stop();
    else set(Math.min(q + Math.ceil(max / 100), max));
  };
  const play = button("▶ play", () => {
    if (timer) return stop();
    if (Number(slider.value) >= max) set(0);
    play.textContent = "❚❚ stop";
    timer = setInterval(advance, 120);
  });
  const by = (step) => () => set(Math.min(Math.max(Number(slider.value) + step, 0), max));
  slider.addEventListener("input", () => set(Number(slider.value)));
  const element = el("div", { className: "stepper" }, el("span", {}, label), button("−1", by(-1)),
    slider, button("+1", by(1)), play, count);
  return { element, set };
}

/** Bars of the probabilities, one for each class. */
function bars(network, p, before) {
  const best = argmax(p);
  return el("ol", { className: "bars" }, ...Array.from(p, (value, k) => {
    const bar = el("span", { className: "bar" });
    bar.style.width = `${100 * value}%`;
    const figure = before ? `${number(before[k], 4)} → ${number(value, 4)}` : number(value, 4);
    return el("li", { className: k === best ? "best" : "" }, el("b", {}, network.classes[k]),
      el("span", { className: "track" }, bar), el("span", { className: "value" }, figure));
  }));
}
