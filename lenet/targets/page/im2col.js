// The view "im2col": a small image and kernel to edit, with every number visible.
"use strict";

/** { render, resize }: resize takes the sizes H, W, C, k, s and p. */
function im2colView() {
  const given = { H: 4, W: 4, k: 2, s: 1, p: 0, C: 1, column: 0 };
  const fields = [["H", ["rows H"], 2, 7], ["W", ["columns W"], 2, 7],
    ["C", ["channels C ", zh("通道")], 1, 3], ["k", ["kernel k ", zh("卷积核")], 1, 4],
    ["s", ["stride s ", zh("步长")], 1, 3], ["p", ["padding p ", zh("填充")], 0, 2]];
  let x = [], w = [];

  function resize(values) {
    fields.forEach(([name, , min, max], k) => {
      const value = Math.round(values[k]);
      if (Number.isFinite(value)) given[name] = Math.min(Math.max(value, min), max);
    });
    fill();
  }

  /** Numbers for new sizes: 1, 2, 3 … for the image, 0, 1, 2 … for the kernel. */
  function fill() {
    x = Float64Array.from({ length: given.C * given.H * given.W }, (_, k) => (k % 9) + 1);
    w = Float64Array.from({ length: given.C * given.k * given.k }, (_, k) => (k % 5) - (given.C > 1 ? 1 : 0));
    given.column = 0;
  }

  function render() {
    const { H, W, k, s, p, C } = given;
    document.getElementById("im2col-sizes").replaceChildren(el("div", { className: "fields" },
      ...fields.map(([name, label, min, max]) => integerField(label, given[name], min, max, (value) => {
        given[name] = value;
        history.replaceState(null, "", `#im2col/${fields.map(([key]) => given[key]).join("/")}`);
        fill();
        render();
      }))));
    const result = document.getElementById("im2col-result");
    const Ho = Math.floor((H + 2 * p - k) / s) + 1, Wo = Math.floor((W + 2 * p - k) / s) + 1;
    if (Ho < 1 || Wo < 1) {
      result.replaceChildren(el("p", { role: "alert" }, "The kernel is larger than the padded image: no position fits."));
      return;
    }
    const g = { input: [C, H, W], output: [1, Ho, Wo], kernel: [k, k], stride: [s, s], dilation: [1, 1], padding: [p, p] };
    const P = Ho * Wo, K = C * k * k, cols = im2col(x, g), Z = product(w, cols, 1, K, P);
    given.column = Math.min(given.column, P - 1);
    const at = [Math.floor(given.column / Wo), given.column % Wo];
    const chosen = new Set();
    for (let c = 0; c < C; c++) for (const pixel of poolingWindow(g, c, ...at)) chosen.add(pixel);
    const counts = col2im(new Float64Array(K * P).fill(1), g);
    const back = col2im(cols, g);
    const channel = (values, c) => values.subarray(c * H * W, (c + 1) * H * W);
    const marks = (c) => new Set([...chosen].map((pixel) => pixel - c * H * W).filter((q) => q >= 0 && q < H * W));
    const tables = [];
    for (let c = 0; c < C; c++)
      tables.push(el("div", { className: "row" },
        editable(channel(x, c), H, W, `image x${C > 1 ? `, channel ${c}` : ""}`, marks(c)),
        editable(w.subarray(c * k * k, (c + 1) * k * k), k, k, `kernel w${C > 1 ? `, channel ${c}` : ""}`, new Set())));
    const matrices = [
      el("p", { className: "formula" }, `Ho = ⌊(${H} + 2·${p} − ${k})/${s}⌋ + 1 = ${Ho}, Wo = ${Wo}, K = C·k·k = ${K}, P = Ho·Wo = ${P}`),
      ...tables,
      el("h3", {}, "W · cols = Z"),
      el("div", { className: "fields" }, integerField("column", given.column, 0, P - 1, choose),
        el("span", { className: "note" }, `column ${given.column} is the patch at row ${at[0]}, column ${at[1]} of Z`)),
      el("div", { className: "scroll falk", tabIndex: 0 }, falk(cols, Z, K, P)),
      el("p", { className: "formula" }, equationOf(cols, Z, K, P)),
    ];
    const adjoint = [
      el("h3", {}, "Z as a map, and col2im"),
      el("p", { className: "note" }, "col2im adds every column back onto its patch. The counts say in how many patches a pixel is."),
      ...Array.from({ length: C }, (_, c) => el("div", { className: "row" },
        ...(c ? [] : [numberTable(Z, Ho, Wo, { caption: "Z", digits: 0, marked: new Set([given.column]) })]),
        numberTable(channel(counts, c), H, W, { caption: "col2im of ones: counts", digits: 0, scale: largest(counts) }),
        numberTable(channel(back, c), H, W, { caption: "col2im(im2col(x)) = x · counts", digits: 0 }))),
    ];
    result.replaceChildren(el("div", {}, ...matrices),
      el("div", {}, ...adjoint, ...poolingFigure(channel(x, 0), { ...g, input: [1, H, W] })));
  }

  function choose(column) {
    given.column = column;
    render();
  }

  /** The sum behind the chosen number of Z. */
  function equationOf(cols, Z, K, P) {
    const terms = Array.from(w, (v, k) => `${factor(v, 0)}·${factor(cols[k * P + given.column], 0)}`);
    return `z = ${terms.join(" + ")} = ${number(Z[given.column], 0)}`;
  }

  /** W at the left, cols above Z; a long filter stands as a column beside cols. */
  function falk(cols, Z, K, P) {
    const table = el("table", { className: "numbers" }), long = K > 9, left = long ? 1 : K;
    if (long) table.append(el("caption", {}, "The filter stands beside cols, as Wᵀ."));
    const cell = (row, value, className) => {
      const td = row.insertCell();
      td.textContent = value;
      td.className = className;
    };
    const heads = table.insertRow();
    for (let k = 0; k < left; k++) cell(heads, "", "empty");
    for (let p = 0; p < P; p++) {
      const th = el("th", {}, button(p, () => choose(p), { "aria-label": `Column ${p}` }));
      heads.append(th);
    }
    for (let k = 0; k < K; k++) {
      const row = table.insertRow();
      if (long) cell(row, number(w[k], 0), "marked");
      else for (let m = 0; m < K; m++) cell(row, "", "empty");
      for (let p = 0; p < P; p++) cell(row, number(cols[k * P + p], 0), p === given.column ? "marked" : "");
    }
    const row = table.insertRow();
    if (long) cell(row, "", "empty");
    else for (let k = 0; k < K; k++) cell(row, number(w[k], 0), "marked weight");
    for (let p = 0; p < P; p++) cell(row, number(Z[p], 0), p === given.column ? "marked sum" : "sum");
    return table;
  }

  /** A table whose numbers can be changed. */
  function editable(values, rows, columns, caption, marked) {
    const table = el("table", { className: "numbers" }, el("caption", {}, caption));
    for (let i = 0; i < rows; i++) {
      const row = table.insertRow();
      for (let j = 0; j < columns; j++) {
        const k = i * columns + j, cell = row.insertCell();
        const input = el("input", { type: "number", step: 1, value: values[k], "aria-label": `${caption}, row ${i}, column ${j}` });
        input.addEventListener("change", () => {
          values[k] = Math.round(Number(input.value)) || 0;
          render();
        });
        cell.append(input);
        if (marked.has(k)) cell.classList.add("marked");
      }
    }
    return table;
  }

  document.getElementById("im2col-sizes").addEventListener("submit", (event) => event.preventDefault());
  fill();
  return { render, resize };
}

/** Max pooling of a map with the same windows, forward and backward. */
function poolingFigure(x, g) {
  const [, H, W] = g.input, [, Ho, Wo] = g.output;
  const { y, winners } = maxPooling.forward(g, x), won = new Set(winners);
  const { dx } = maxPooling.backward(g, x, { winners }, new Float64Array(y.length).fill(1));
  return [
    el("h3", {}, "Max pooling ", zh("最大池化"), " with the same windows"),
    el("p", { className: "note" }, "If dy is 1 everywhere, dx counts how often a pixel is the maximum of a window. " +
      "Of equal maxima the first in row order wins."),
    el("div", { className: "row" },
      numberTable(x, H, W, { caption: "x, winners marked", digits: 0, marked: won }),
      numberTable(y, Ho, Wo, { caption: "y", digits: 0 }),
      numberTable(dx, H, W, { caption: "dx", digits: 0, scale: largest(dx) })),
  ];
}
