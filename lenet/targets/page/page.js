// The page: its state, its addresses, and which view is shown.
//
// An address is #view, or #view/layer/map/row/column for a unit, with /matrix at the end for the
// matrix view; ?digit=3 takes an example, and &label=8 another label than its own.
// #im2col/H/W/C/k/s/p has the sizes of the small image.
"use strict";

const VIEWS = ["draw", "forward", "backward", "im2col"];

function start() {
  const network = networkOf(JSON.parse(document.getElementById("network").textContent));
  const state = {
    network, view: "draw", channel: 0, matrix: false, label: 0, rate: 0.01, history: [], before: null,
    sliding: 0, // the timer of the sliding window
    digit: FIRST, // the example that is shown, or null
    unit: { l: 0, f: 0, i: 0, j: 0 },
  };
  const [, Ho, Wo] = asMaps(network.layers[0].output);
  state.unit = { l: 0, f: 0, i: Math.floor(Ho / 2), j: Math.floor(Wo / 2) };

  /** Compute everything again for the image, the label and the weights, and show it. */
  function compute() {
    state.x = inputOf(state.network, state.image);
    const begun = performance.now();
    state.passes = forward(state.network, state.x);
    state.milliseconds = performance.now() - begun;
    state.loss = crossEntropy(state.passes[state.passes.length - 1].y, state.label);
    if (state.view === "backward")
      state.gradients = backward(state.network, state.passes, state.loss.dz);
    if (state.history.length) {
      const passes = forward(state.history[0], state.x);
      state.before = crossEntropy(passes[passes.length - 1].y, state.label);
    } else state.before = null;
    views?.[state.view]();
  }

  /** The address of what is shown: of the unit, and of the example and the label. */
  function setAddress() {
    const { view, digit, label, matrix } = state, { l, f, i, j } = state.unit;
    const name = encodeURIComponent(state.network.layers[l].name);
    const unit = state.chosen && ["forward", "backward"].includes(view)
      ? `/${name}/${f}/${i}/${j}${matrix ? "/matrix" : ""}` : "";
    const query = [...(digit === FIRST ? [] : [`digit=${digit}`]), ...(label === digit ? [] : [`label=${label}`])];
    const address = `#${view}${unit}${query.length && digit !== null ? `?${query.join("&")}` : ""}`;
    // Not while the window slides: Safari refuses more than 100 addresses in half a minute.
    if (!state.sliding && address !== location.hash) history.replaceState(null, "", address);
  }
  state.setAddress = setAddress;

  /** Choose a unit, and give it an address. */
  function choose(unit) {
    state.unit = unit;
    state.chosen = true;
    const focused = focusPlace();
    setAddress();
    views[state.view]();
    focused();
    if (!state.sliding) showUnit();
  }

  /** Scroll to the chosen unit where it stands below the maps. */
  function showUnit() {
    const panel = document.getElementById(`${state.view}-unit`)?.closest(".unit");
    if (panel?.getBoundingClientRect().top > window.innerHeight - 60) panel.scrollIntoView();
  }

  /** Return a function that focuses the field that has the focus now, once it is drawn again. */
  function focusPlace() {
    const fields = () => [...document.querySelectorAll(`#${state.view}-view :is(input, select, button)`)];
    const place = fields().indexOf(document.activeElement);
    return () => place >= 0 && fields()[place]?.focus({ preventScroll: true });
  }

  /** Choose another label, take a step of gradient descent, or go back to where it began. */
  function change({ label, step, undo }) {
    const focused = focusPlace();
    if (label !== undefined) {
      state.label = label;
      setAddress();
    }
    if (step !== undefined) {
      state.history.push(state.network);
      state.network = descend(state.network, state.gradients, step);
    }
    if (undo) state.network = state.history.pop();
    compute();
    focused();
  }

  /** Show what the address names. */
  function follow() {
    const [path, query] = location.hash.slice(1).split("?");
    const [view, name, f, i, j, mode] = path.split("/");
    const given = new URLSearchParams(query), before = state.view;
    state.view = VIEWS.includes(view) ? view : "draw";
    if (state.view !== before) window.scrollTo(0, 0);
    const l = state.network.layers.findIndex((layer) => encodeURIComponent(layer.name) === name);
    if (l >= 0) {
      const inside = (text, count) => Math.min(Math.max(Math.floor(Number(text)) || 0, 0), count - 1);
      const [F, Ho, Wo] = asMaps(state.network.layers[l].output);
      state.unit = { l, f: inside(f, F), i: inside(i, Ho), j: inside(j, Wo) };
      state.matrix = mode === "matrix";
      state.chosen = true;
    }
    if (given.has("digit")) draw.show(Number(given.get("digit")));
    const label = Number(given.get("label") ?? NaN);
    if (label in state.network.classes) state.label = label;
    if (view === "im2col" && name) im2col.resize(path.split("/").slice(1).map(Number));
    for (const each of VIEWS) document.getElementById(`${each}-view`).hidden = each !== state.view;
    for (const link of document.querySelectorAll("#views a")) {
      if (link.hash === `#${state.view}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    compute();
    if (l >= 0 && name) showUnit();
  }

  const visit = ({ l, f, i, j }) => (location.hash = `#forward/${encodeURIComponent(network.layers[l].name)}/${f}/${i}/${j}`);
  let views = null;
  const draw = drawView(state, compute, visit), im2col = im2colView();
  views = {
    draw: draw.render,
    forward: forwardView(state, choose),
    backward: backwardView(state, choose, change),
    im2col: im2col.render,
  };
  drawMap(document.getElementById("legend"), Array.from({ length: 101 }, (_, k) => k / 50 - 1), 1, 101, 1);
  window.addEventListener("hashchange", follow);
  follow();
}

start();
