// The view "Draw": a drawing surface, examples, what the network sees, the probabilities, and the
// maps of all layers, live.
"use strict";

const PEN = 22; // pixels of the drawing surface of 280, as wide as MNIST's strokes
const FIRST = 8; // the digit that is shown first: LeNet-5 is almost sure

/** A canvas of 28×28 levels of grey. */
function greyCanvas(levels) {
  const canvas = el("canvas", { width: 28, height: 28 });
  const context = canvas.getContext("2d"), image = context.createImageData(28, 28);
  levels.forEach((v, k) => image.data.set([v, v, v, 255], 4 * k));
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * { render, show }: show(digit) takes the example of a digit. changed() is called for every new
 * image, choose(unit) for a click on a map.
 */
function drawView(state, changed, choose) {
  const pad = document.getElementById("pad");
  const context = pad.getContext("2d", { willReadFrequently: true });
  const cursor = { x: 140, y: 60, down: false };

  function clear() {
    context.fillStyle = "#000";
    context.fillRect(0, 0, pad.width, pad.height);
    take();
  }

  /** Make the drawing the network's image. */
  function take() {
    const pixels = context.getImageData(0, 0, pad.width, pad.height).data;
    state.digit = null;
    const ink = Float64Array.from({ length: pad.width * pad.height }, (_, k) => pixels[4 * k] / 255);
    state.image = normalised(ink, pad.height, pad.width, state.network.size);
    changed();
  }

  function line(from, to) {
    Object.assign(context, { lineWidth: PEN, lineCap: "round", strokeStyle: "#fff" });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }

  function place(event) {
    const box = pad.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * pad.width,
      y: ((event.clientY - box.top) / box.height) * pad.height,
    };
  }

  let last = null;
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
    take();
    state.setAddress();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!last) return;
    const parts = event.getCoalescedEvents?.() ?? []; // the places since the last event
    for (const part of parts.length ? parts : [event]) {
      const next = place(part);
      line(last, next);
      last = next;
    }
    take();
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (last = null));

  pad.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (event.key === " ") cursor.down = !cursor.down;
    else if (event.key === "Delete") clear();
    else if (step) {
      const inside = (v) => Math.min(Math.max(v, 15), 265);
      const next = { x: inside(cursor.x + step[0]), y: inside(cursor.y + step[1]) };
      if (cursor.down) line(cursor, next);
      Object.assign(cursor, next);
    } else return;
    event.preventDefault();
    if (cursor.down) line(cursor, cursor);
    take();
    pad.setAttribute("aria-label", `Drawing surface, pen ${cursor.down ? "down" : "up"} at ` +
      `${Math.round(cursor.x / 2.8)}, ${Math.round(cursor.y / 2.8)} percent`);
  });
  document.getElementById("clear").addEventListener("click", clear);

  // An example is drawn on the surface, and can be drawn over.
  function showExample(levels) {
    context.drawImage(greyCanvas(levels), 0, 0, pad.width, pad.height);
    if (state.network.size[0] !== 28 || state.network.size[1] !== 28) return take();
    state.image = Float64Array.from(levels);
    changed();
  }
  const { labels, images } = state.network.examples, bytes = bytesOf(images);
  const examples = labels.map((label, k) => ({ label, levels: bytes.slice(784 * k, 784 * (k + 1)) }));
  const show = (digit) => {
    const example = examples.find(({ label }) => label === digit);
    if (!example) return;
    if (digit < state.network.classes.length) state.label = digit;
    showExample(example.levels);
    state.digit = digit;
  };
  document.getElementById("examples").append(...examples.map((example) => el("button", {
    type: "button", "aria-label": `Example of a ${example.label}`, onclick: () => {
      show(example.label);
      state.setAddress();
    },
  }, greyCanvas(example.levels))));
  show(FIRST);

  const render = () => {
    const { network, x, passes, milliseconds } = state;
    const [C, H, W] = network.input;
    document.getElementById("seen").replaceChildren(mapFigure(x.subarray(0, H * W), H, W, {
      scale: largest(x), cell: Math.max(2, Math.floor(224 / Math.max(H, W))),
      label: `The input of the network, ${H}×${W} pixels`,
    }), el("p", { className: "note" }, `Input ${C}×${H}×${W}` +
      (C > 1 ? ", the same in every channel" : "")));
    const p = softmax(passes[passes.length - 1].y);
    document.getElementById("probabilities").replaceChildren(bars(network, p));
    const best = argmax(p);
    document.getElementById("answer").replaceChildren(el("b", {}, network.classes[best]),
      ` with p = ${number(p[best], 4)}`);
    document.getElementById("live").replaceChildren(...forwardMaps(state, null, choose));
    document.getElementById("time").textContent =
      `Forward pass: ${milliseconds.toFixed(1)} ms in this browser.`;
  };
  return { render, show };
}
