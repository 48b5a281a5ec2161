// Figures that all views use: maps of numbers, tables, steppers, bars.
"use strict";

// --- Maps -----------------------------------------------------------------------------------

/** Draw numbers (rows × columns) on a canvas, one pixel each. */
function drawMap(canvas, values, rows, columns, scale) {
  if (canvas.width !== columns) canvas.width = columns;
  if (canvas.height !== rows) canvas.height = rows;
  const context = canvas.getContext("2d");
  if (canvas.image?.width !== columns || canvas.image?.height !== rows) {
    canvas.image = context.createImageData(columns, rows);
    canvas.pixels = new Uint32Array(canvas.image.data.buffer);
  }
  const factor = 255 / scale,
    end = Math.min(values.length, rows * columns);
  for (let k = 0; k < end; k++) {
    const v = values[k] * factor;
    canvas.pixels[k] = PALETTE[v > 255 ? 510 : v < -255 ? 0 : (v + 255.5) | 0];
  }
  context.putImageData(canvas.image, 0, 0);
}

/** The width of the window, and how much larger than usual its letters are, on a projector. */
const screenSize = { width: 0, magnification: 1 };

function measureScreen() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  Object.assign(screenSize, {
    width: document.documentElement.clientWidth,
    magnification: Math.max(1, rem / 16),
  });
}

/**
 * A map (rows × columns) of width × height screen pixels, with boxes [top, left, height, width, kind]
 * on it. With pick(row, column) it is a grid: click, tap, or arrow keys and Enter; hover(row, column)
 * is called for the place under the pointer. `at` is the place that the keyboard starts from.
 */
function mapFigure(
  values,
  rows,
  columns,
  { scale, width, height, boxes = [], pick, hover, at, label, tabIndex = 0, turn, cell },
) {
  const canvas = el("canvas", {
    role: pick ? null : "img",
    "aria-label": pick ? null : label,
    "aria-hidden": pick ? "true" : null,
    draw: (node) => drawMap(node, values, rows, columns, scale),
  });
  const marks = boxes.map(([top, left, high, wide, kind = "window"]) =>
    el("span", {
      class: `box ${kind}`,
      style: percentBox(top, left, high, wide, rows, columns),
    }),
  );
  const style = { width: `${width}px`, height: `${height}px` };
  if (!pick) return el("div", { class: "map", style }, canvas, ...marks);
  const [row, column] = at ?? [0, 0];
  const place = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const part = (offset, length, count) =>
      Math.min(Math.max(Math.floor((offset / length) * count), 0), count - 1);
    return [
      part(event.clientY - box.top, box.height, rows),
      part(event.clientX - box.left, box.width, columns),
    ];
  };
  const key = (event) => {
    const step = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      Home: [0, -column],
      End: [0, columns - 1 - column],
    }[event.key];
    if (event.key === "Enter" || event.key === " ") pick(row, column);
    else if (turn && event.key.startsWith("Page")) turn(event.key === "PageUp" ? -1 : 1);
    else if (step)
      hover?.(
        Math.min(Math.max(row + step[0], 0), rows - 1),
        Math.min(Math.max(column + step[1], 0), columns - 1),
      );
    else return;
    event.preventDefault();
  };
  const k = row * columns + column;
  const grid = el(
    "div",
    { role: "row", "aria-rowindex": row + 1 },
    el("span", {
      role: "gridcell",
      tabindex: tabIndex,
      class: "cursor",
      "aria-colindex": column + 1,
      "data-cell": cell,
      "aria-label": `${t("rowColumn", row, column)}: ${number(values[k] ?? 0, 3)}`,
      style: percentBox(row, column, 1, 1, rows, columns),
      onkeydown: key,
      onfocus: () => hover?.(row, column),
    }),
  );
  return el(
    "div",
    {
      class: "map pick",
      role: "grid",
      style,
      "aria-label": label,
      "aria-rowcount": rows,
      "aria-colcount": columns,
      onclick: (event) => pick(...place(event)),
      onpointermove: hover && ((event) => hover(...place(event))),
      onpointerleave: hover && (() => hover(null)),
    },
    canvas,
    ...marks,
    grid,
  );
}

function percentBox(top, left, height, width, rows, columns) {
  return {
    top: `${(100 * top) / rows}%`,
    left: `${(100 * left) / columns}%`,
    height: `${(100 * height) / rows}%`,
    width: `${(100 * width) / columns}%`,
  };
}

// --- Tables ---------------------------------------------------------------------------------

/**
 * A table of numbers with the headers of its rows and columns; `marked` is a set of indexes, text(k)
 * replaces the number k, and edit(k, value) makes fields of the cells. link(k) is called for a click on
 * a number, and touch(k) when it is hovered or focused.
 */
function numberTable(
  values,
  rows,
  columns,
  { caption, scale, digits = 2, marked, text, edit, link, touch, head, named, kind } = {},
) {
  const name = named ?? (typeof caption === "string" ? caption : "");
  const cell = (i, j) => {
    const k = i * columns + j,
      shown = text ? text(k) : number(values[k], digits);
    const place = t("rowColumn", i, j);
    const content = edit
      ? el("input", {
          type: "number",
          step: 1,
          value: values[k],
          "aria-label": `${name}, ${place}`,
          oninput: (event) => edit(k, Math.round(Number(event.target.value)) || 0),
        })
      : link
        ? el(
            "button",
            {
              type: "button",
              class: "number",
              onclick: () => link(k),
              "aria-label": `${shown}, ${place}`,
              onpointerenter: touch && (() => touch(k)),
              onfocus: touch && (() => touch(k)),
              onpointerleave: touch && (() => touch(null)),
              onblur: touch && (() => touch(null)),
            },
            shown,
          )
        : shown;
    return el(
      "td",
      { class: marked?.has(k) ? "marked" : null, style: scale ? paint(values[k] / scale) : {} },
      content,
    );
  };
  const heads = head ?? ["", ...Array.from({ length: columns }, (_, j) => j)];
  return el(
    "table",
    { class: "numbers", kind },
    el("caption", {}, caption ?? name),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        ...heads.map((h, j) => (j ? el("th", { scope: "col" }, h) : el("td", { class: "empty" }, h))),
      ),
    ),
    el(
      "tbody",
      {},
      ...Array.from({ length: rows }, (_, i) =>
        el("tr", {}, el("th", { scope: "row" }, i), ...Array.from({ length: columns }, (_, j) => cell(i, j))),
      ),
    ),
  );
}

/** A plain table: a head, and rows whose first cell is their head. */
function plainTable(caption, head, rows) {
  return el(
    "table",
    { class: "plain" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...head.map((h) => el("th", { scope: "col" }, h)))),
    el(
      "tbody",
      {},
      ...rows.map((row) =>
        el("tr", {}, ...row.map((cell, k) => (k ? el("td", {}, cell) : el("th", { scope: "row" }, cell)))),
      ),
    ),
  );
}

// --- Steps and bars -------------------------------------------------------------------------

const playing = {}; // the timers of the steppers that play, by name

/** A slider from 0 to max with a button that plays it; set(q) is called for every step. */
function stepper(name, label, q, max, set) {
  const at = { q, set, max };
  (stepper.at ??= {})[name] = at;
  const to = (value) => set(Math.min(Math.max(value, 0), max));
  const stop = () => {
    clearInterval(playing[name]);
    delete playing[name];
  };
  const advance = () => {
    const { q, max, set } = stepper.at[name];
    if (q < max) return set(Math.min(q + Math.ceil(max / 100), max));
    stop();
    set(q);
  };
  const play = () => {
    if (playing[name]) stop();
    else {
      playing[name] = setInterval(advance, 150);
      if (q >= max) return set(0);
    }
    set(q);
  };
  return el(
    "div",
    { class: "stepper" },
    el("span", {}, label),
    button("−1", () => to(q - 1), { "aria-label": `${label}: −1` }),
    el("input", {
      type: "range",
      min: 0,
      max,
      value: q,
      "aria-label": label,
      oninput: (event) => to(Number(event.target.value)),
    }),
    button("+1", () => to(q + 1), { "aria-label": `${label}: +1` }),
    button(playing[name] ? t("stop") : t("play"), play),
    el("output", {}, t("ofMany", q, max)),
  );
}

/** Bars of the probabilities, one for each class; those before a change are printed too. */
function bars(network, p, before) {
  const best = argmax(p);
  return el(
    "ol",
    { class: "bars" },
    ...Array.from(p, (value, k) =>
      el(
        "li",
        { class: k === best ? "best" : null },
        el("b", {}, network.classes[k]),
        el(
          "span",
          { class: "track" },
          el("span", { class: "bar", style: { width: `${100 * value || 0}%` } }),
        ),
        el("span", { class: "value" }, before ? `${percent(before[k])} → ${percent(value)}` : percent(value)),
      ),
    ),
  );
}

/** A curve of numbers against steps: { values: [[x, y], …], class } each, on one scale from 0 to most. */
function curves(label, lines, last, most, text) {
  const at = ([x, y]) =>
    `${((300 * x) / Math.max(last, 1)).toFixed(1)},${(100 - (100 * Math.min(y, most)) / most).toFixed(1)}`;
  return el(
    "figure",
    {},
    el("figcaption", {}, label),
    el(
      "svg",
      { viewBox: "-2 -4 306 112", class: "curve", role: "img", "aria-label": `${label}: ${text}` },
      ...[0, 0.5, 1].map((part) =>
        el("line", { x1: 0, x2: 300, y1: 100 * part, y2: 100 * part, class: "rule" }),
      ),
      ...lines.map(({ values, name }) =>
        el("polyline", {
          class: name,
          points: values
            .filter(([, y]) => Number.isFinite(y))
            .map(at)
            .join(" "),
        }),
      ),
    ),
    el("p", { class: "note" }, text),
  );
}
