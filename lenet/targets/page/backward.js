// The view "Backward": the loss, the gradients of all maps, how they come about, and one step.
"use strict";

function backwardView(state, choose, changed) {
  return () => {
    const { network, passes, gradients, unit } = state;
    document.getElementById("loss").replaceChildren(...lossFigure(state, changed));
    document.getElementById("descent").replaceChildren(...descentFigure(state, changed));
    const maps = [];
    for (let l = network.layers.length - 1; l >= 0; l--) {
      const layer = network.layers[l], dy = gradients[l].dy;
      maps.push(mapRow(["∂E/∂ ", ...layerTitle(layer)], dy, layer.output, largest(dy),
        unit.l === l ? unit : null, (f, i, j) => choose({ l, f, i, j }),
        l === network.layers.length - 1 ? network.classes : null));
    }
    const dx = gradients[0].dx;
    maps.push(mapRow([el("b", {}, "∂E/∂ input")], dx, network.input, largest(dx), null, () => {}));
    document.getElementById("backward-maps").replaceChildren(...maps);
    const layer = network.layers[unit.l];
    const show = {
      convolution: convolutionGradient, linear: linearGradient,
      max_pooling: poolingGradient, average_pooling: poolingGradient, subsampling: poolingGradient,
    }[layer.type] ?? pointGradient;
    document.getElementById("backward-unit").replaceChildren(unitFields(network, unit, choose),
      ...show(state, layer, passes[unit.l], gradients[unit.l], unit, choose));
  };
}

// --- Loss and descent -----------------------------------------------------------------------

function lossFigure({ network, label, loss }, changed) {
  const choice = el("select", { onchange: (event) => changed({ label: Number(event.target.value) }) },
    ...network.classes.map((name, k) => el("option", { value: k, selected: k === label }, name)));
  const table = el("table", { className: "plain" });
  const row = (head, values, digits) => {
    const tr = table.insertRow();
    tr.append(el("th", { scope: "row" }, ...head));
    values.forEach((v, k) => {
      const cell = tr.insertCell();
      cell.textContent = digits === undefined ? v : number(v, digits);
      if (k === label) cell.classList.add("marked");
    });
    return tr;
  };
  row(["class"], network.classes);
  row(["p ", zh("概率")], Array.from(loss.p), 4);
  row(["y ", zh("标签")], network.classes.map((_, k) => (k === label ? 1 : 0)), 0);
  const dz = row(["dz = p − y"], Array.from(loss.dz), 4);
  [...dz.cells].slice(1).forEach((cell, k) => paint(cell, loss.dz[k]));
  return [
    el("div", { className: "fields" }, el("label", {}, "The right label is ", choice),
      el("b", {}, `Loss `, zh("损失"), ` E = −log p(${network.classes[label]}) = ${number(loss.E, 4)}`)),
    el("div", { className: "scroll", tabIndex: 0 }, table),
  ];
}

function descentFigure(state, changed) {
  const { network, loss, before, label, rate } = state;
  const field = el("input", { type: "number", min: 0, max: 10, step: "any", value: rate });
  field.addEventListener("change", () => (state.rate = Math.max(0, Number(field.value)) || 0));
  const result = [el("div", { className: "fields" },
    el("b", {}, "Gradient descent ", zh("梯度下降"), " W ← W − η·dW"),
    el("label", {}, "rate η ", zh("学习率"), " ", field),
    button("Take one step", () => changed({ step: state.rate })),
    button("Go back", () => changed({ undo: true }), { disabled: !state.history.length }))];
  if (before)
    result.push(el("details", { open: true }, el("summary", {},
      `Steps taken: ${state.history.length}. Loss ${number(before.E, 4)} → ${number(loss.E, 4)}, ` +
      `p(${network.classes[label]}) ${number(before.p[label], 4)} → ${number(loss.p[label], 4)}`),
    bars(network, loss.p, before.p)));
  return result;
}

// --- Convolution: dW, dcols, col2im ---------------------------------------------------------

function convolutionGradient(state, layer, pass, gradient, unit, choose) {
  const { f, i, j } = unit;
  const [C, H, W] = layer.input, [F, Ho, Wo] = layer.output, P = Ho * Wo;
  const [kh, kw] = layer.kernel, c = Math.min(state.channel, C - 1), area = kh * kw;
  const dZ = gradient.dy, dz = dZ.subarray(f * P, (f + 1) * P);
  const dWfc = kernelOf(layer, gradient.dW, f, c);
  const scaleW = largest(dWfc), scaleX = largest(gradient.dx.subarray(c * H * W, (c + 1) * H * W));
  const channels = C === 1 ? [] : [el("div", { className: "fields" }, integerField("channel", c, 0, C - 1,
    (value) => {
      state.channel = value;
      choose(unit);
    }))];
  const cell = Math.max(3, Math.floor(150 / Math.max(H, W)));

  // dW, patch by patch, up to the chosen one.
  const partial = el("div", { className: "row" });
  const sum = new Float64Array(area);
  const weights = stepper("patches added", P, (q) => {
    sum.fill(0);
    for (let p = 0; p < q; p++)
      patchOf(layer, pass.x, c, Math.floor(p / Wo), p % Wo).forEach((v, k) => (sum[k] += dz[p] * v));
    const p = q - 1, at = [Math.floor(p / Wo), p % Wo];
    const last = q ? patchOf(layer, pass.x, c, ...at) : new Array(area).fill(0);
    partial.replaceChildren(
      mapFigure(dz, Ho, Wo, { scale: largest(dz), cell: Math.max(3, Math.floor(110 / Math.max(Ho, Wo))),
        boxes: q ? [[...at, 1, 1]] : [], label: `dZ of map ${f}` }),
      el("span", { className: "times" }, q ? `dz = ${number(dz[p], 4)} ×` : "×"),
      numberTable(last, kh, kw, { caption: "patch", scale: largest(pass.x) }),
      el("div", { className: "row" }, el("span", { className: "times" }, "→"),
        numberTable(sum, kh, kw, { caption: `sum of ${q}`, scale: scaleW, digits: 3 })));
  });

  // dcols of the chosen patch.
  const p = i * Wo + j;
  const column = Array.from({ length: area }, (_, k) => gradient.dcols[(c * area + k) * P + p]);

  // col2im, patch by patch.
  const images = el("div", { className: "row" });
  const full = fullConvolution(dZ, layer).subarray(c * H * W, (c + 1) * H * W);
  const difference = full.reduce((most, v, k) => Math.max(most, Math.abs(v - gradient.dx[c * H * W + k])), 0);
  const turned = Array.from(kernelOf(layer, layer.W, f, c)).reverse();
  const adding = stepper("columns added back", P, (q) => {
    const dX = col2im(gradient.dcols, layer, q).subarray(c * H * W, (c + 1) * H * W);
    const boxes = q && q < P ? [patchBox(layer, Math.floor((q - 1) / Wo), (q - 1) % Wo)] : [];
    images.replaceChildren(
      el("figure", {}, mapFigure(dX, H, W, { scale: scaleX, cell, boxes, label: "dX by col2im" }),
        el("figcaption", {}, q === P ? "dX by col2im, complete" : `dX after ${q} columns`)),
      el("span", { className: "times" }, q === P ? "=" : "→"),
      el("figure", {}, mapFigure(full, H, W, { scale: scaleX, cell, label: "dX by full convolution" }),
        el("figcaption", {}, "dX by full convolution")));
  });

  weights.set(i * Wo + j + 1);
  adding.set(P);
  return [
    ...channels,
    el("h3", {}, `dW = dZ · colsᵀ `, zh("权重梯度"), `: filter ${f}, channel ${c}`),
    el("p", { className: "note" }, `The gradient of a kernel is a sum over the ${P} patches: each patch, times its dz.`),
    weights.element, partial,
    numberTable(dWfc, kh, kw, { caption: `dW, the sum of all ${P}`, scale: scaleW, digits: 3 }),
    el("p", { className: "formula" }, `db = Σ dz = ${number(gradient.db[f], 4)}`),
    el("h3", {}, `dcols = Wᵀ · dZ: the column of patch (${i}, ${j}), channel ${c}`),
    el("p", { className: "note" }, `Every number is a sum over the ${F} filters: dcols(m, n) = Σ w(f, m, n) · dz(f). ` +
      `At (0, 0): ${equation(layer, dZ, c, p, P)} = ${number(column[0], 6)}.`),
    numberTable(column, kh, kw, { scale: largest(column), digits: 3 }),
    el("h3", {}, "dX: col2im adds the columns back onto the image"),
    el("p", { className: "note" }, "Where patches overlap, their numbers add up. The full convolution " +
      "of dZ with the kernels turned by 180° gives the same dX."),
    adding.element, images,
    el("p", { className: "note" }, `Largest difference of the two: ${number(difference, 4)}.`),
    numberTable(turned, kh, kw, { caption: `the kernel of filter ${f} turned by 180°`, scale: largest(turned) }),
  ];
}

/** The largest terms of the sum over the filters for the first number of a column of dcols. */
function equation(layer, dZ, c, p, P) {
  const factors = Array.from({ length: layer.output[0] }, (_, f) =>
    [kernelOf(layer, layer.W, f, c)[0], dZ[f * P + p]]);
  const shown = factors.filter(([w, dz]) => w * dz !== 0)
    .sort((a, b) => Math.abs(b[0] * b[1]) - Math.abs(a[0] * a[1]));
  const terms = shown.slice(0, 3).map(([w, dz]) => `${factor(w, 3)}·${factor(dz, 6)}`);
  return (terms.join(" + ") || "0") + (shown.length > 3 ? " + …" : "");
}

// --- The other layers -----------------------------------------------------------------------

function poolingGradient(state, layer, pass, gradient, { f, i, j }) {
  const [, H, W] = layer.input, [, Ho, Wo] = layer.output;
  const pixels = poolingWindow(layer, f, i, j), q = (f * Ho + i) * Wo + j, dy = gradient.dy[q];
  const max = layer.type === "max_pooling", won = pixels.indexOf(pass.winners?.[q]);
  const share = pixels.map((pixel, k) =>
    pixel < 0 ? 0 : max ? (k === won ? dy : 0) : dy * windowFactor(layer, q));
  const cell = Math.max(3, Math.floor(170 / Math.max(H, W)));
  const map = (values, label) => el("figure", {}, mapFigure(values.subarray(f * H * W, (f + 1) * H * W), H, W,
    { scale: largest(values), cell, boxes: [patchBox(layer, i, j)], label }), el("figcaption", {}, label));
  return [
    el("h3", {}, max ? "The winners get the gradient" : "Every pixel gets its share"),
    el("div", { className: "row" }, map(pass.x, "x, on the way forward"), map(gradient.dx, "dx, on the way back")),
    el("p", { className: "formula" }, `dy = ${number(dy, 4)} ` + (max
      ? "goes to the largest number of the window; the others get nothing:" : `times ${factor(windowFactor(layer, q), 4)} goes to each:`)),
    numberTable(share, layer.kernel[0], layer.kernel[1], { scale: largest(share), digits: 4, marked: new Set([won]) }),
  ];
}

function linearGradient(state, layer, pass, gradient, { f }) {
  const D = pass.x.length, dz = gradient.dy[f], columns = Math.min(D, 30), rows = Math.ceil(D / columns);
  const strip = (values, text) => el("figure", {}, mapFigure(values, rows, columns,
    { scale: largest(values), cell: 8, label: text }), el("figcaption", {}, text));
  const dw = gradient.dW.subarray(f * D, (f + 1) * D);
  const best = Array.from(dw, Math.abs).reduce((at, v, k, all) => (v > all[at] ? k : at), 0);
  return [
    el("h3", {}, `dW = dz · xᵀ: the row of unit ${f}`),
    el("div", { className: "row" }, strip(pass.x, "x, the input"), strip(dw, `dW, row ${f}: dz · x`)),
    el("p", { className: "formula" }, `dz = ${number(dz, 4)}. The largest: dw(${best}) = ` +
      `${number(dz, 4)} · ${number(pass.x[best], 4)} = ${number(dw[best], 4)}; db = dz.`),
    el("h3", {}, "dx = Wᵀ · dz"),
    strip(gradient.dx, "dx: for every input, the sum of w·dz over all units"),
  ];
}

function pointGradient(state, layer, pass, gradient, { f, i, j }) {
  const [, H, W] = asMaps(layer.output), q = (f * H + i) * W + j;
  const slope = ACTIVATIONS[layer.type]?.slope(pass.y[q])
    ?? (layer.inverse ? layer.W[f] * layer.inverse[f] : 1);
  return [
    el("h3", {}, "dx = dy · f′(x) ", zh("导数")),
    el("p", { className: "formula" }, `x = ${number(pass.x[q], 3)}, y = ${number(pass.y[q], 3)}, f′(x) = ${number(slope, 3)}`,
      el("br"), `dx = ${factor(gradient.dy[q], 4)} · ${factor(slope, 3)} = ${number(gradient.dx[q], 4)}`,
      ...(gradient.dW ? [el("br"), `dw = ${number(gradient.dW[f], 4)}, db = ${number(gradient.db[f], 4)}`] : [])),
  ];
}
