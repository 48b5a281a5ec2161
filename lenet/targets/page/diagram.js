// The network as one connected diagram from left to right: the input, every layer's maps, and the
// probabilities. It shows the numbers of the forward pass, or ∂E/∂ of each.
"use strict";

const BARS = 150; // pixels of the bars beside the scores

/**
 * Where the maps of every layer stand: [{ l, left, width, maps: [{ top, left, width, height }] }]. The
 * layers are as far apart as the width has room for.
 */
function diagramLayout(network, height, room) {
  const columns = [];
  let left = 0;
  for (let l = -1; l < network.layers.length; l++) {
    const [F, H, W] = shapeOf(network, l),
      most = Math.max(H, W),
      last = l === network.layers.length - 1;
    const gap = height < 300 ? 2 : 4,
      maps = [];
    if (H * W === 1) {
      // A vector is one figure of `across` columns; the scores stand one below the other.
      const across = last ? 1 : Math.ceil((F * Math.max(height / 45, 4)) / height),
        down = Math.ceil(F / across);
      const cell = Math.min(height / down, height / (last ? 10 : 25));
      maps.push({
        left: 0,
        top: (height - cell * down) / 2,
        width: across * cell,
        height: down * cell,
        rows: down,
        columns: across,
      });
    } else {
      const longest =
        l < 0
          ? height / (F + 4.5)
          : Math.min(height / F - gap, 0) ||
            height * (most > 20 ? 0.145 : most > 11 ? 0.11 : most > 7 ? 0.1 : 0.08);
      const wide = (longest * W) / most,
        high = (longest * H) / most;
      const down = Math.max(1, Math.min(F, Math.floor((height + gap) / (high + gap)))),
        across = Math.ceil(F / down),
        used = Math.ceil(F / across);
      for (let f = 0; f < F; f++)
        maps.push({
          left: Math.floor(f / used) * (wide + gap),
          top: (height - used * (high + gap) + gap) / 2 + (f % used) * (high + gap),
          width: wide,
          height: high,
          rows: H,
          columns: W,
        });
    }
    const width = Math.max(...maps.map((map) => map.left + map.width));
    columns.push({ l, width, maps, title: l < 0 ? t("input") : network.layers[l].name });
  }
  const filled = columns.reduce((sum, { width }) => sum + width, 0);
  const gap = Math.min(Math.max((room - filled) / columns.length, 14), 80);
  for (const column of columns) {
    column.left = left;
    left += column.width + gap;
  }
  return { columns, width: left, height };
}

/** The place of a unit's figure in the layout, and the part of it that a box [top, left, height, width] covers. */
function placeOf(layout, network, l, f, [top, left, high, wide]) {
  const column = layout.columns[l + 1],
    [, H, W] = shapeOf(network, l);
  const map = column.maps[H * W === 1 ? 0 : f];
  const [row, at, h, w] =
    H * W === 1 ? [Math.floor(f / map.columns), f % map.columns, 1, 1] : [top, left, high, wide];
  const x = column.left + map.left + (map.width * at) / map.columns,
    y = map.top + (map.height * row) / map.rows;
  return { x, y, right: x + (map.width * w) / map.columns, bottom: y + (map.height * h) / map.rows };
}

/** Lines from the window of every unit on the path to the unit, and from the whole of a layer to the next. */
function connections(state, layout) {
  const { network, path } = state,
    lines = [];
  for (let l = 0; l < network.layers.length; l++) {
    const from = layout.columns[l],
      to = layout.columns[l + 1];
    const span = ({ maps }) => [
      Math.min(...maps.map((m) => m.top)),
      Math.max(...maps.map((m) => m.top + m.height)),
    ];
    const [a, b] = span(from),
      [c, d] = span(to),
      x = from.left + from.width + 2,
      X = to.left - 2;
    lines.push(el("polygon", { class: "band", points: `${x},${a} ${X},${c} ${X},${d} ${x},${b}` }));
  }
  for (let l = 0; l < network.layers.length; l++) {
    const unit = path[l + 1],
      layer = network.layers[l],
      source = path[l];
    const box = layer.kernel ? patchBox(layer, unit.i, unit.j) : [source.i, source.j, 1, 1];
    const from = placeOf(layout, network, l - 1, source.f, box),
      to = placeOf(layout, network, l, unit.f, [unit.i, unit.j, 1, 1]);
    const chosen = l === state.unit.l || l === state.unit.l + 1 ? "ray chosen" : "ray";
    lines.push(
      el("path", {
        class: chosen,
        d: `M${from.right} ${from.y}L${to.x} ${to.y}M${from.right} ${from.bottom}L${to.x} ${to.bottom}`,
      }),
    );
  }
  return lines;
}

/**
 * The diagram of a state; values(l) are a layer's numbers, of which scaleOf(l) is the largest colour.
 * choose(unit) is called for a click, state.touch(unit) for what is hovered or focused.
 */
function diagramFigure(state, { height, values, scaleOf, choose, label }) {
  const { network } = state,
    large = screenSize.magnification;
  const layout = diagramLayout(network, Math.round(height * large), roomFor(state.view) - BARS * large);
  const focus = state.hover ?? state.unit,
    marks = marksOf(state, focus),
    p = state.loss.p;
  const columns = layout.columns.map(({ l, left, width, maps, title }) => {
    const [F, H, W] = shapeOf(network, l),
      numbers = values(l),
      scale = scaleOf(l);
    const here = focus.l === l ? focus : state.path[l + 1];
    const figures = maps.map((map, f) => {
      const vector = H * W === 1;
      const unit = (i, j) =>
        vector ? { l, f: Math.min(i * map.columns + j, F - 1), i: 0, j: 0 } : { l, f, i, j };
      const boxes = vector
        ? Object.entries(marks).flatMap(([key, list]) => {
            const [layer, k] = key.split("/").map(Number);
            return layer === l
              ? list.map(([, , , , kind]) => [Math.floor(k / map.columns), k % map.columns, 1, 1, kind])
              : [];
          })
        : (marks[`${l}/${f}`] ?? []);
      const at = vector
        ? [Math.floor(here.f / map.columns), here.f % map.columns]
        : here.f === f
          ? [here.i, here.j]
          : [0, 0];
      const name = vector ? `${title}: ${t("units", F)}` : l < 0 ? title : `${title} ${t("map", f)}`;
      const turn = vector
        ? null
        : (by) => {
            const next = { l, f: Math.min(Math.max(here.f + by, 0), F - 1), i: here.i, j: here.j };
            state.touch(next);
            document.querySelector(`#${state.view}-view [data-cell="${l}/${next.f}"]`)?.focus();
          };
      return el(
        "div",
        { class: "placed", style: { left: `${map.left}px`, top: `${map.top}px` } },
        mapFigure(vector ? numbers : numbers.subarray(f * H * W, (f + 1) * H * W), map.rows, map.columns, {
          scale,
          width: map.width,
          height: map.height,
          boxes,
          at,
          turn,
          label: `${label} ${name}, ${map.rows}×${map.columns}`,
          pick: (i, j) => choose(unit(i, j)),
          hover: (i, j) => state.touch(i === null ? null : unit(i, j)),
          tabIndex: vector || f === here.f ? 0 : -1,
          cell: `${l}/${vector ? 0 : f}`,
        }),
      );
    });
    return el(
      "div",
      { class: "column", style: { left: `${left}px`, width: `${width}px`, height: `${layout.height}px` } },
      el(
        "span",
        { class: "title", title: titleOf(network, l, scale), style: { top: l % 2 ? "-2.1em" : "-1em" } },
        title.replace(".activation", " " + t("activationShort")),
      ),
      ...figures,
    );
  });
  const scores = layout.columns.at(-1),
    map = scores.maps[0],
    cell = map.height / map.rows,
    best = argmax(p);
  const answers = Array.from(p, (v, k) =>
    el(
      "li",
      {
        class: k === best ? "best" : null,
        style: { top: `${map.top + k * cell}px`, height: `${cell}px`, lineHeight: `${cell}px` },
      },
      el("b", {}, network.classes[k]),
      el("span", { class: "track" }, el("span", { class: "bar", style: { width: `${100 * v || 0}%` } })),
      el("span", { class: "value" }, percent(v)),
    ),
  );
  return el(
    "div",
    { class: "scroll diagram", tabindex: 0, role: "region", "aria-label": label },
    el(
      "div",
      { class: "inside", style: { width: `${layout.width + BARS * large}px`, height: `${layout.height}px` } },
      el(
        "svg",
        { width: layout.width, height: layout.height, "aria-hidden": "true" },
        ...connections(state, layout),
      ),
      ...columns,
      el(
        "ol",
        {
          id: "probabilities",
          style: { left: `${scores.left + scores.width + 6}px`, width: `${(BARS - 15) * large}px` },
          "aria-label": t("probabilities"),
        },
        ...answers,
      ),
    ),
  );
}

/** The width that a view has for the diagram. */
function roomFor(view) {
  const rem = 16 * screenSize.magnification,
    width = Math.min(screenSize.width, 100 * rem) - 2.2 * rem;
  return view === "draw" && width > 56 * rem ? width - 17 * rem : width;
}

/** Kind, size and scale of a layer. */
function titleOf(network, l, scale) {
  const text = t("scaleOf", Number(scale.toPrecision(2)));
  if (l < 0) return `${t("input")} ${network.input.join("×")}, ${text}`;
  const layer = network.layers[l];
  return `${layer.name}: ${TEXTS[layer.type] ? t(layer.type) : layer.type} ${layer.kernel?.join("×") ?? ""} ${layer.output.join("×")}, ${text}`;
}
