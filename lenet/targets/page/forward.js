// The view "Forward": the network's numbers, and one of them with all that it is computed from.
"use strict";

const WINDOW = 168; // pixels of an image beside which the rest has room

function forwardView(state, choose) {
  return () => {
    const { network, unit } = state, layer = network.layers[Math.max(unit.l, 0)];
    show(document.getElementById("forward-maps"), el("p", { class: "lead" }, t("forwardLead")), state.empty ? el("p", { class: "note" }, t("emptyNetwork")) : null,
      diagramFigure(state, {
        height: 205, values: (l) => (l < 0 ? state.x : state.passes[l].y), scaleOf: (l) => state.scales[l + 1], choose, label: t("valueOf"),
      }));
    const figure = { convolution: convolutionUnit, linear: linearUnit, max_pooling: poolingUnit, average_pooling: poolingUnit, subsampling: poolingUnit }[layer.type] ?? pointUnit;
    show(document.getElementById("forward-unit"), unitFields(state, choose, "forward"),
      unit.l < 0 ? el("p", {}, spoken(state, unit)) : el("div", { class: "panel" }, !(state.matrix && layer.type === "convolution") && receptiveFigure(state), ...figure(state, layer, state.passes[unit.l], unit, choose)),
      linksFigure(state, choose));
  };
}

/** Fields that choose layer, map, row and column; all of them work with the keyboard. */
function unitFields(state, choose, view) {
  const { network, unit, path } = state, [F, H, W] = shapeOf(network, unit.l);
  const layers = [[-1, t("input")], ...network.layers.map((layer, l) => [l, layer.name])];
  const moved = (di, dj) => choose({ ...unit, i: Math.min(Math.max(unit.i + di, 0), H - 1), j: Math.min(Math.max(unit.j + dj, 0), W - 1) });
  const arrow = (sign, di, dj) => button(sign, () => moved(di, dj), { "aria-label": t("moveWindow", di, dj) });
  const layer = network.layers[unit.l], convolves = layer?.type === "convolution", windows = view === "forward" && convolves;
  return el("form", { class: "fields", onsubmit: () => false },
    // Another layer keeps the place: it is the one on the path.
    choice(t("layer"), unit.l, layers, (l) => choose(path[Number(l) + 1])),
    integerField(t(H * W === 1 ? "unit" : unit.l < 0 ? "channel" : "mapField"), unit.f, 0, F - 1, (f) => choose({ ...unit, f })),
    H * W > 1 && [integerField(t("row"), unit.i, 0, H - 1, (i) => choose({ ...unit, i })),
      integerField(t("column"), unit.j, 0, W - 1, (j) => choose({ ...unit, j })),
      el("span", { class: "arrows", role: "group", "aria-label": t("move") }, arrow("◀", 0, -1), arrow("▶", 0, 1), arrow("▲", -1, 0), arrow("▼", 1, 0))],
    convolves && layer.input[0] > 1 && integerField(t("channel"), Math.min(state.channel, layer.input[0] - 1), 0, layer.input[0] - 1, (c) => {
      state.channel = c;
      choose(unit);
    }),
    windows && [button(t(state.sliding ? "stop" : "slide"), () => slideWindow(state, choose), { id: "slide" }),
      button(t(state.matrix ? "foldBack" : "unfold"), () => {
        state.matrix = !state.matrix;
        choose(unit);
      }, { id: "unfold" })]);
}

/** The input with the receptive field of the unit. */
function receptiveFigure({ network, x, unit, scales }) {
  const [, H, W] = network.input, field = receptiveField(network, unit), most = Math.max(H, W);
  return el("figure", {}, el("figcaption", {}, t("receptiveField")), mapFigure(x.subarray(0, H * W), H, W, {
    scale: scales[0], width: (WINDOW * W) / most, height: (WINDOW * H) / most, boxes: [[...field, "window"]], label: t("receptiveField"),
  }), el("p", { class: "note" }, t("fieldSize", field[2], field[3])));
}

/** Channel c of a layer's input, with the window of the unit on it; a click moves the window. */
function windowFigure(state, layer, pass, unit, c, choose, title) {
  const [, H, W] = layer.input, [, Ho, Wo] = layer.output, most = Math.max(H, W);
  const boxes = [[...patchBox(layer, unit.i, unit.j), "window"]];
  if (layer.type === "convolution" && unit.j + 1 < Wo) boxes.unshift([...patchBox(layer, unit.i, unit.j + 1), "into"]);
  const inside = (at, axis, end) => Math.min(Math.max(Math.floor((at + layer.padding[axis] - (layer.kernel[axis] - 1) / 2) / layer.stride[axis]), 0), end - 1);
  return el("figure", {}, el("figcaption", {}, title), mapFigure(pass.x.subarray(c * H * W, (c + 1) * H * W), H, W, {
    scale: state.scales[unit.l], width: (WINDOW * W) / most, height: (WINDOW * H) / most, boxes, label: title, at: [unit.i, unit.j],
    hover: (i) => i === null ? state.touch(null) : null,
    pick: (i, j) => choose({ ...unit, i: inside(i, 0, Ho), j: inside(j, 1, Wo) }),
  }));
}

/** What the number is made of and what it goes into, as links. */
function linksFigure(state, choose) {
  const { network, unit, path } = state, on = path[unit.l + 2];
  const link = (to) => el("button", {
    type: "button", class: "number", onclick: () => choose(to), onpointerenter: () => state.touch(to), onpointerleave: () => state.touch(null),
    onfocus: () => state.touch(to), onblur: () => state.touch(null),
  }, `${unitName(network, to)} = ${number(valueOf(state, to), 3)}`);
  const into = on ? goesInto(state, unit, on.f) : [];
  const made = unit.l < 0 ? [] : madeOf(state, unit);
  const { x } = unit.l < 0 ? state : state.passes[unit.l];
  const order = made.slice().sort((a, b) => Math.abs(b[1] * x[b[0]]) - Math.abs(a[1] * x[a[0]]));
  const list = (title, units, count) => !!units.length && el("details", { open: units.length <= 4 || null, kind: title }, el("summary", {}, title, ` (${count})`), el("p", { class: "links" }, ...units.map(link)));
  return el("div", { class: "beside" },
    list(t("madeOf"), order.slice(0, 25).map(([q]) => unitAt(network, unit.l - 1, q)), made.length),
    list(on && network.layers[on.l].type === "convolution" ? t("goesIntoOf", on.f, network.layers[on.l].output[0]) : t("goesInto"), into.slice(0, 120), into.length));
}

// --- Convolution ----------------------------------------------------------------------------

function convolutionUnit(state, layer, pass, unit, choose) {
  const { f, i, j } = unit, [C] = layer.input, [, Ho, Wo] = layer.output, [kh, kw] = layer.kernel, p = i * Wo + j;
  const sums = Array.from({ length: C }, (_, c) => {
    const patch = patchOf(layer, pass.x, c, i, j), w = kernelOf(layer, layer.W, f, c);
    return patch.reduce((sum, v, k) => sum + v * w[k], 0);
  });
  const c = Math.min(state.channel, C - 1), pixels = patchPixels(layer, c, i, j);
  const patch = patchOf(layer, pass.x, c, i, j), w = kernelOf(layer, layer.W, f, c), products = patch.map((v, k) => v * w[k]);
  const shared = sharedPlaces(layer, i, j), total = sums.reduce((a, b) => a + b, 0);
  const window = windowFigure(state, layer, pass, unit, c, choose, t("windowOver", c, C));
  const pixel = (k) => pixels[k] >= 0 && unitAt(state.network, unit.l - 1, pixels[k]);
  const links = { link: (k) => pixel(k) && choose(pixel(k)), touch: (k) => state.touch(k === null ? null : pixel(k) || null) };
  const parts = [["patch x", patch, { marked: shared, ...links }], [t("kernel"), w, {}], [t("products"), products, {}]];
  const rows = state.matrix ? kh * kw : kh, columns = state.matrix ? 1 : kw;
  const tables = el("div", { class: state.matrix ? "products tall" : "products", tabindex: 0, role: "region", "aria-label": t("products") },
    ...parts.map(([caption, values, options], k) => [k > 0 && el("span", { class: "sign", "aria-hidden": "true" }, k === 1 ? "×" : "="),
      numberTable(values, rows, columns, { caption, scale: largest(values), ...options })]));
  const formula = el("div", {}, el("p", { class: "formula" },
    C > 1 ? [t("channelSum", c, number(sums[c], 3), C), sums.map((v, k) => (k ? term(v) : number(v, 3))).join(""), ` = ${number(total, 3)}`] : `Σ x·w = ${number(total, 3)}`,
    el("br"), el("b", {}, `z = ${number(total, 3)}${term(layer.b[f])} (${t("bias")}) = ${number(pass.y[f * Ho * Wo + p], 3)}`), ...activated(state, unit, f * Ho * Wo + p)),
  el("p", { class: "note" }, shared.size ? t("sharedPixels", shared.size, kh * kw) : ""));
  return state.matrix ? [window, tables, el("div", { class: "result" }, matrixFigure(state, layer, pass, unit, choose), formula)]
    : [window, el("div", { class: "result" }, tables, formula)];
}

/** The line about the activation that follows. */
function activated(state, unit, q) {
  const next = state.network.layers[unit.l + 1], f = ACTIVATIONS[next?.type];
  return f ? [el("br"), `${next.name}: y = ${f.formula} = ${number(state.passes[unit.l + 1].y[q], 3)}`] : [];
}

/** Move the window over the image, row by row, until this is called again. */
function slideWindow(state, choose) {
  const stop = () => {
    clearInterval(state.sliding);
    state.sliding = 0;
  };
  const advance = () => {
    const layer = state.network.layers[state.unit.l];
    if (state.view !== "forward" || layer?.type !== "convolution") return stop();
    const [, Ho, Wo] = layer.output, next = (state.unit.i * Wo + state.unit.j + 1) % (Ho * Wo);
    choose({ ...state.unit, i: Math.floor(next / Wo), j: next % Wo });
  };
  if (state.sliding) stop();
  else state.sliding = setInterval(advance, 300);
  choose(state.unit);
}

/** The places in the patch (i,j) whose pixels are also in the patch to its right. */
function sharedPlaces(layer, i, j) {
  if (j + 1 >= layer.output[2]) return new Set();
  const right = new Set(patchPixels(layer, 0, i, j + 1).filter((pixel) => pixel >= 0));
  return new Set(patchPixels(layer, 0, i, j).flatMap((pixel, k) => (right.has(pixel) ? [k] : [])));
}

/** W · cols = Z: W at the left, cols above Z, so that a row and a column meet at their number. */
function matrixFigure(state, layer, pass, unit, choose) {
  const [F, Ho, Wo] = layer.output, P = Ho * Wo, K = layer.W.length / F, focus = state.hover?.l === unit.l ? state.hover : unit;
  const { f } = focus, p = focus.i * Wo + focus.j;
  const clamp = (v, most) => Math.max(1, Math.min(Math.floor(v), most));
  const k = clamp(150 / K, 8), rows = clamp(120 / F, 12), columns = clamp(560 / P, 14), gap = 12, pad = 4;
  const left = pad + K * k + gap, top = pad + K * k + gap;
  const draw = (canvas) => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    const put = (values, n, m, x, y, width, height) => {
      const small = document.createElement("canvas");
      drawMap(small, values, n, m, largest(values));
      context.drawImage(small, x, y, m * width, n * height);
    };
    put(layer.W, F, K, pad, top, k, rows);
    const cols = new Float64Array(K * P);
    for (let q = 0; q < cols.length; q++) cols[(q % K) * P + Math.floor(q / K)] = pass.colsT[q];
    put(cols, K, P, left, pad, columns, k);
    put(pass.y, F, P, left, top, columns, rows);
    outline(context, pad, top + f * rows, K * k, rows);
    outline(context, left + p * columns, pad, columns, K * k);
    outline(context, left + p * columns, top + f * rows, columns, rows);
    context.fillStyle = getComputedStyle(document.body).color;
    context.font = "italic 17px serif";
    context.textBaseline = "top";
    context.fillText("W · cols = Z", pad, pad);
  };
  const at = (event) => {
    const row = Math.floor((event.offsetY - top) / rows), column = Math.floor((event.offsetX - left) / columns);
    return column >= 0 && column < P && row < F ? { l: unit.l, f: row < 0 ? unit.f : row, i: Math.floor(column / Wo), j: column % Wo } : null;
  };
  return el("figure", { class: "matrix" }, el("figcaption", {}, t("matrixProduct")),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("matrixProduct") }, el("canvas", {
      class: "pick exact", width: K * k + gap + P * columns + 2 * pad, height: K * k + gap + F * rows + 2 * pad, role: "img",
      "aria-label": t("matrixSizes", F, K, P), draw, onclick: (event) => at(event) && choose(at(event)),
      onpointermove: (event) => state.touch(at(event)), onpointerleave: () => state.touch(null),
    })), el("p", { class: "note" }, t("matrixNote", F, K, P, f, p)));
}

/** A black and white outline, visible on every colour. */
function outline(context, x, y, width, height) {
  context.lineWidth = 4;
  context.strokeStyle = "#000";
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  context.lineWidth = 2;
  context.strokeStyle = "#ff2d75";
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
}

// --- The other layers -----------------------------------------------------------------------

function poolingUnit(state, layer, pass, unit, choose) {
  const { f, i, j } = unit, [, H, W] = layer.input;
  const pixels = patchPixels(layer, f, i, j), q = indexOf(state.network, unit);
  const values = pixels.map((pixel) => (pixel < 0 ? NaN : pass.x[pixel])), inside = values.filter((v) => !Number.isNaN(v));
  const winner = layer.type === "max_pooling" ? pixels.indexOf(pass.winners[q]) : -1;
  const at = (pixel) => t("rowColumn", Math.floor((pixel % (H * W)) / W), pixel % W);
  const source = (k) => pixels[k] >= 0 && unitAt(state.network, unit.l - 1, pixels[k]);
  return [
    windowFigure(state, layer, pass, unit, f, choose, t("windowOn", f)),
    numberTable(values, layer.kernel[0], layer.kernel[1], {
      caption: t("window"), scale: largest(inside), marked: new Set([winner]),
      link: (k) => source(k) && choose(source(k)), touch: (k) => state.touch(k === null ? null : source(k) || null),
      text: (k) => (Number.isNaN(values[k]) ? "–" : number(values[k], 3) + (k === winner ? " ★" : "")),
    }),
    el("p", { class: "formula result" }, layer.type === "max_pooling"
      ? t("largestWins", number(pass.y[q], 3), at(pass.winners[q]))
      : `(${inside.map((v, k) => (k ? term(v) : number(v, 3))).join("")}) · ${factor(windowFactor(layer, q), 4)}${layer.b ? term(layer.b[f]) : ""} = ${number(pass.y[q], 3)}`),
  ];
}

function linearUnit(state, layer, pass, unit, choose) {
  const { f } = unit, D = pass.x.length, w = layer.W.subarray(f * D, (f + 1) * D);
  const order = madeOf(state, unit).sort((a, b) => Math.abs(b[1] * pass.x[b[0]]) - Math.abs(a[1] * pass.x[a[0]]));
  const shown = order.slice(0, 8), rest = order.slice(8).reduce((sum, [k]) => sum + w[k] * pass.x[k], 0), z = pass.y[f];
  const source = (k) => unitAt(state.network, unit.l - 1, k);
  return [
    plainTable(t("largestProducts", D), [t("inputNumber"), "x", "w", "x·w"], shown.map(([k]) => [
      el("button", { type: "button", class: "number", onclick: () => choose(source(k)), onpointerenter: () => state.touch(source(k)), onpointerleave: () => state.touch(null) }, k),
      number(pass.x[k], 3), number(w[k], 3), number(w[k] * pass.x[k], 3)])),
    el("p", { class: "formula result" }, `Σ x·w = ${number(z - layer.b[f], 3)}`, D > 8 ? ` (${t("ofTheOthers", number(rest, 3), D - 8)})` : "", el("br"),
      el("b", {}, `z = ${number(z - layer.b[f], 3)}${term(layer.b[f])} (${t("bias")}) = ${number(z, 3)}`), ...activated(state, unit, f)),
  ];
}

function pointUnit(state, layer, pass, unit) {
  const q = indexOf(state.network, unit), { f } = unit, formula = ACTIVATIONS[layer.type]?.formula;
  if (layer.type === "batch_normalization")
    return [el("p", { class: "formula result" }, `x̂ = (${number(pass.x[q], 3)}${term(-layer.mean[f])}) · ${number(layer.inverse[f], 3)} = ${number(pass.normal[q], 3)}`,
      el("br"), `y = ${factor(layer.W[f], 3)} · x̂${term(layer.b[f])} = ${number(pass.y[q], 3)}`)];
  return [el("p", { class: "formula result" }, formula
    ? `z = ${number(pass.x[q], 3)}; y = ${formula} = ${number(pass.y[q], 3)}` : t("dropoutNothing", number(pass.y[q], 3)))];
}
