// The view "Forward": every layer's maps, and one unit with all that it is computed from.
"use strict";

const SIDE = 170; // pixels of an image beside which another has room

function forwardView(state, choose) {
  const slide = document.getElementById("slide"); // not drawn again, so that no click is lost
  slide.addEventListener("click", () => slideWindow(state, choose));
  return () => {
    slide.hidden = state.network.layers[state.unit.l].type !== "convolution";
    slide.textContent = state.sliding ? "❚❚ Stop" : "▶ Slide the window";
    const { network, passes, unit } = state;
    const p = softmax(passes[passes.length - 1].y);
    document.getElementById("forward-maps").replaceChildren(...forwardMaps(state, unit, choose),
      el("div", { className: "layer" }, el("h4", {}, el("b", {}, "softmax"), " ", zh("概率"),
        " p = eᶻ / Σ eᶻ"), bars(network, p)));
    document.getElementById("forward-unit").replaceChildren(unitFields(network, unit, choose),
      ...unitFigure(state, choose));
  };
}

/** The receptive field of the chosen unit and, beside it, its window; then its computation. */
function unitFigure(state, choose) {
  const { network, passes, x, unit } = state;
  const [, H, W] = network.input, layer = network.layers[unit.l];
  const field = receptiveField(network, unit);
  const show = {
    convolution: convolutionUnit, linear: linearUnit,
    max_pooling: poolingUnit, average_pooling: poolingUnit, subsampling: poolingUnit,
  }[layer.type] ?? pointUnit;
  const { window = [], computation } = show(state, layer, passes[unit.l], unit, choose);
  return [
    el("div", { className: "beside" },
      el("div", {}, el("h3", {}, "Receptive field ", zh("感受野")),
        mapFigure(x.subarray(0, H * W), H, W, {
          scale: largest(x), cell: Math.max(2, Math.floor(SIDE / Math.max(H, W))), boxes: [field],
          label: "The input with the receptive field of the unit",
        }),
        el("p", { className: "note" }, `${field[2]}×${field[3]} pixels of the input can change this unit.`)),
      el("div", {}, ...window)),
    ...computation,
  ];
}

// --- Convolution ----------------------------------------------------------------------------

function convolutionUnit(state, layer, pass, unit, choose) {
  const { f, i, j } = unit;
  const [C, H, W] = layer.input, [F, Ho, Wo] = layer.output;
  const [kh, kw] = layer.kernel, K = C * kh * kw, p = i * Wo + j;
  const sums = Array.from({ length: C }, (_, c) => {
    const patch = patchOf(layer, pass.x, c, i, j), w = kernelOf(layer, layer.W, f, c);
    return patch.reduce((sum, v, k) => sum + v * w[k], 0);
  });
  const c = Math.min(state.channel, C - 1);
  const patch = patchOf(layer, pass.x, c, i, j), w = kernelOf(layer, layer.W, f, c);
  const products = patch.map((v, k) => v * w[k]);

  const move = (di, dj) => button({ "0,-1": "◀", "0,1": "▶", "-1,0": "▲", "1,0": "▼" }[[di, dj]],
    () => choose({ ...unit, i: Math.min(Math.max(i + di, 0), Ho - 1), j: Math.min(Math.max(j + dj, 0), Wo - 1) }),
    { "aria-label": `Move the window by ${di} rows and ${dj} columns` });
  const channels = C === 1 ? [] : [integerField("channel", c, 0, C - 1, (value) => {
    state.channel = value;
    choose(unit);
  })];
  const boxes = [patchBox(layer, i, j)];
  if (j + 1 < Wo) boxes.unshift([...patchBox(layer, i, j + 1), true]);
  const scale = largest(pass.x), shared = sharedPlaces(layer, i, j);
  const table = unfolding(kh, kw, [
    { title: ["patch x"], values: patch, scale: largest(patch), underlined: shared },
    { title: ["kernel w ", zh("卷积核")], values: w, scale: largest(w), sign: "×" },
    { title: ["products x·w"], values: products, scale: largest(products), sign: "=" },
  ]);
  const matrices = el("div", {}, ...matrixFigure(layer, pass, f, p, (row, column) =>
    choose({ l: unit.l, f: row, i: Math.floor(column / Wo), j: column % Wo })));
  const toggle = button("", () => show(!state.matrix));
  const show = (matrix) => {
    state.matrix = matrix;
    table.place(matrix);
    matrices.hidden = !matrix;
    toggle.textContent = matrix ? "Fold back: the window view" : "Unfold into columns: the matrix view";
    state.setAddress();
  };
  const total = sums.reduce((a, b) => a + b, 0);
  const next = state.network.layers[unit.l + 1], f_ = ACTIVATIONS[next?.type];
  const window = [
    el("h3", {}, `The window over channel ${c}`, C > 1 ? ` of ${C}` : ""),
    mapFigure(pass.x.subarray(c * H * W, (c + 1) * H * W), H, W, {
      scale, cell: Math.max(3, Math.floor(SIDE / Math.max(H, W))), boxes,
      label: `Channel ${c} with the window`,
    }),
    el("div", { className: "fields" }, ...channels, move(0, -1), move(0, 1), move(-1, 0), move(1, 0)),
  ];
  const computation = [
    el("p", { className: "note" }, shared.size
      ? `The patch to the right (dashed) shares ${shared.size} of ${kh * kw} pixels with this one: ` +
        "those with a line below. im2col copies them."
      : ""),
    el("p", {}, toggle), table.element,
    el("p", { className: "formula" },
      C > 1 ? `channel ${c}: Σ x·w = ${number(sums[c], 3)}; all ${C}: ` : "Σ x·w = ",
      C > 1 ? sums.map((v, k) => (k ? term(v) : number(v, 3))).join("") + " = " : "", number(total, 3), el("br"),
      el("b", {}, `z = ${number(total, 3)}${term(layer.b[f])} (bias `, zh("偏置"), `) = ${number(pass.y[f * Ho * Wo + p], 3)}`),
      ...(f_ ? [el("br"), `${next.name}: y = ${f_.formula} = ${number(state.passes[unit.l + 1].y[f * Ho * Wo + p], 3)}`] : [])),
    matrices,
  ];
  show(state.matrix);
  return { window, computation };
}

/** Move the window over the image, row by row, until this is called again. */
function slideWindow(state, choose) {
  const stop = () => {
    clearInterval(state.sliding);
    state.sliding = 0;
  };
  const advance = () => {
    const layer = state.network.layers[state.unit.l];
    if (state.view !== "forward" || layer.type !== "convolution") return stop();
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
  const right = new Set(poolingWindow(layer, 0, i, j + 1).filter((pixel) => pixel >= 0));
  return new Set(poolingWindow(layer, 0, i, j).flatMap((pixel, k) => (right.has(pixel) ? [k] : [])));
}

/**
 * Grids of kh×kw numbers that turn into columns: place(false) shows the grids, side by side or, on a
 * phone, one below the other; place(true) shows the columns, and the numbers move from one to the
 * other. All lengths are in rem.
 */
function unfolding(kh, kw, grids) {
  const width = 2.45, gap = 1.5, head = 1.7;
  const narrow = window.innerWidth < 700;
  const element = el("div", { className: "unfolding scroll", tabIndex: 0 });
  const inside = el("div");
  element.append(inside);
  const parts = grids.map(({ title, values, scale, sign, underlined }) => {
    const name = el("span", { className: "head" }, ...title);
    const mark = el("span", { className: "sign" }, sign ?? "");
    const cells = Array.from(values, (v, k) => {
      const cell = el("span", { className: underlined?.has(k) ? "cell shared" : "cell" }, number(v));
      paint(cell, v / scale);
      return cell;
    });
    inside.append(name, mark, ...cells);
    return { name, mark, cells };
  });
  const place = (columns) => {
    const stacked = narrow && !columns, height = columns && kh * kw > 9 ? 1.15 : 1.65;
    inside.classList.toggle("low", height < 1.65);
    const wide = columns ? 5.2 : kw * width, high = head + (columns ? kh * kw : kh) * height;
    const move = (item, x, y) => (item.style.transform = `translate(${x}rem, ${y}rem)`);
    parts.forEach(({ name, mark, cells }, g) => {
      const left = stacked ? 0 : g * (wide + gap), top = stacked ? g * (high + 0.5) : 0;
      const middle = columns ? 0 : ((kh - 1) / 2) * height;
      move(name, left, top);
      move(mark, stacked ? wide + 0.4 : left - gap / 2 - 0.35, top + head + middle);
      cells.forEach((cell, k) => move(cell, left + (columns ? 0 : (k % kw) * width),
        top + head + (columns ? k : Math.floor(k / kw)) * height));
    });
    const across = stacked ? 1 : grids.length, down = stacked ? grids.length : 1;
    inside.style.width = `${across * (wide + gap)}rem`;
    inside.style.height = `${down * (high + 0.5)}rem`;
  };
  return { element, place };
}

/** W · cols = Z: W at the left, cols above Z, so that a row and a column meet at their number. */
function matrixFigure(layer, pass, f, p, pick) {
  const [F, Ho, Wo] = layer.output, P = Ho * Wo, K = layer.W.length / F;
  const clamp = (v, most) => Math.max(1, Math.min(Math.floor(v), most));
  const k = clamp(150 / K, 8), rows = clamp(140 / F, 12), columns = clamp(560 / P, 14);
  const gap = 16, pad = 4;
  const canvas = el("canvas", {
    className: "pick exact", width: K * k + gap + P * columns + 2 * pad, height: K * k + gap + F * rows + 2 * pad,
    role: "img", "aria-label": `W (${F}×${K}) times cols (${K}×${P}) is Z (${F}×${P})`,
  });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const left = pad + K * k + gap, top = pad + K * k + gap;
  const put = (values, n, m, x, y, width, height) => context.drawImage(
    drawMap(document.createElement("canvas"), values, n, m, largest(values)), x, y, m * width, n * height);
  put(layer.W, F, K, pad, top, k, rows);
  put(pass.cols, K, P, left, pad, columns, k);
  put(pass.y, F, P, left, top, columns, rows);
  outline(context, pad, top + f * rows, K * k, rows);
  outline(context, left + p * columns, pad, columns, K * k);
  outline(context, left + p * columns, top + f * rows, columns, rows);
  context.fillStyle = getComputedStyle(document.body).color;
  context.font = "italic 18px serif";
  context.textBaseline = "top";
  context.fillText("W · cols = Z", pad, pad);
  canvas.addEventListener("click", (event) => {
    const row = Math.floor((event.offsetY - top) / rows), column = Math.floor((event.offsetX - left) / columns);
    if (column >= 0 && column < P && row < F) pick(Math.max(row, 0) || (row < 0 ? f : 0), column);
  });
  return [
    el("h3", {}, "The same as a matrix product ", zh("矩阵乘法")),
    el("p", { className: "note" }, `W (${F}×${K}) at the left, the patch matrix cols (${K}×${P}) above, ` +
      `Z (${F}×${P}) where they meet. Marked: row ${f} of W is the filter, column ${p} of cols the patch, ` +
      "and their product the number of Z (before the bias is added). Click on cols or Z to choose another."),
    el("div", { className: "scroll", tabIndex: 0 }, canvas),
  ];
}

// --- The other layers -----------------------------------------------------------------------

function poolingUnit(state, layer, pass, { f, i, j }) {
  const [, H, W] = layer.input, [, Ho, Wo] = layer.output;
  const pixels = poolingWindow(layer, f, i, j), q = (f * Ho + i) * Wo + j;
  const values = pixels.map((pixel) => (pixel < 0 ? NaN : pass.x[pixel]));
  const inside = values.filter((v) => !Number.isNaN(v));
  const winner = layer.type === "max_pooling" ? pixels.indexOf(pass.winners[q]) : -1;
  const at = (pixel) => `row ${Math.floor((pixel % (H * W)) / W)}, column ${pixel % W}`;
  const window = [
    el("h3", {}, `The window on map ${f} `, zh("池化")),
    mapFigure(pass.x.subarray(f * H * W, (f + 1) * H * W), H, W, {
      scale: largest(pass.x), cell: Math.max(3, Math.floor(SIDE / Math.max(H, W))),
      boxes: [patchBox(layer, i, j)], label: `Map ${f} with the window`,
    }),
  ];
  return { window, computation: [
    numberTable(values, layer.kernel[0], layer.kernel[1], {
      scale: largest(inside), marked: new Set([winner]), digits: 3,
      text: (k) => (Number.isNaN(values[k]) ? "–" : number(values[k], 3) + (k === winner ? " ★" : "")),
    }),
    el("p", { className: "formula" }, layer.type === "max_pooling"
      ? `The largest wins: ${number(pass.y[q], 3)} at ${at(pass.winners[q])}. On the way back the gradient goes there, and nowhere else.`
      : `(${inside.map((v, k) => (k ? term(v) : number(v, 3))).join("")}) · ${factor(windowFactor(layer, q), 4)}${layer.b ? term(layer.b[f]) : ""} = ${number(pass.y[q], 3)}`),
  ] };
}

function linearUnit(state, layer, pass, { f }) {
  const D = pass.x.length, w = layer.W.subarray(f * D, (f + 1) * D);
  const products = Array.from(w, (v, k) => v * pass.x[k]);
  const order = products.map((_, k) => k).sort((a, b) => Math.abs(products[b]) - Math.abs(products[a]));
  const shown = order.slice(0, 10), rest = order.slice(10).reduce((sum, k) => sum + products[k], 0);
  const table = el("table", { className: "plain" }, el("caption", {}, `The largest of ${D} products`));
  table.insertRow().append(...["input", "x", "w", "x·w"].map((head) => el("th", {}, head)));
  for (const k of shown) {
    const row = table.insertRow();
    for (const text of [k, number(pass.x[k], 3), number(w[k], 3), number(products[k], 3)])
      row.insertCell().textContent = text;
    paint(row.lastChild, products[k] / Math.abs(products[shown[0]] || 1));
  }
  const next = state.network.layers[state.unit.l + 1], f_ = ACTIVATIONS[next?.type];
  const z = pass.y[f];
  return { computation: [
    el("h3", {}, "A row of W times the input ", zh("全连接层")),
    table,
    el("p", { className: "formula" }, `Σ x·w = ${number(z - layer.b[f], 3)}`,
      D > 10 ? ` (of it ${number(rest, 3)} from the other ${D - 10})` : "", el("br"),
      el("b", {}, `z = ${number(z - layer.b[f], 3)}${term(layer.b[f])} (bias) = ${number(z, 3)}`),
      ...(f_ ? [el("br"), `${next.name}: y = ${f_.formula} = ${number(state.passes[state.unit.l + 1].y[f], 3)}`] : [])),
  ] };
}

function pointUnit(state, layer, pass, { f, i, j }) {
  const [, H, W] = asMaps(layer.output), q = (f * H + i) * W + j;
  const formula = ACTIVATIONS[layer.type]?.formula;
  if (layer.type === "batch_normalization")
    return { computation: [
      el("h3", {}, "Number by number, with the averages of training"),
      el("p", { className: "formula" }, `x̂ = (${number(pass.x[q], 3)}${term(-layer.mean[f])}) · ` +
        `${number(layer.inverse[f], 3)} = ${number(pass.normal[q], 3)}`, el("br"),
      `y = ${factor(layer.W[f], 3)} · x̂${term(layer.b[f])} = ${number(pass.y[q], 3)}`),
    ] };
  return { computation: [
    el("h3", {}, "Number by number"),
    el("p", { className: "formula" }, formula
      ? `z = ${number(pass.x[q], 3)}; y = ${formula} = ${number(pass.y[q], 3)}`
      : `Outside training, dropout changes nothing: ${number(pass.y[q], 3)}.`),
  ] };
}
