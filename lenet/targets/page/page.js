// The page: its state, its addresses, and which view is shown.
//
// An address is #view, or #view/layer/map/row/column for a unit, with /matrix at the end for the
// matrix view; ?digit=3 takes an example, and &label=8 another label than its own.
// #im2col/H/W/C/k/s/p has the sizes of the small image; #tour/5 is a step of the tour.
"use strict";

const VIEWS = ["draw", "forward", "backward", "im2col", "train"];
const MEMORY = "lenet play"; // what a reload keeps: drawing, label, steps, language

function start() {
  const fail = (key) =>
    show(document.getElementById("notice"), el("p", { role: "alert", class: "banner" }, t(key)));
  const remembered = recall();
  setLanguage(remembered.language);
  if (!document.createElement("canvas").getContext?.("2d")) return fail("noCanvas");
  const network = networkOf(JSON.parse(document.getElementById("network").textContent));
  if (!network.layers.every(({ W, b }) => !W || (W.every(Number.isFinite) && b.every(Number.isFinite))))
    return fail("notFinite");
  format.plain = !!remembered.plain;

  const state = {
    network,
    base: network,
    view: "draw",
    channel: 0,
    matrix: false,
    label: null,
    rate: 0.01,
    before: null,
    tour: 0,
    notice: "",
    steps: remembered.steps ?? [], // of gradient descent: { image, drawing, label, rate }
    sliding: 0, // the timer of the sliding window
    digit: FIRST, // the example that is shown, or null
    unit: null,
    hover: null,
    path: [],
    touch,
    setAddress,
  };
  const [, Ho, Wo] = asMaps(network.layers[0].output);
  state.unit = { l: 0, f: 0, i: Math.floor(Ho / 2), j: Math.floor(Wo / 2) };

  // --- Computing ------------------------------------------------------------------------------

  /** The network after the steps. */
  function descended(steps) {
    return steps.reduce((network, { image, label, rate }) => {
      const passes = forward(network, inputOf(network, image));
      return descend(network, backward(network, passes, crossEntropy(passes.at(-1).y, label).dz), rate);
    }, state.base);
  }

  /** Take other weights: with them come other scales of colours, which hold for all images. */
  function setNetwork(network) {
    state.network = network;
    const images = drawing.examples.map(({ levels }) =>
      inputOf(
        network,
        network.size[0] === 28 && network.size[1] === 28
          ? levels
          : new Float64Array(size(network.size)).fill(128),
      ),
    );
    const all = images.map((x) => [x, ...forward(network, x).map(({ y }) => y)]);
    state.scales = all[0].map((_, l) => rounded(Math.max(...all.map((layers) => largest(layers[l])))));
  }

  /** Compute everything again for the image, the label and the weights, and show it. */
  function compute() {
    state.x = inputOf(state.network, state.image);
    const begun = performance.now();
    state.passes = forward(state.network, state.x);
    state.milliseconds = performance.now() - begun;
    const z = state.passes.at(-1).y,
      known = state.label !== null && !state.empty;
    state.loss = known ? crossEntropy(z, state.label) : { p: softmax(z) };
    state.gradients = known ? backward(state.network, state.passes, state.loss.dz) : null;
    state.before =
      known && state.steps.length ? crossEntropy(scores(state.base, state.x), state.label) : null;
    state.path = pathThrough(state, state.unit);
    render();
  }

  let views = null;
  function render() {
    if (!views) return;
    show(document.getElementById("top"), ...topFigure());
    show(document.getElementById("notice"), ...noticeFigure());
    show(document.getElementById("tour"), ...tourFigure(state));
    const follows = !state.empty && ["draw", "forward", "backward"].includes(state.view);
    show(document.getElementById("path"), follows ? pathFigure(state, choose) : []);
    document.getElementById("path").setAttribute("aria-label", t("pathThere"));
    show(
      document.getElementById("origin"),
      `${document.getElementById("origin").dataset.origin}. ${t("footer")}`,
    );
    views[state.view]();
  }

  /** Mark what is hovered or focused, with the next frame. */
  let waiting = 0;
  function touch(unit) {
    if (sameUnit(unit, state.hover) || (!unit && !state.hover)) return;
    state.hover = unit;
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      render();
    });
  }

  // --- Choosing -------------------------------------------------------------------------------

  /** The address of what is shown: of the unit, and of the example and the label. */
  function setAddress() {
    const { view, digit, label, matrix } = state,
      { l, f, i, j } = state.unit;
    if (state.tour && location.hash === `#tour/${state.tour}`) return;
    const name = l < 0 ? "input" : encodeURIComponent(state.network.layers[l].name);
    const unit =
      state.chosen && ["forward", "backward"].includes(view)
        ? `/${name}/${f}/${i}/${j}${matrix ? "/matrix" : ""}`
        : "";
    const query = [
      ...(digit === FIRST || digit === null ? [] : [`digit=${digit}`]),
      ...(label === digit || label === null ? [] : [`label=${label}`]),
    ];
    const address = `#${view}${unit}${query.length ? `?${query.join("&")}` : ""}`;
    // Not while the window slides: Safari refuses more than 100 addresses in half a minute.
    if (!state.sliding && address !== location.hash) history.replaceState(null, "", address);
  }

  /** Choose a unit, and give it an address. The path stays as long as the unit is on it. */
  function choose(unit) {
    if (!sameUnit(unit, state.unit)) state.at = {};
    state.unit = unit;
    state.hover = null;
    state.chosen = true;
    if (!state.path.some((step) => sameUnit(step, unit))) state.path = pathThrough(state, unit);
    setAddress();
    render();
  }

  /** Choose another label, take a step of gradient descent, go back by one, or to the weights of the file. */
  function change({ label, step, undo, reset }) {
    if (label !== undefined) {
      state.label = label;
      setAddress();
    }
    if (step !== undefined) {
      state.steps = [
        ...state.steps,
        { image: Array.from(state.image), drawing: state.drawing, label: state.label, rate: step },
      ];
      setNetwork(descend(state.network, state.gradients, step));
    }
    if (undo) {
      // Back to the image and the label of that step, so that it can be taken with another rate.
      const last = state.steps.at(-1);
      state.steps = state.steps.slice(0, -1);
      setNetwork(descended(state.steps));
      drawing.redraw(last.drawing);
      state.label = last.label;
      setAddress();
    }
    if (reset) {
      state.steps = [];
      state.base = network;
      state.unit = { ...state.unit, l: Math.min(state.unit.l, network.layers.length - 1) };
      clampUnit(network);
      setNetwork(network);
    }
    compute();
  }

  /** Use a network that the page has trained in all views. */
  function takeTrained(trained) {
    state.steps = [];
    state.base = {
      ...network,
      ...trained,
      examples: network.examples,
      digits: network.digits,
      trained: true,
    };
    clampUnit(state.base);
    setNetwork(state.base);
    location.hash = "#draw";
    compute();
  }

  function clampUnit(network) {
    const l = Math.min(state.unit.l, network.layers.length - 1),
      [F, H, W] = shapeOf(network, l);
    state.unit = {
      l,
      f: Math.min(state.unit.f, F - 1),
      i: Math.min(state.unit.i, H - 1),
      j: Math.min(state.unit.j, W - 1),
    };
    state.hover = null;
  }

  // --- Head and notice ------------------------------------------------------------------------

  function topFigure() {
    return [
      el("h1", {}, t("title")),
      el(
        "nav",
        { "aria-label": t("views"), id: "views" },
        ...VIEWS.map((view, k) =>
          el(
            "a",
            { href: `#${view}`, "aria-current": view === state.view ? "page" : null },
            `${k + 1} ${t(view)}`,
          ),
        ),
        el("a", { href: `#tour/${state.tour || 1}`, "aria-current": state.tour ? "step" : null }, t("tour")),
      ),
      el(
        "p",
        { class: "legend" },
        el("span", {}, t("negative")),
        el("canvas", {
          id: "legend",
          role: "img",
          "aria-label": t("legend"),
          draw: (node) =>
            drawMap(
              node,
              Array.from({ length: 101 }, (_, k) => k / 50 - 1),
              1,
              101,
              1,
            ),
        }),
        el("span", {}, t("positive")),
      ),
      checkbox(t("plainNumbers"), format.plain, (on) => {
        format.plain = on;
        render();
      }),
      choice(
        t("language"),
        language,
        LANGUAGES,
        (code) => {
          setLanguage(code);
          render();
        },
        { id: "language" },
      ),
    ];
  }

  function noticeFigure() {
    const changed = state.steps.length || state.base.trained;
    return [
      state.notice && el("p", { class: "banner", role: "alert" }, state.notice),
      changed &&
        state.view !== "train" &&
        el(
          "p",
          { class: "banner", role: "status" },
          state.base.trained ? `${t("trainedHere")} ` : "",
          state.steps.length ? t("weightsChanged", state.steps.length) : "",
          " · ",
          button(t("reset"), () => change({ reset: true }), { id: "reset" }),
        ),
    ];
  }

  // --- Addresses and memory -------------------------------------------------------------------

  /** Show what the address names. */
  function follow() {
    let address = location.hash.slice(1);
    const [, step] = address.match(/^tour\/(\d+)$/) ?? [];
    state.notice = "";
    if (step) {
      state.tour = Math.min(Math.max(Number(step), 1), TOUR.length);
      address = TOUR[state.tour - 1];
    } else if (address === TOUR[state.tour - 1]?.split("?")[0]) state.tour = 0;
    const [path, query] = address.split("?"),
      [view, name, f, i, j, mode] = path.split("/");
    const given = new URLSearchParams(query),
      before = state.view;
    state.view = VIEWS.includes(view) ? view : "draw";
    if (view && view !== state.view) state.notice = t("noSuchView", view);
    if (state.view !== before) window.scrollTo(0, 0);
    if (name && ["forward", "backward"].includes(view)) followUnit(name, [f, i, j], mode);
    if (given.has("digit") || given.has("label")) {
      const digit = Number(given.get("digit") ?? state.digit ?? NaN);
      if (given.has("digit") && digit !== state.digit) {
        if (drawing.examples.some(({ label }) => label === digit)) drawing.show(digit);
        else state.notice = t("noSuchDigit", given.get("digit"));
      }
      const label = Number(given.get("label") ?? NaN);
      if (label in state.network.classes) state.label = label;
      else if (given.has("label")) state.notice = t("noSuchLabel", given.get("label"));
      else if (digit in state.network.classes) state.label = digit;
    }
    if (view === "im2col" && name) im2col.resize(path.split("/").slice(1).map(Number));
    for (const each of VIEWS) document.getElementById(`${each}-view`).hidden = each !== state.view;
    for (const each of VIEWS) document.getElementById(`${each}-view`).setAttribute("aria-label", t(each));
    compute();
  }

  function followUnit(name, numbers, mode) {
    const l =
      name === "input"
        ? -1
        : state.network.layers.findIndex((layer) => encodeURIComponent(layer.name) === name);
    if (l < 0 && name !== "input") return void (state.notice = t("noSuchLayer", name));
    const counts = shapeOf(state.network, l);
    const [f, i, j] = numbers.map((text, k) =>
      Math.min(Math.max(Math.floor(Number(text ?? 0)) || 0, 0), counts[k] - 1),
    );
    if ([f, i, j].some((v, k) => numbers[k] !== undefined && String(v) !== numbers[k]))
      state.notice = t("noSuchUnit", [name, ...numbers].join("/"), ...counts.map((count) => count - 1));
    state.unit = { l, f, i, j };
    state.at = {};
    state.matrix = mode === "matrix";
    state.chosen = true;
  }

  function remember() {
    const { drawing, label, steps } = state;
    try {
      sessionStorage.setItem(
        MEMORY,
        JSON.stringify({ drawing, label, steps: steps.slice(-20), language, plain: format.plain }),
      );
    } catch {
      // Without storage the page starts again after a reload.
    }
  }

  const drawing = drawingOf(state, () => views && compute());
  setNetwork(network);
  if (remembered.drawing) {
    drawing.redraw(remembered.drawing);
    state.label = remembered.label ?? null;
    setNetwork(descended(state.steps));
  } else drawing.show(FIRST);
  const im2col = im2colView();
  const visit = ({ l, f, i, j }) =>
    (location.hash = `#forward/${l < 0 ? "input" : encodeURIComponent(state.network.layers[l].name)}/${f}/${i}/${j}`);
  views = {
    draw: drawView(state, drawing, visit),
    forward: forwardView(state, choose),
    backward: backwardView(state, choose, change),
    im2col: im2col.render,
    train: trainView(state, takeTrained),
  };
  window.addEventListener("hashchange", follow);
  window.addEventListener("pagehide", remember);
  window.addEventListener("resize", () => {
    measureScreen();
    render();
  });
  measureScreen();
  follow();
}

/** What was remembered before a reload; a page that is opened by its address keeps only the language. */
function recall() {
  try {
    const { language, plain, ...rest } = JSON.parse(sessionStorage.getItem(MEMORY)) ?? {};
    const again = performance.getEntriesByType("navigation")[0]?.type !== "navigate";
    return { language, plain, ...(again ? rest : {}) };
  } catch {
    return {};
  }
}

if (typeof document === "undefined") {
  const serve = trainingServer((message) => postMessage(message)); // this is the worker of the view "Train"
  onmessage = ({ data }) => serve(data);
} else start();
