// One number of a convolution in the view "Forward": the window, the products and the sum, and the
// same as a row and a column of the matrix product.
"use strict";

function convolutionUnit(state, layer, pass, unit, choose) {
  const { f, i, j } = unit,
    [C] = layer.input,
    [, Ho, Wo] = layer.output,
    [kh, kw] = layer.kernel,
    p = i * Wo + j;
  const sums = Array.from({ length: C }, (_, c) => {
    const patch = patchOf(layer, pass.x, c, i, j),
      w = kernelOf(layer, layer.W, f, c);
    return patch.reduce((sum, v, k) => sum + v * w[k], 0);
  });
  const c = Math.min(state.channel, C - 1),
    pixels = patchPixels(layer, c, i, j);
  const patch = patchOf(layer, pass.x, c, i, j),
    w = kernelOf(layer, layer.W, f, c),
    products = patch.map((v, k) => v * w[k]);
  const shared = sharedPlaces(layer, i, j),
    total = sums.reduce((a, b) => a + b, 0);
  const window = windowFigure(state, layer, pass, unit, c, choose, t("windowOver", c, C));
  const pixel = (k) => pixels[k] >= 0 && unitAt(state.network, unit.l - 1, pixels[k]);
  const links = {
    link: (k) => pixel(k) && choose(pixel(k)),
    touch: (k) => state.touch(k === null ? null : pixel(k) || null),
  };
  const parts = [
    ["patch x", patch, { marked: shared, ...links }],
    [t("kernel"), w, {}],
    [t("products"), products, {}],
  ];
  const rows = state.matrix ? kh * kw : kh,
    columns = state.matrix ? 1 : kw;
  const tables = el(
    "div",
    {
      class: state.matrix ? "products tall" : "products",
      tabindex: 0,
      role: "region",
      "aria-label": t("products"),
    },
    ...parts.map(([caption, values, options], k) => [
      k > 0 && el("span", { class: "sign", "aria-hidden": "true" }, k === 1 ? "×" : "="),
      numberTable(values, rows, columns, { caption, scale: largest(values), ...options }),
    ]),
  );
  const formula = el(
    "div",
    {},
    el(
      "p",
      { class: "formula" },
      C > 1
        ? [
            t("channelSum", c, number(sums[c], 3), C),
            sums.map((v, k) => (k ? term(v) : number(v, 3))).join(""),
            ` = ${number(total, 3)}`,
          ]
        : `Σ x·w = ${number(total, 3)}`,
      el("br"),
      el(
        "b",
        {},
        `z = ${number(total, 3)}${term(layer.b[f])} (${t("bias")}) = ${number(pass.y[f * Ho * Wo + p], 3)}`,
      ),
      ...activated(state, unit, f * Ho * Wo + p),
    ),
    el("p", { class: "note" }, shared.size ? t("sharedPixels", shared.size, kh * kw) : ""),
  );
  return state.matrix
    ? [
        window,
        tables,
        el("div", { class: "result" }, matrixFigure(state, layer, pass, unit, choose), formula),
      ]
    : [window, el("div", { class: "result" }, tables, formula)];
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
    const [, Ho, Wo] = layer.output,
      next = (state.unit.i * Wo + state.unit.j + 1) % (Ho * Wo);
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
  const [F, Ho, Wo] = layer.output,
    P = Ho * Wo,
    K = layer.W.length / F,
    focus = state.hover?.l === unit.l ? state.hover : unit;
  const { f } = focus,
    p = focus.i * Wo + focus.j;
  const clamp = (v, most) => Math.max(1, Math.min(Math.floor(v), most));
  const k = clamp(150 / K, 8),
    rows = clamp(120 / F, 12),
    columns = clamp(560 / P, 14),
    gap = 12,
    pad = 4;
  const left = pad + K * k + gap,
    top = pad + K * k + gap;
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
    const row = Math.floor((event.offsetY - top) / rows),
      column = Math.floor((event.offsetX - left) / columns);
    return column >= 0 && column < P && row < F
      ? { l: unit.l, f: row < 0 ? unit.f : row, i: Math.floor(column / Wo), j: column % Wo }
      : null;
  };
  return el(
    "figure",
    { class: "matrix" },
    el("figcaption", {}, t("matrixProduct")),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": t("matrixProduct") },
      el("canvas", {
        class: "pick exact",
        width: K * k + gap + P * columns + 2 * pad,
        height: K * k + gap + F * rows + 2 * pad,
        role: "img",
        "aria-label": t("matrixSizes", F, K, P),
        draw,
        onclick: (event) => at(event) && choose(at(event)),
        onpointermove: (event) => state.touch(at(event)),
        onpointerleave: () => state.touch(null),
      }),
    ),
    el("p", { class: "note" }, t("matrixNote", F, K, P, f, p)),
  );
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
