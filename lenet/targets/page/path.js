// Follow one number: what it is made of, what it goes into, and the path of the largest
// contributions from a pixel of the input to a score.
//
// A unit is { l: layer, f: map, i: row, j: column }; l = -1 is the input.
"use strict";

/** A shape as [maps, rows, columns]; a vector has maps of one number. */
function asMaps(shape) {
  return shape.length === 3 ? shape : [size(shape), 1, 1];
}

function shapeOf(network, l) {
  return asMaps(l < 0 ? network.input : network.layers[l].output);
}

function unitAt(network, l, q) {
  const [, H, W] = shapeOf(network, l);
  return { l, f: Math.floor(q / (H * W)), i: Math.floor((q % (H * W)) / W), j: q % W };
}

function indexOf(network, { l, f, i, j }) {
  const [, H, W] = shapeOf(network, l);
  return (f * H + i) * W + j;
}

function sameUnit(a, b) {
  return !!a && !!b && a.l === b.l && a.f === b.f && a.i === b.i && a.j === b.j;
}

function valueOf(state, unit) {
  return (unit.l < 0 ? state.x : state.passes[unit.l].y)[indexOf(state.network, unit)];
}

/** ∂E/∂ of a unit; undefined as long as nobody has said what the digit is. */
function gradientOf(state, unit) {
  if (!state.gradients) return undefined;
  const q = indexOf(state.network, unit);
  return unit.l < 0 ? state.gradients[0].dx[q] : state.gradients[unit.l].dy[q];
}

/** "C1 map 3 (8, 14)", or the class of a score. */
function unitName(network, { l, f, i, j }) {
  const [, H, W] = shapeOf(network, l);
  if (l < 0) return t("pixelName", network.input[0] > 1 ? `${f} ` : "", i, j);
  const { name } = network.layers[l];
  return H * W > 1
    ? t("mapName", name, f, i, j)
    : `${name} ${l === network.layers.length - 1 ? t("className", network.classes[f]) : f}`;
}

/** The same in short: "C1·3 (8, 14)". */
function shortName(network, { l, f, i, j }) {
  const [, H, W] = shapeOf(network, l);
  if (l < 0) return unitName(network, { l, f, i, j });
  const name = network.layers[l].name.replace(".activation", ` ${t("activationShort")}`);
  return H * W > 1 ? `${name}·${f} (${i}, ${j})` : `${name}·${f}`;
}

/** The formula by which a unit is computed, without numbers. */
function formulaOf(network, unit) {
  if (unit.l < 0) return "";
  const { type } = network.layers[unit.l];
  return (
    {
      convolution: "Σ w·x + b",
      linear: "Σ w·x + b",
      max_pooling: "max x",
      average_pooling: "Σ x / n",
      subsampling: "w·Σ x + b",
      batch_normalization: "w·x̂ + b",
      dropout: "x",
    }[type] ?? ACTIVATIONS[type].formula
  );
}

/** What a unit is made of: [[index in the layer's input, its weight], …]. */
function madeOf(state, { l, f, i, j }) {
  const layer = state.network.layers[l],
    q = indexOf(state.network, { l, f, i, j });
  if (layer.type === "convolution") {
    const [C] = layer.input,
      area = layer.kernel[0] * layer.kernel[1];
    return Array.from({ length: C }, (_, c) =>
      patchPixels(layer, c, i, j).map((pixel, k) => [pixel, layer.W[(f * C + c) * area + k]]),
    )
      .flat()
      .filter(([pixel]) => pixel >= 0);
  }
  if (layer.type === "linear") {
    const D = size(layer.input);
    return Array.from({ length: D }, (_, k) => [k, layer.W[f * D + k]]);
  }
  if (layer.kernel) {
    const winner = state.passes[l].winners?.[q];
    return patchPixels(layer, f, i, j)
      .filter((pixel) => pixel >= 0)
      .map((pixel) => [pixel, winner === undefined ? windowFactor(layer, q) : pixel === winner ? 1 : 0]);
  }
  return [[q, 1]];
}

/** The weight with which the number q of a layer's input goes into a unit of it. */
function weightOf(network, { l, f, i, j }, q) {
  const layer = network.layers[l],
    [C, H, W] = asMaps(layer.input);
  if (layer.type === "linear") return layer.W[f * size(layer.input) + q];
  if (layer.type !== "convolution") return 1;
  const c = Math.floor(q / (H * W)),
    h = Math.floor((q % (H * W)) / W),
    w = q % W;
  const m = (h + layer.padding[0] - i * layer.stride[0]) / layer.dilation[0];
  const n = (w + layer.padding[1] - j * layer.stride[1]) / layer.dilation[1];
  return layer.W[((f * C + c) * layer.kernel[0] + m) * layer.kernel[1] + n];
}

/** The units of the next layer that a unit goes into; of a convolution, those of the map f. */
function goesInto(state, unit, f) {
  const { network } = state,
    l = unit.l + 1,
    layer = network.layers[l];
  if (!layer) return [];
  if (layer.type === "linear")
    return Array.from({ length: layer.output[0] }, (_, k) => ({ l, f: k, i: 0, j: 0 }));
  if (!layer.kernel) return [unitAt(network, l, indexOf(network, unit))];
  const units = [],
    [, Ho, Wo] = layer.output,
    map = layer.type === "convolution" ? f : unit.f;
  const inside = (at, axis, o) => {
    const k = (at + layer.padding[axis] - o * layer.stride[axis]) / layer.dilation[axis];
    return Number.isInteger(k) && k >= 0 && k < layer.kernel[axis];
  };
  for (let i = 0; i < Ho; i++)
    for (let j = 0; j < Wo; j++)
      if (inside(unit.i, 0, i) && inside(unit.j, 1, j)) units.push({ l, f: map, i, j });
  return units;
}

/** The largest of a list by a measure; of equal ones the one in the middle. */
function most(list, measure) {
  const values = list.map(measure),
    top = Math.max(...values);
  const best = list.filter((_, k) => values[k] === top);
  return best[Math.floor(best.length / 2)];
}

/** The path through a unit: what contributes most to it, back to a pixel, and where it goes most. */
function pathThrough(state, unit) {
  const { network, passes } = state,
    path = [unit];
  while (path[0].l >= 0) {
    const { l } = path[0],
      { x } = passes[l];
    const [q] = most(madeOf(state, path[0]), ([k, w]) => Math.abs(w * x[k])) ?? [0];
    path.unshift(unitAt(network, l - 1, q));
  }
  for (let at = unit; at.l + 1 < network.layers.length; path.push(at)) {
    const l = at.l + 1,
      layer = network.layers[l],
      last = l === network.layers.length - 1;
    const q = indexOf(network, at);
    if (last && layer.type === "linear") {
      at = { l, f: argmax(passes[l].y), i: 0, j: 0 };
      continue;
    }
    const filters = layer.type === "convolution" ? Array.from({ length: layer.output[0] }, (_, f) => f) : [0];
    const next = filters.flatMap((f) => goesInto(state, at, f));
    if (!next.length) next.push(unitAt(network, l, 0)); // a pixel beside all windows
    at = most(next, (unit) => Math.abs(weightOf(network, unit, q)));
  }
  return path;
}

/**
 * What is marked on the maps for a unit: boxes by "layer/map". The window that it is made of stands
 * on the layer before, the numbers that it goes into, on the path, on the layer behind.
 */
function marksOf(state, unit) {
  const marks = {},
    { network } = state;
  if (!unit) return marks;
  const put = (l, f, box) => (marks[`${l}/${f}`] ??= []).push(box);
  put(unit.l, unit.f, [unit.i, unit.j, 1, 1, "unit"]);
  const layer = network.layers[unit.l];
  if (layer?.kernel) {
    const channels =
      layer.type !== "convolution"
        ? [unit.f]
        : (layer.channels?.[unit.f] ?? Array.from({ length: layer.input[0] }, (_, c) => c));
    for (const c of channels) put(unit.l - 1, c, [...patchBox(layer, unit.i, unit.j), "window"]);
  } else if (layer && layer.type !== "linear") put(unit.l - 1, unit.f, [unit.i, unit.j, 1, 1, "window"]);
  const on = state.path?.[unit.l + 2];
  const into = network.layers[unit.l + 1]?.type === "linear" ? [] : goesInto(state, unit, on?.f ?? 0);
  if (into.length) {
    const rows = into.map(({ i }) => i),
      columns = into.map(({ j }) => j);
    put(unit.l + 1, into[0].f, [
      Math.min(...rows),
      Math.min(...columns),
      Math.max(...rows) - Math.min(...rows) + 1,
      Math.max(...columns) - Math.min(...columns) + 1,
      "into",
    ]);
  }
  for (const step of state.path ?? [])
    if (step.l !== unit.l) put(step.l, step.f, [step.i, step.j, 1, 1, "path"]);
  return marks;
}

/** The path at the top of a view, and the same path back with ∂E/∂. */
function pathFigure(state, choose) {
  const { network, path } = state;
  const step = (unit, shown, arrow) =>
    el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: sameUnit(unit, state.unit) ? "chosen" : null,
          "aria-current": sameUnit(unit, state.unit) ? "step" : null,
          onclick: () => choose(unit),
          onpointerenter: () => state.touch(unit),
          onpointerleave: () => state.touch(null),
          onfocus: () => state.touch(unit),
          onblur: () => state.touch(null),
        },
        shown,
      ),
      arrow && el("span", { "aria-hidden": "true" }, arrow),
    );
  const forwards = path.map((unit, k) =>
    step(
      unit,
      [el("b", {}, shortName(network, unit)), " ", number(valueOf(state, unit), 2)],
      k < path.length - 1 && "→",
    ),
  );
  const p = percent(state.loss.p[path[path.length - 1].f]);
  const backwards = state.gradients
    ? path.map((unit, k) => step(unit, number(gradientOf(state, unit), 4), k < path.length - 1 && "←"))
    : [el("li", { class: "note" }, t("noLabel"))];
  return [
    el(
      "ol",
      { class: "path", "aria-label": t("pathThere") },
      ...forwards,
      el("li", { class: "note" }, `→ p ${p}`),
    ),
    el("ol", { class: "path", "aria-label": t("pathBack") }, el("li", {}, el("b", {}, "∂E/∂")), ...backwards),
    el("p", { id: "spoken", role: "status", class: "formula" }, spoken(state, state.hover ?? state.unit)),
  ];
}

/** "C1 map 3 (8, 14) = −2.046 = Σ w·x + b", and its gradient. */
function spoken(state, unit) {
  const formula = formulaOf(state.network, unit),
    gradient = gradientOf(state, unit);
  return (
    `${unitName(state.network, unit)} = ${number(valueOf(state, unit), 3)}${formula ? ` = ${formula}` : ""}` +
    (gradient === undefined ? "" : `; ∂E/∂ = ${number(gradient, 4)}`)
  );
}

/** The pixels of the input that a unit depends on: [top, left, height, width]. */
function receptiveField(network, { l, i, j }) {
  let rows = [i, i],
    columns = [j, j];
  for (let k = l; k >= 0; k--) {
    const layer = network.layers[k];
    const [, H, W] = asMaps(layer.input);
    const back = ([first, last], axis, end) => {
      const start = (at) => at * layer.stride[axis] - layer.padding[axis];
      const extent = (layer.kernel[axis] - 1) * layer.dilation[axis];
      return [Math.max(start(first), 0), Math.min(start(last) + extent, end - 1)];
    };
    if (layer.kernel) {
      rows = back(rows, 0, H);
      columns = back(columns, 1, W);
    } else if (layer.type === "linear") {
      rows = [0, H - 1];
      columns = [0, W - 1];
    }
  }
  return [rows[0], columns[0], rows[1] - rows[0] + 1, columns[1] - columns[0] + 1];
}

/** The numbers of channel c in the patch (i,j) of x, in row order; 0 on the padding. */
function patchOf(layer, x, c, i, j) {
  return patchPixels(layer, c, i, j).map((pixel) => (pixel < 0 ? 0 : x[pixel]));
}

/** The box of the patch (i,j) on the input of a layer. */
function patchBox(layer, i, j) {
  const at = (k, axis) => k * layer.stride[axis] - layer.padding[axis];
  const extent = (axis) => (layer.kernel[axis] - 1) * layer.dilation[axis] + 1;
  return [at(i, 0), at(j, 1), extent(0), extent(1)];
}

/** The weights of filter f for channel c, in row order. */
function kernelOf(layer, values, f, c) {
  const area = layer.kernel[0] * layer.kernel[1],
    C = layer.input[0];
  return values.subarray((f * C + c) * area, (f * C + c + 1) * area);
}
