// What the views "Forward" and "Backward" have in common: the maps of all layers and the choice of
// a unit, which is { l: layer, f: map, i: row, j: column }.
"use strict";

const TERMS = {
  convolution: ["convolution", "卷积"],
  max_pooling: ["max pooling", "最大池化"],
  average_pooling: ["average pooling", "平均池化"],
  subsampling: ["trainable subsampling", "下采样"],
  batch_normalization: ["batch normalisation", "批量归一化"],
  linear: ["fully connected", "全连接"],
  dropout: ["dropout", "随机失活"],
};

/** A shape as [maps, rows, columns]; a vector has maps of one number. */
function asMaps(shape) {
  return shape.length === 3 ? shape : [size(shape), 1, 1];
}

/** Name, kind and size of a layer. */
function layerTitle(layer) {
  const [kind, chinese] = TERMS[layer.type] ?? [layer.type, "激活函数"];
  const kernel = layer.kernel ? ` ${layer.kernel.join("×")}` : "";
  return [el("b", {}, layer.name), ` ${kind} `, zh(chinese), `${kernel}, ${layer.output.join("×")}`];
}

/** The maps (shape) of one layer, in a row; `chosen` is marked, choose(f, i, j) is called. */
function mapRow(title, values, shape, scale, chosen, choose, names) {
  const [F, H, W] = asMaps(shape);
  const row = el("div", { className: "layer" },
    el("h4", {}, ...title, el("span", { className: "note" }, ` scale ±${Number(scale.toPrecision(2))}`)));
  const figures = el("div", { className: "figures" });
  if (H * W === 1) {
    const columns = Math.min(F, 30), rows = Math.ceil(F / columns);
    const box = chosen ? [[Math.floor(chosen.f / columns), chosen.f % columns, 1, 1]] : [];
    figures.append(mapFigure(values, rows, columns, {
      scale, cell: F <= 20 ? 24 : 12, boxes: box, label: `${F} units`,
      pick: (i, j) => i * columns + j < F && choose(i * columns + j, 0, 0),
    }));
    if (names) figures.append(el("span", { className: "note" }, names.join(" · ")));
  } else
    for (let f = 0; f < F; f++)
      figures.append(mapFigure(values.subarray(f * H * W, (f + 1) * H * W), H, W, {
        scale, cell: Math.max(2, Math.round(70 / Math.max(H, W))),
        boxes: chosen?.f === f ? [[chosen.i, chosen.j, 1, 1]] : [],
        label: `Map ${f}`, pick: (i, j) => choose(f, i, j),
      }));
  row.append(figures);
  return row;
}

/** The maps of the input and of every layer; `unit` is marked. */
function forwardMaps({ network, passes, x }, unit, choose) {
  const [C, H, W] = network.input;
  const maps = [mapRow([el("b", {}, "input"), ` ${C}×${H}×${W}`], x, network.input, largest(x), null,
    () => {})];
  network.layers.forEach((layer, l) => {
    const y = passes[l].y, names = l === network.layers.length - 1 ? network.classes : null;
    maps.push(mapRow(layerTitle(layer), y, layer.output, largest(y), unit?.l === l ? unit : null,
      (f, i, j) => choose({ l, f, i, j }), names));
  });
  return maps;
}

/** Fields that choose layer, map, row and column; all of them work with the keyboard. */
function unitFields(network, unit, choose) {
  const [F, H, W] = asMaps(network.layers[unit.l].output);
  const layers = el("select", {
    onchange: (event) => choose({ l: Number(event.target.value), f: 0, i: 0, j: 0 }),
  }, ...network.layers.map((layer, l) => el("option", { value: l, selected: l === unit.l }, layer.name)));
  const fields = [el("label", {}, "layer ", layers),
    integerField(H * W === 1 ? "unit" : "map", unit.f, 0, F - 1, (f) => choose({ ...unit, f }))];
  if (H * W > 1)
    fields.push(integerField("row", unit.i, 0, H - 1, (i) => choose({ ...unit, i })),
      integerField("column", unit.j, 0, W - 1, (j) => choose({ ...unit, j })));
  const back = button("▲ maps", (event) => event.target.closest(".split").scrollIntoView(),
    { className: "narrow" });
  return el("form", { className: "fields", onsubmit: () => false }, ...fields, back);
}

/** The pixels of the input that a unit depends on: [top, left, height, width]. */
function receptiveField(network, { l, i, j }) {
  let rows = [i, i], columns = [j, j];
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
  return poolingWindow(layer, c, i, j).map((pixel) => (pixel < 0 ? 0 : x[pixel]));
}

/** The box of the patch (i,j) on the input of a layer. */
function patchBox(layer, i, j) {
  const at = (k, axis) => k * layer.stride[axis] - layer.padding[axis];
  const extent = (axis) => (layer.kernel[axis] - 1) * layer.dilation[axis] + 1;
  return [at(i, 0), at(j, 1), extent(0), extent(1)];
}

/** The weights of filter f for channel c, in row order. */
function kernelOf(layer, values, f, c) {
  const area = layer.kernel[0] * layer.kernel[1], C = layer.input[0];
  return values.subarray((f * C + c) * area, (f * C + c + 1) * area);
}
