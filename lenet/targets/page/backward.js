// The view "Backward": the loss, the gradients of all maps, how they come about, and one step.
"use strict";

function backwardView(state, choose, changed) {
  return () => {
    const { network, unit } = state;
    show(document.getElementById("loss"), ...lossFigure(state, changed));
    const known = state.label !== null;
    show(document.getElementById("descent"), known && descentFigure(state, changed));
    if (!known) {
      show(document.getElementById("backward-maps"));
      return show(document.getElementById("backward-unit"));
    }
    const numbers = (l) => (l < 0 ? state.gradients[0].dx : state.gradients[l].dy);
    show(
      document.getElementById("backward-maps"),
      el("p", { class: "lead" }, t("backwardLead")),
      diagramFigure(state, {
        height: 150,
        values: numbers,
        scaleOf: (l) => rounded(largest(numbers(l))),
        choose,
        label: "∂E/∂",
      }),
    );
    const layer = network.layers[Math.max(unit.l, 0)];
    const figure =
      {
        convolution: convolutionGradient,
        linear: linearGradient,
        max_pooling: poolingGradient,
        average_pooling: poolingGradient,
        subsampling: poolingGradient,
      }[layer.type] ?? pointGradient;
    show(
      document.getElementById("backward-unit"),
      unitFields(state, choose, "backward"),
      unit.l < 0
        ? el("p", {}, spoken(state, unit))
        : figure(state, layer, state.passes[unit.l], state.gradients[unit.l], unit, choose),
      linksFigure(state, choose),
    );
  };
}

// --- Loss and descent -----------------------------------------------------------------------

/** "What did you draw?" as long as nobody has said it; then p, y and dz. */
function lossFigure({ network, label, loss, empty, passes }, changed) {
  const known = network.classes.map((name, k) => [k, name]);
  if (empty) return [el("p", {}, el("b", {}, t("nothingDrawn")), " ", t("drawFirst"))];
  if (label === null)
    return [
      el("p", {}, el("b", {}, t("whatDrawn")), " ", t("networkSays", network.classes[argmax(loss.p)])),
      el(
        "p",
        { class: "fields", role: "group", "aria-label": t("whatDrawn") },
        ...known.map(([k, name]) => button(name, () => changed({ label: k }))),
      ),
    ];
  const { p, dz, E } = crossEntropy(passes.at(-1).y, label);
  const row = (head, values, text, colours) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, head),
      ...Array.from(values, (v, k) =>
        el("td", { class: k === label ? "marked" : null, style: colours ? paint(v) : {} }, text(v)),
      ),
    );
  return [
    el(
      "div",
      { class: "fields" },
      choice(t("rightLabel"), label, known, (value) => changed({ label: Number(value) })),
      el("b", { role: "status" }, `${t("loss")} E = −log p(${network.classes[label]}) = ${number(E, 4)}`),
    ),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": t("loss") },
      el(
        "table",
        { class: "plain" },
        el("caption", { class: "hidden" }, t("lossTable")),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col" }, t("class")),
            ...network.classes.map((name) => el("th", { scope: "col" }, name)),
          ),
        ),
        el(
          "tbody",
          {},
          row("p", p, percent),
          row(
            t("targetY"),
            network.classes.map((_, k) => (k === label ? 1 : 0)),
            String,
          ),
          row("dz = p − y", dz, (v) => number(v, 4), true),
        ),
      ),
    ),
  ];
}

function descentFigure(state, changed) {
  const { network, loss, before, label, rate, steps } = state;
  return [
    el(
      "div",
      { class: "fields" },
      el("b", {}, `${t("descent")} W ← W − η·dW`),
      el(
        "label",
        {},
        `${t("rate")} η `,
        el("input", {
          type: "number",
          min: 0,
          max: 10,
          step: "any",
          value: rate,
          oninput: (event) => (state.rate = Math.max(0, Number(event.target.value)) || 0),
        }),
      ),
      button(t("takeStep"), () => changed({ step: state.rate })),
      button(t("goBack"), () => changed({ undo: true }), { disabled: !steps.length }),
    ),
    before &&
      el(
        "details",
        { open: true },
        el(
          "summary",
          { role: "status" },
          t(
            "stepsTaken",
            steps.length,
            number(before.E, 4),
            number(loss.E, 4),
            network.classes[label],
            percent(before.p[label]),
            percent(loss.p[label]),
          ),
        ),
        bars(network, loss.p, before.p),
      ),
  ];
}

// --- Convolution: dW, dcols, col2im ---------------------------------------------------------

function convolutionGradient(state, layer, pass, gradient, unit, choose) {
  const { f, i, j } = unit,
    [C, H, W] = layer.input,
    [F, Ho, Wo] = layer.output,
    P = Ho * Wo,
    [kh, kw] = layer.kernel;
  const c = Math.min(state.channel, C - 1),
    area = kh * kw,
    K = C * area,
    chosen = i * Wo + j;
  const dZ = gradient.dy,
    dz = dZ.subarray(f * P, (f + 1) * P),
    dWfc = kernelOf(layer, gradient.dW, f, c);
  const map = (values, h, w, caption, boxes, scale, side = 150) =>
    el(
      "figure",
      {},
      el("figcaption", {}, caption),
      mapFigure(values, h, w, {
        scale,
        width: (side * w) / Math.max(h, w),
        height: (side * h) / Math.max(h, w),
        boxes,
        label: caption,
      }),
    );
  const again = (name) => (q) => {
    state.at = { ...state.at, [name]: q };
    choose(unit);
  };

  // dW, patch by patch, up to the chosen one.
  const q = Math.min(state.at?.dW ?? chosen + 1, P),
    sum = new Float64Array(area);
  for (let p = 0; p < q; p++)
    patchOf(layer, pass.x, c, Math.floor(p / Wo), p % Wo).forEach((v, k) => (sum[k] += dz[p] * v));
  const last = q
    ? patchOf(layer, pass.x, c, Math.floor((q - 1) / Wo), (q - 1) % Wo)
    : new Array(area).fill(0);
  const weights = [
    el("h2", {}, `dW = dZ · colsᵀ: ${t("filterChannel", f, c)}`),
    stepper("dW", t("patchesAdded"), q, P, again("dW")),
    el(
      "div",
      { class: "row" },
      map(
        dz,
        Ho,
        Wo,
        q ? `dz = ${number(dz[q - 1], 4)} ×` : t("dZofMap", f),
        q ? [[Math.floor((q - 1) / Wo), (q - 1) % Wo, 1, 1, "unit"]] : [],
        largest(dz),
        100,
      ),
      numberTable(last, kh, kw, { caption: t("patch"), scale: largest(pass.x) }),
      el("span", { class: "times" }, "→"),
      numberTable(sum, kh, kw, { caption: t("sumOf", q), scale: largest(dWfc) }),
    ),
    el(
      "div",
      { class: "row" },
      numberTable(dWfc, kh, kw, { caption: t("dWAll", P), scale: largest(dWfc), digits: 3 }),
    ),
    el(
      "p",
      { class: "formula" },
      `db = Σ dz = ${number(gradient.db[f], 4)}. `,
      el("span", { class: "note" }, t("dWNote", P)),
    ),
  ];

  // dcols of the chosen patch.
  const column = Array.from({ length: area }, (_, k) => gradient.dcolsT[chosen * K + c * area + k]);
  const columns = [
    el("h2", {}, `dcols = Wᵀ · dZ: ${t("columnOf", i, j, c)}`),
    el(
      "p",
      { class: "note" },
      `${t("dcolsNote", F)} (0, 0): ${equation(layer, dZ, c, chosen, P)} = ${number(column[0], 6)}.`,
    ),
    numberTable(column, kh, kw, { caption: "dcols", scale: largest(column), digits: 3 }),
  ];

  // col2im, patch by patch.
  const added = Math.min(state.at?.dX ?? P, P),
    channel = (values) => values.subarray(c * H * W, (c + 1) * H * W);
  const dX = channel(col2im(gradient.dcolsT, layer, { patches: added })),
    full = channel(fullConvolution(dZ, layer));
  const complete = channel(gradient.dx),
    scale = largest(complete);
  const difference = full.reduce((most, v, k) => Math.max(most, Math.abs(v - complete[k])), 0);
  const turned = Array.from(kernelOf(layer, layer.W, f, c)).reverse();
  const boxes =
    added && added < P
      ? [[...patchBox(layer, Math.floor((added - 1) / Wo), (added - 1) % Wo), "window"]]
      : [];
  const images = [
    el("h2", {}, t("col2imTitle")),
    stepper("dX", t("columnsAdded"), added, P, again("dX")),
    el(
      "div",
      { class: "row" },
      map(dX, H, W, added === P ? t("dXComplete") : t("dXAfter", added), boxes, scale),
      el("span", { class: "times" }, added === P ? "=" : "→"),
      map(full, H, W, t("dXFull"), [], scale),
      numberTable(turned, kh, kw, { caption: t("turnedKernel", f), scale: largest(turned) }),
    ),
    el(
      "p",
      { class: "note" },
      `${t("col2imNote")} ${t("difference")}: ${difference.toExponential(0).replace("-", "−")}.`,
    ),
  ];
  return [
    el(
      "div",
      { class: "three gradients" },
      el("div", {}, ...weights),
      el("div", {}, ...columns),
      el("div", {}, ...images),
    ),
  ];
}

/** The largest terms of the sum over the filters for the first number of a column of dcols. */
function equation(layer, dZ, c, p, P) {
  const factors = Array.from({ length: layer.output[0] }, (_, f) => [
    kernelOf(layer, layer.W, f, c)[0],
    dZ[f * P + p],
  ]);
  const shown = factors
    .filter(([w, dz]) => w * dz !== 0)
    .sort((a, b) => Math.abs(b[0] * b[1]) - Math.abs(a[0] * a[1]));
  const terms = shown.slice(0, 3).map(([w, dz]) => `${factor(w, 3)}·${factor(dz, 6)}`);
  return (terms.join(" + ") || "0") + (shown.length > 3 ? " + …" : "");
}

// --- The other layers -----------------------------------------------------------------------

function poolingGradient(state, layer, pass, gradient, unit) {
  const { f, i, j } = unit,
    [, H, W] = layer.input,
    q = indexOf(state.network, unit),
    dy = gradient.dy[q];
  const pixels = patchPixels(layer, f, i, j),
    max = layer.type === "max_pooling",
    won = pixels.indexOf(pass.winners?.[q]);
  const share = pixels.map((pixel, k) =>
    pixel < 0 ? 0 : max ? (k === won ? dy : 0) : dy * windowFactor(layer, q),
  );
  const map = (values, caption) =>
    el(
      "figure",
      {},
      el("figcaption", {}, caption),
      mapFigure(values.subarray(f * H * W, (f + 1) * H * W), H, W, {
        scale: largest(values),
        width: (WINDOW * W) / Math.max(H, W),
        height: (WINDOW * H) / Math.max(H, W),
        boxes: [[...patchBox(layer, i, j), "window"]],
        label: caption,
      }),
    );
  return [
    el("h2", {}, t(max ? "winnersGet" : "allGet")),
    el(
      "div",
      { class: "row" },
      map(pass.x, t("xForward")),
      map(gradient.dx, t("dxBack")),
      el(
        "p",
        { class: "formula result" },
        t(max ? "dyToWinner" : "dyToAll", number(dy, 4), max ? "" : factor(windowFactor(layer, q), 4)),
      ),
      numberTable(share, layer.kernel[0], layer.kernel[1], {
        caption: "dx",
        scale: largest(share),
        digits: 4,
        marked: new Set([won]),
      }),
    ),
  ];
}

function linearGradient(state, layer, pass, gradient, { f }) {
  const D = pass.x.length,
    dz = gradient.dy[f],
    columns = Math.min(D, 30),
    rows = Math.ceil(D / columns);
  const strip = (values, caption) =>
    el(
      "figure",
      {},
      el("figcaption", {}, caption),
      mapFigure(values, rows, columns, {
        scale: largest(values),
        width: 9 * columns,
        height: 9 * rows,
        label: caption,
      }),
    );
  const dw = gradient.dW.subarray(f * D, (f + 1) * D),
    best = argmax(Array.from(dw, Math.abs));
  return [
    el("h2", {}, `dW = dz · xᵀ: ${t("rowOfUnit", f)}; dx = Wᵀ · dz`),
    el(
      "div",
      { class: "row" },
      strip(pass.x, t("xInput")),
      strip(dw, t("dWRow", f)),
      strip(gradient.dx, t("dxSum")),
    ),
    el(
      "p",
      { class: "formula result" },
      t("largestDw", number(dz, 4), best, number(pass.x[best], 4), number(dw[best], 4)),
    ),
  ];
}

function pointGradient(state, layer, pass, gradient, unit) {
  const { f } = unit,
    q = indexOf(state.network, unit);
  const slope =
    ACTIVATIONS[layer.type]?.slope(pass.y[q]) ?? (layer.inverse ? layer.W[f] * layer.inverse[f] : 1);
  return [
    el("h2", {}, "dx = dy · f′(x)"),
    el(
      "p",
      { class: "formula result" },
      `x = ${number(pass.x[q], 3)}, y = ${number(pass.y[q], 3)}, f′(x) = ${number(slope, 3)}`,
      el("br"),
      `dx = ${factor(gradient.dy[q], 4)} · ${factor(slope, 3)} = ${number(gradient.dx[q], 4)}`,
      gradient.dW && [el("br"), `dw = ${number(gradient.dW[f], 4)}, db = ${number(gradient.db[f], 4)}`],
    ),
  ];
}
