// The view "im2col": a small image, a kernel and dZ to edit, with every number of the three products
// visible. It starts with the running example of docs/derivation.md.
"use strict";

/** { render, resize }: resize takes the sizes H, W, C, k, s and p. */
function im2colView() {
  const given = { H: 3, W: 3, k: 2, s: 1, p: 0, C: 1 };
  const fields = [
    ["H", "rowsH", 2, 7],
    ["W", "columnsW", 2, 7],
    ["C", "channelsC", 1, 3],
    ["k", "kernelK", 1, 4],
    ["s", "strideS", 1, 3],
    ["p", "paddingP", 0, 2],
  ];
  let x, w, dZ, column, added;

  function resize(values) {
    fields.forEach(([name, , min, max], k) => {
      const value = Math.round(values[k]);
      if (Number.isFinite(value)) given[name] = Math.min(Math.max(value, min), max);
    });
    fill();
  }

  function outputSize() {
    const { H, W, k, s, p } = given;
    return [Math.floor((H + 2 * p - k) / s) + 1, Math.floor((W + 2 * p - k) / s) + 1];
  }

  /** Numbers for new sizes: 1, 2, 3 … for the image, 0, 1, 2 … for the kernel, 1, −1, 2, 1 … for dZ. */
  function fill() {
    const { H, W, C, k } = given,
      [Ho, Wo] = outputSize();
    x = Float64Array.from({ length: C * H * W }, (_, q) => (q % 9) + 1);
    w = Float64Array.from({ length: C * k * k }, (_, q) => (q % 5) - (C > 1 ? 1 : 0));
    dZ = Float64Array.from({ length: Math.max(Ho * Wo, 0) }, (_, q) => [1, -1, 2, 1][q % 4]);
    column = 0;
    added = dZ.length;
  }

  function render() {
    const { H, W, k, s, p, C } = given,
      [Ho, Wo] = outputSize();
    show(
      document.getElementById("im2col-sizes"),
      el("p", { class: "lead" }, t("im2colLead")),
      el(
        "div",
        { class: "fields" },
        ...fields.map(([name, label, min, max]) =>
          integerField(t(label), given[name], min, max, (value) => {
            given[name] = value;
            history.replaceState(history.state, "", `#im2col/${fields.map(([key]) => given[key]).join("/")}`);
            fill();
            render();
          }),
        ),
      ),
    );
    const result = document.getElementById("im2col-result");
    if (Ho < 1 || Wo < 1) return show(result, el("p", { role: "alert" }, t("kernelTooLarge")));
    const g = {
      input: [C, H, W],
      output: [1, Ho, Wo],
      kernel: [k, k],
      stride: [s, s],
      dilation: [1, 1],
      padding: [p, p],
    };
    const P = Ho * Wo,
      K = C * k * k,
      colsT = im2col(x, g),
      Z = productT(w, colsT, 1, K, P);
    const cols = Float64Array.from({ length: K * P }, (_, q) => colsT[(q % P) * K + Math.floor(q / P)]);
    const at = [Math.floor(column / Wo), column % Wo];
    show(
      result,
      el(
        "p",
        { class: "formula" },
        `Ho = ⌊(${H} + 2·${p} − ${k})/${s}⌋ + 1 = ${Ho}, Wo = ${Wo}, K = C·k·k = ${K}, P = Ho·Wo = ${P}`,
      ),
      el(
        "div",
        { class: "three" },
        windowPart(g, at),
        forwardPart(g, cols, Z, P, K),
        backwardPart(g, cols, P, K),
      ),
      poolingFigure(x.subarray(0, H * W), { ...g, input: [1, H, W], output: [1, Ho, Wo] }),
    );
  }

  const choose = (q) => {
    column = q;
    render();
  };
  const change = (values) => (k, value) => {
    values[k] = value;
    render();
  };

  /** The image with its padding and the window of the chosen column, the kernel, and dZ beside Z. */
  function windowPart(g, at) {
    const { C, H, W, k, p } = given,
      name = (text, c) => (C > 1 ? `${text}, ${t("channelNumber", c)}` : text);
    return el(
      "div",
      {},
      el("h2", {}, t("windowTitle")),
      ...Array.from({ length: C }, (_, c) =>
        el(
          "div",
          { class: "row" },
          padded(
            x.subarray(c * H * W, (c + 1) * H * W),
            new Set(patchPixels(g, c, ...at).map((q) => (q < 0 ? -1 : q - c * H * W))),
            name("image x", c),
            at,
            p,
            change(x.subarray(c * H * W, (c + 1) * H * W)),
          ),
          numberTable(w.subarray(c * k * k, (c + 1) * k * k), k, k, {
            caption: name(t("kernelW"), c),
            edit: change(w.subarray(c * k * k, (c + 1) * k * k)),
          }),
        ),
      ),
    );
  }

  /** A channel with the padding drawn around it; the cells of the window are marked. */
  function padded(values, marked, name, [i, j], p, edit) {
    const { H, W, s, k } = given;
    const rows = Array.from({ length: H + 2 * p }, (_, r) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, r - p),
        ...Array.from({ length: W + 2 * p }, (_, q) => {
          const h = r - p,
            c = q - p,
            inside = h >= 0 && h < H && c >= 0 && c < W,
            place = h * W + c;
          const window = r >= i * s && r < i * s + k && q >= j * s && q < j * s + k;
          return el(
            "td",
            {
              class: [inside ? "" : "padding", window ? "marked" : ""].join(" ").trim() || null,
              kind: inside ? "field" : "padding",
            },
            !inside
              ? "0"
              : edit
                ? el("input", {
                    type: "number",
                    step: 1,
                    value: values[place],
                    "aria-label": `${name}, ${t("rowColumn", h, c)}`,
                    oninput: (event) => edit(place, Math.round(Number(event.target.value)) || 0),
                  })
                : number(values[place], 0),
          );
        }),
      ),
    );
    return el(
      "table",
      { class: "numbers" },
      el("caption", {}, name),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("td", { class: "empty" }),
          ...Array.from({ length: W + 2 * p }, (_, q) => el("th", { scope: "col" }, q - p)),
        ),
      ),
      el("tbody", {}, ...rows),
    );
  }

  /** W · cols = Z. */
  function forwardPart(g, cols, Z, P, K) {
    const [, Ho, Wo] = g.output,
      terms = Array.from(w, (v, k) => `${factor(v, 0)}·${factor(cols[k * P + column], 0)}`);
    return el(
      "div",
      {},
      el("h2", {}, "W · cols = Z"),
      stepper("column", t("columnField"), column, P - 1, choose),
      el(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "W · cols = Z" },
        columnsTable("cols", cols, K, P, w, Z),
      ),
      el("p", { class: "formula" }, `z = ${terms.join(" + ")} = ${number(Z[column], 0)}`),
      el(
        "div",
        { class: "row" },
        numberTable(Z, Ho, Wo, { caption: "Z", digits: 0, marked: new Set([column]), link: choose }),
        numberTable(dZ, Ho, Wo, { caption: "dZ", named: "dZ", edit: change(dZ) }),
      ),
    );
  }

  /** A patch matrix with the filter as a column beside it, and a row of Z or dZ below. */
  function columnsTable(name, values, K, P, left, below) {
    const mark = (p) => (p === column ? "marked" : null);
    return el(
      "table",
      { class: "numbers" },
      el("caption", {}, `${name} (${K}×${P}), Wᵀ`),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("td", { class: "empty" }),
          el("th", { scope: "col" }, "Wᵀ"),
          ...Array.from({ length: P }, (_, p) =>
            el(
              "th",
              { scope: "col" },
              button(p, () => choose(p), { "aria-label": t("columnNumber", p) }),
            ),
          ),
        ),
      ),
      el(
        "tbody",
        {},
        ...Array.from({ length: K }, (_, k) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, k),
            el("td", { class: "weight" }, number(left[k], 0)),
            ...Array.from({ length: P }, (_, p) =>
              el("td", { class: mark(p) }, number(values[k * P + p], 0)),
            ),
          ),
        ),
        el(
          "tr",
          { class: "sum" },
          el("th", { scope: "row" }, name === "cols" ? "Z" : "dZ"),
          el("td", { class: "empty" }),
          ...Array.from({ length: P }, (_, p) => el("td", { class: mark(p) }, number(below[p], 0))),
        ),
      ),
    );
  }

  /** dW = dZ · colsᵀ, dcols = Wᵀ · dZ and dX = col2im(dcols), with as many columns as are chosen. */
  function backwardPart(g, cols, P, K) {
    const { C, H, W, k, p } = given,
      first = dZ.map((v, q) => (q < added ? v : 0)),
      last = Math.min(Math.max(added - 1, 0), P - 1);
    const dW = product(first, im2col(x, g), 1, P, K),
      dcolsT = Tproduct(dZ, w, P, 1, K);
    const dcols = Float64Array.from({ length: K * P }, (_, q) => dcolsT[(q % P) * K + Math.floor(q / P)]);
    const dX = col2im(dcolsT, g, { patches: added }),
      counts = col2im(new Float64Array(K * P).fill(1), g, { patches: added });
    const at = [Math.floor(last / g.output[2]), last % g.output[2]],
      name = (text, c) => (C > 1 ? `${text}, ${t("channelNumber", c)}` : text);
    const part = (values, c) => values.subarray(c * H * W, (c + 1) * H * W),
      kernel = (values, c) => values.subarray(c * k * k, (c + 1) * k * k);
    return el(
      "div",
      {},
      el("h2", {}, "dW = dZ · colsᵀ, dcols = Wᵀ · dZ, dX = col2im(dcols)"),
      stepper("added", t("columnsAdded"), added, P, (q) => {
        added = q;
        if (q) column = q - 1;
        render();
      }),
      el(
        "p",
        { class: "formula", role: "status" },
        added ? t("im2colStep", last, number(dZ[last], 0)) : t("im2colNothing"),
      ),
      el(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "dcols" },
        columnsTable("dcols", dcols, K, P, w, dZ),
      ),
      ...Array.from({ length: C }, (_, c) =>
        el(
          "div",
          { class: "row" },
          numberTable(kernel(dW, c), k, k, { caption: name("dW", c), digits: 0, scale: largest(dW) }),
          padded(part(dX, c), new Set(), name("dX", c), at, p),
          numberTable(part(counts, c), H, W, {
            caption: name(t("counts"), c),
            digits: 0,
            scale: largest(counts),
          }),
        ),
      ),
    );
  }

  fill();
  return { render, resize };
}

/** Max pooling of a map with the same windows, forward and backward. */
function poolingFigure(x, g) {
  const [, H, W] = g.input,
    [, Ho, Wo] = g.output,
    pass = { x };
  maxPooling.forward(g, pass);
  const gradient = { dy: new Float64Array(pass.y.length).fill(1) };
  maxPooling.backward(g, pass, gradient);
  return el(
    "details",
    { open: true, id: "im2col-pooling" },
    el("summary", {}, t("poolingSame")),
    el("p", { class: "note" }, t("poolingNote")),
    el(
      "div",
      { class: "row" },
      numberTable(x, H, W, { caption: t("xWinners"), digits: 0, marked: new Set(pass.winners) }),
      numberTable(pass.y, Ho, Wo, { caption: "y", digits: 0 }),
      numberTable(gradient.dx, H, W, { caption: "dx", digits: 0, scale: largest(gradient.dx) }),
    ),
  );
}
