// The view "Forward": the network's numbers, and one of them with all that it is computed from.
"use strict";

const WINDOW = 168; // pixels of an image beside which the rest has room

function forwardView(state, choose) {
  return () => {
    const { network, unit } = state,
      layer = network.layers[Math.max(unit.l, 0)];
    show(
      document.getElementById("forward-maps"),
      el("p", { class: "lead" }, t("forwardLead")),
      state.empty ? el("p", { class: "note" }, t("emptyNetwork")) : null,
      diagramFigure(state, {
        height: 205,
        values: (l) => (l < 0 ? state.x : state.passes[l].y),
        scaleOf: (l) => state.scales[l + 1],
        choose,
        label: t("valueOf"),
      }),
    );
    const figure =
      {
        convolution: convolutionUnit,
        linear: linearUnit,
        max_pooling: poolingUnit,
        average_pooling: poolingUnit,
        subsampling: poolingUnit,
      }[layer.type] ?? pointUnit;
    show(
      document.getElementById("forward-unit"),
      unitFields(state, choose, "forward"),
      unit.l < 0
        ? el("p", {}, spoken(state, unit))
        : el(
            "div",
            { class: "panel" },
            !(state.matrix && layer.type === "convolution") && receptiveFigure(state),
            ...figure(state, layer, state.passes[unit.l], unit, choose),
          ),
      linksFigure(state, choose),
    );
  };
}

/** Fields that choose layer, map, row and column; all of them work with the keyboard. */
function unitFields(state, choose, view) {
  const { network, unit, path } = state,
    [F, H, W] = shapeOf(network, unit.l);
  const layers = [[-1, t("input")], ...network.layers.map((layer, l) => [l, layer.name])];
  const moved = (di, dj) =>
    choose({
      ...unit,
      i: Math.min(Math.max(unit.i + di, 0), H - 1),
      j: Math.min(Math.max(unit.j + dj, 0), W - 1),
    });
  const arrow = (sign, di, dj) =>
    button(sign, () => moved(di, dj), { "aria-label": t("moveWindow", di, dj) });
  const layer = network.layers[unit.l],
    convolves = layer?.type === "convolution",
    windows = view === "forward" && convolves;
  return el(
    "form",
    { class: "fields", onsubmit: () => false },
    // Another layer keeps the place: it is the one on the path.
    choice(t("layer"), unit.l, layers, (l) => choose(path[Number(l) + 1])),
    integerField(t(H * W === 1 ? "unit" : unit.l < 0 ? "channel" : "mapField"), unit.f, 0, F - 1, (f) =>
      choose({ ...unit, f }),
    ),
    H * W > 1 && [
      integerField(t("row"), unit.i, 0, H - 1, (i) => choose({ ...unit, i })),
      integerField(t("column"), unit.j, 0, W - 1, (j) => choose({ ...unit, j })),
      el(
        "span",
        { class: "arrows", role: "group", "aria-label": t("move") },
        arrow("◀", 0, -1),
        arrow("▶", 0, 1),
        arrow("▲", -1, 0),
        arrow("▼", 1, 0),
      ),
    ],
    convolves &&
      layer.input[0] > 1 &&
      integerField(t("channel"), Math.min(state.channel, layer.input[0] - 1), 0, layer.input[0] - 1, (c) => {
        state.channel = c;
        choose(unit);
      }),
    windows && [
      button(t(state.sliding ? "stop" : "slide"), () => slideWindow(state, choose), { id: "slide" }),
      button(
        t(state.matrix ? "foldBack" : "unfold"),
        () => {
          state.matrix = !state.matrix;
          choose(unit);
        },
        { id: "unfold" },
      ),
    ],
  );
}

/** The input with the receptive field of the unit. */
function receptiveFigure({ network, x, unit, scales }) {
  const [, H, W] = network.input,
    field = receptiveField(network, unit),
    most = Math.max(H, W);
  return el(
    "figure",
    {},
    el("figcaption", {}, t("receptiveField")),
    mapFigure(x.subarray(0, H * W), H, W, {
      scale: scales[0],
      width: (WINDOW * W) / most,
      height: (WINDOW * H) / most,
      boxes: [[...field, "window"]],
      label: t("receptiveField"),
    }),
    el("p", { class: "note" }, t("fieldSize", field[2], field[3])),
  );
}

/** Channel c of a layer's input, with the window of the unit on it; a click moves the window. */
function windowFigure(state, layer, pass, unit, c, choose, title) {
  const [, H, W] = layer.input,
    [, Ho, Wo] = layer.output,
    most = Math.max(H, W);
  const boxes = [[...patchBox(layer, unit.i, unit.j), "window"]];
  if (layer.type === "convolution" && unit.j + 1 < Wo)
    boxes.unshift([...patchBox(layer, unit.i, unit.j + 1), "into"]);
  const inside = (at, axis, end) =>
    Math.min(
      Math.max(Math.floor((at + layer.padding[axis] - (layer.kernel[axis] - 1) / 2) / layer.stride[axis]), 0),
      end - 1,
    );
  return el(
    "figure",
    {},
    el("figcaption", {}, title),
    mapFigure(pass.x.subarray(c * H * W, (c + 1) * H * W), H, W, {
      scale: state.scales[unit.l],
      width: (WINDOW * W) / most,
      height: (WINDOW * H) / most,
      boxes,
      label: title,
      at: [unit.i, unit.j],
      hover: (i) => (i === null ? state.touch(null) : null),
      pick: (i, j) => choose({ ...unit, i: inside(i, 0, Ho), j: inside(j, 1, Wo) }),
    }),
  );
}

/** What the number is made of and what it goes into, as links. */
function linksFigure(state, choose) {
  const { network, unit, path } = state,
    on = path[unit.l + 2];
  const link = (to) =>
    el(
      "button",
      {
        type: "button",
        class: "number",
        onclick: () => choose(to),
        onpointerenter: () => state.touch(to),
        onpointerleave: () => state.touch(null),
        onfocus: () => state.touch(to),
        onblur: () => state.touch(null),
      },
      `${unitName(network, to)} = ${number(valueOf(state, to), 3)}`,
    );
  const into = on ? goesInto(state, unit, on.f) : [];
  const made = unit.l < 0 ? [] : madeOf(state, unit);
  const { x } = unit.l < 0 ? state : state.passes[unit.l];
  const order = made.slice().sort((a, b) => Math.abs(b[1] * x[b[0]]) - Math.abs(a[1] * x[a[0]]));
  const list = (title, units, count) =>
    !!units.length &&
    el(
      "details",
      { open: units.length <= 4 || null, kind: title },
      el("summary", {}, title, ` (${count})`),
      el("p", { class: "links" }, ...units.map(link)),
    );
  return el(
    "div",
    { class: "beside" },
    list(
      t("madeOf"),
      order.slice(0, 25).map(([q]) => unitAt(network, unit.l - 1, q)),
      made.length,
    ),
    list(
      on && network.layers[on.l].type === "convolution"
        ? t("goesIntoOf", on.f, network.layers[on.l].output[0])
        : t("goesInto"),
      into.slice(0, 120),
      into.length,
    ),
  );
}

// --- The other layers -----------------------------------------------------------------------

function poolingUnit(state, layer, pass, unit, choose) {
  const { f, i, j } = unit,
    [, H, W] = layer.input;
  const pixels = patchPixels(layer, f, i, j),
    q = indexOf(state.network, unit);
  const values = pixels.map((pixel) => (pixel < 0 ? NaN : pass.x[pixel])),
    inside = values.filter((v) => !Number.isNaN(v));
  const winner = layer.type === "max_pooling" ? pixels.indexOf(pass.winners[q]) : -1;
  const at = (pixel) => t("rowColumn", Math.floor((pixel % (H * W)) / W), pixel % W);
  const source = (k) => pixels[k] >= 0 && unitAt(state.network, unit.l - 1, pixels[k]);
  return [
    windowFigure(state, layer, pass, unit, f, choose, t("windowOn", f)),
    numberTable(values, layer.kernel[0], layer.kernel[1], {
      caption: t("window"),
      scale: largest(inside),
      marked: new Set([winner]),
      link: (k) => source(k) && choose(source(k)),
      touch: (k) => state.touch(k === null ? null : source(k) || null),
      text: (k) => (Number.isNaN(values[k]) ? "–" : number(values[k], 3) + (k === winner ? " ★" : "")),
    }),
    el(
      "p",
      { class: "formula result" },
      layer.type === "max_pooling"
        ? t("largestWins", number(pass.y[q], 3), at(pass.winners[q]))
        : `(${inside.map((v, k) => (k ? term(v) : number(v, 3))).join("")}) · ${factor(windowFactor(layer, q), 4)}${layer.b ? term(layer.b[f]) : ""} = ${number(pass.y[q], 3)}`,
    ),
  ];
}

function linearUnit(state, layer, pass, unit, choose) {
  const { f } = unit,
    D = pass.x.length,
    w = layer.W.subarray(f * D, (f + 1) * D);
  const order = madeOf(state, unit).sort(
    (a, b) => Math.abs(b[1] * pass.x[b[0]]) - Math.abs(a[1] * pass.x[a[0]]),
  );
  const shown = order.slice(0, 8),
    rest = order.slice(8).reduce((sum, [k]) => sum + w[k] * pass.x[k], 0),
    z = pass.y[f];
  const source = (k) => unitAt(state.network, unit.l - 1, k);
  return [
    plainTable(
      t("largestProducts", D),
      [t("inputNumber"), "x", "w", "x·w"],
      shown.map(([k]) => [
        el(
          "button",
          {
            type: "button",
            class: "number",
            onclick: () => choose(source(k)),
            onpointerenter: () => state.touch(source(k)),
            onpointerleave: () => state.touch(null),
          },
          k,
        ),
        number(pass.x[k], 3),
        number(w[k], 3),
        number(w[k] * pass.x[k], 3),
      ]),
    ),
    el(
      "p",
      { class: "formula result" },
      `Σ x·w = ${number(z - layer.b[f], 3)}`,
      D > 8 ? ` (${t("ofTheOthers", number(rest, 3), D - 8)})` : "",
      el("br"),
      el("b", {}, `z = ${number(z - layer.b[f], 3)}${term(layer.b[f])} (${t("bias")}) = ${number(z, 3)}`),
      ...activated(state, unit, f),
    ),
  ];
}

function pointUnit(state, layer, pass, unit) {
  const q = indexOf(state.network, unit),
    { f } = unit,
    formula = ACTIVATIONS[layer.type]?.formula;
  if (layer.type === "batch_normalization")
    return [
      el(
        "p",
        { class: "formula result" },
        `x̂ = (${number(pass.x[q], 3)}${term(-layer.mean[f])}) · ${number(layer.inverse[f], 3)} = ${number(pass.normal[q], 3)}`,
        el("br"),
        `y = ${factor(layer.W[f], 3)} · x̂${term(layer.b[f])} = ${number(pass.y[q], 3)}`,
      ),
    ];
  return [
    el(
      "p",
      { class: "formula result" },
      formula
        ? `z = ${number(pass.x[q], 3)}; y = ${formula} = ${number(pass.y[q], 3)}`
        : t("dropoutNothing", number(pass.y[q], 3)),
    ),
  ];
}

/** The line about the activation that follows. */
function activated(state, unit, q) {
  const next = state.network.layers[unit.l + 1],
    f = ACTIVATIONS[next?.type];
  return f ? [el("br"), `${next.name}: y = ${f.formula} = ${number(state.passes[unit.l + 1].y[q], 3)}`] : [];
}
