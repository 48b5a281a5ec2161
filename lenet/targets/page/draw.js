// The view "Draw": a drawing surface, examples, and the whole network at work.
"use strict";

const PEN = 22; // pixels of the drawing surface of 280, as wide as MNIST's strokes
const FIRST = 8; // the digit that is shown first: LeNet-5 is almost sure
const SIDE = 280;

/** Draw 28×28 levels of grey on a canvas. */
function drawGrey(canvas, levels) {
  const context = canvas.getContext("2d"),
    image = context.createImageData(28, 28);
  levels.forEach((v, k) => image.data.set([v, v, v, 255], 4 * k));
  context.putImageData(image, 0, 0);
}

function greyFigure(levels, size) {
  return el("canvas", {
    width: 28,
    height: 28,
    "aria-hidden": "true",
    style: { width: `${size}rem`, height: `${size}rem` },
    draw: (node) => node.levels !== levels && drawGrey(node, (node.levels = levels)),
  });
}

/**
 * The drawing: an example or an empty surface, and strokes over it. changed() is called for every new
 * image. A drawing is { digit, strokes: [[x, y, x, y, …], …] }, from which it can be drawn again.
 */
function drawingOf(state, changed) {
  const pad = document.getElementById("pad"),
    context = pad.getContext("2d", { willReadFrequently: true });
  const { labels, images } = state.network.examples,
    bytes = bytesOf(images);
  const examples = labels.map((label, k) => ({ label, levels: bytes.slice(784 * k, 784 * (k + 1)) }));
  const pen = { x: 140, y: 60, down: false },
    pointers = new Map();
  let drawing = { digit: null, strokes: [] },
    waiting = 0;

  function line([x, y, X, Y]) {
    Object.assign(context, { lineWidth: PEN, lineCap: "round", strokeStyle: "#fff" });
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(X, Y);
    context.stroke();
  }

  /** Draw everything again. */
  function redraw({ digit, strokes }) {
    drawing = { digit, strokes };
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIDE, SIDE);
    const example = examples.find(({ label }) => label === digit);
    if (example) {
      const small = document.createElement("canvas");
      small.width = small.height = 28;
      drawGrey(small, example.levels);
      context.drawImage(small, 0, 0, SIDE, SIDE);
    }
    for (const stroke of strokes)
      for (let k = 0; k + 1 < stroke.length; k += 2)
        line([
          ...stroke.slice(k, k + 2),
          ...(k + 3 < stroke.length ? stroke.slice(k + 2, k + 4) : stroke.slice(k, k + 2)),
        ]);
    take();
  }

  /** Make the drawing the network's image. */
  function take() {
    cancelAnimationFrame(waiting);
    waiting = 0;
    const example = examples.find(({ label }) => label === drawing.digit),
      [h, w] = state.network.size;
    state.digit = drawing.strokes.length ? null : drawing.digit;
    state.drawing = drawing;
    if (example && state.digit !== null && h === 28 && w === 28)
      state.image = Float64Array.from(example.levels);
    else {
      const pixels = context.getImageData(0, 0, SIDE, SIDE).data,
        ink = new Float64Array(SIDE * SIDE);
      for (let k = 0; k < ink.length; k++) ink[k] = pixels[4 * k] / 255;
      state.image = normalised(ink, SIDE, SIDE, state.network.size);
    }
    state.empty = !state.image.some((v) => v > 0);
    changed();
  }

  /** Take the drawing with the next frame, so that a stroke costs one forward pass for each. */
  function takeSoon() {
    waiting ||= requestAnimationFrame(take);
  }

  function begin(stroke) {
    if (!drawing.strokes.length) state.label = null; // what was drawn is not known any more
    drawing = { digit: drawing.digit, strokes: [...drawing.strokes, stroke] };
    line([...stroke.slice(-2), ...stroke.slice(-2)]);
  }

  function place(event) {
    const box = pad.getBoundingClientRect(),
      round = (v) => Math.round(10 * v) / 10;
    return [
      round(((event.clientX - box.left) / box.width) * SIDE),
      round(((event.clientY - box.top) / box.height) * SIDE),
    ];
  }

  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    const stroke = place(event); // each finger draws its own stroke
    pointers.set(event.pointerId, stroke);
    begin(stroke);
    takeSoon();
  });
  pad.addEventListener("pointermove", (event) => {
    const stroke = pointers.get(event.pointerId);
    if (!stroke) return;
    const parts = event.getCoalescedEvents?.() ?? []; // the places since the last event
    for (const part of parts.length ? parts : [event]) {
      const next = place(part);
      line([...stroke.slice(-2), ...next]);
      stroke.push(...next);
    }
    takeSoon();
  });
  for (const end of ["pointerup", "pointercancel"])
    pad.addEventListener(end, (event) => {
      if (pointers.delete(event.pointerId)) take();
    });

  pad.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) begin([pen.x, pen.y]);
    } else if (event.key === "Delete") clear();
    else if (step) {
      const from = [pen.x, pen.y],
        inside = (v) => Math.min(Math.max(v, 15), 265);
      Object.assign(pen, { x: inside(pen.x + step[0]), y: inside(pen.y + step[1]) });
      if (pen.down) {
        if (!drawing.strokes.length) begin(from);
        drawing.strokes.at(-1).push(pen.x, pen.y);
        line([...from, pen.x, pen.y]);
      }
    } else return;
    event.preventDefault();
    showPen();
    if (pen.down || event.key === " ") takeSoon();
  });
  pad.addEventListener("focus", showPen);
  pad.addEventListener("blur", () => (document.getElementById("pen").hidden = true));

  /** The place of the pen for the keyboard: a ring while it is raised, filled while it is down. */
  function showPen() {
    const mark = document.getElementById("pen");
    mark.hidden = false;
    mark.className = pen.down ? "down" : "";
    Object.assign(mark.style, { left: `${(100 * pen.x) / SIDE}%`, top: `${(100 * pen.y) / SIDE}%` });
    pad.setAttribute(
      "aria-label",
      t(pen.down ? "penDown" : "penUp", Math.round(pen.x / 2.8), Math.round(pen.y / 2.8)),
    );
  }

  function clear() {
    pen.down = false;
    state.label = null;
    redraw({ digit: null, strokes: [] });
  }

  function showDigit(digit) {
    if (!examples.some(({ label }) => label === digit)) return;
    state.label = digit < state.network.classes.length ? digit : null;
    redraw({ digit, strokes: [] });
  }

  return { redraw, clear, show: showDigit, examples };
}

/** What the network says, or that nothing is drawn. */
function answerFigure(state) {
  if (state.empty)
    return [el("b", {}, t("nothingDrawn")), el("span", { class: "note" }, ` ${t("drawHere")}`)];
  const { p } = state.loss,
    best = argmax(p);
  return [
    el("b", {}, state.network.classes[best]),
    el("span", {}, ` ${t("withProbability", percent(p[best]))}`),
  ];
}

function drawView(state, drawing, choose) {
  return () => {
    show(document.getElementById("answer"), answerFigure(state));
    show(
      document.getElementById("draw-texts"),
      el("p", { class: "fields" }, button(t("clear"), drawing.clear, { id: "clear" })),
      el(
        "div",
        { id: "examples", role: "group", "aria-label": t("examples") },
        ...drawing.examples.map(({ label, levels }) =>
          button(
            greyFigure(levels, 2.2),
            () => {
              drawing.show(label);
              state.setAddress();
            },
            { "aria-label": t("exampleOf", label), "aria-pressed": String(state.digit === label) },
          ),
        ),
      ),
      el("p", { class: "note", id: "pad-keys" }, t("padKeys")),
    );
    show(
      document.getElementById("live"),
      el("p", { class: "lead" }, t("drawLead")),
      state.empty ? el("p", { class: "note" }, t("emptyNetwork")) : null,
      diagramFigure(state, {
        height: 400,
        values: (l) => (l < 0 ? state.x : state.passes[l].y),
        scaleOf: (l) => state.scales[l + 1],
        choose,
        label: t("valueOf"),
      }),
      el("p", { class: "note" }, t("drawNote", state.milliseconds.toFixed(1))),
    );
  };
}
