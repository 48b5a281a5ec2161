// Elements of the page: descriptions of elements, and how they are shown; numbers; colours.
"use strict";

// --- Elements -------------------------------------------------------------------------------

/** The description of an element: its tag, its properties and its children. */
function el(tag, properties = {}, ...children) {
  return { tag, properties, children };
}

/**
 * Make the children of an element those described. What is there already is changed in place, so that
 * it keeps the focus, the place of the pen and the pixels of a canvas; only differences are written.
 */
function show(parent, ...children) {
  const wanted = listed(children);
  let there = parent.firstChild;
  for (const child of wanted) {
    const text = typeof child !== "object";
    const same =
      there &&
      (text ? there.nodeType === 3 : there.localName === child.tag && there.kind === child.properties.kind);
    const node = same ? there : text ? document.createTextNode("") : made(child, parent);
    if (!same) there ? parent.replaceChild(node, there) : parent.append(node);
    if (!text) change(node, child);
    else if (node.data !== String(child)) node.data = child;
    there = node.nextSibling;
  }
  while (there) {
    const next = there.nextSibling;
    there.remove();
    there = next;
  }
}

/** A list of children without lists in it, and without null, undefined and false. */
function listed(children, list = []) {
  for (const child of children)
    if (Array.isArray(child)) listed(child, list);
    else if (child !== null && child !== undefined && child !== false) list.push(child);
  return list;
}

function made({ tag, properties }, parent) {
  const inSvg = tag === "svg" || parent.namespaceURI.endsWith("svg");
  const node = inSvg
    ? document.createElementNS(document.getElementById("namespace").namespaceURI, tag)
    : document.createElement(tag);
  node.kind = properties.kind; // elements of another kind are never changed into this one
  return node;
}

function change(node, { properties, children }) {
  const before = node.shown ?? {};
  for (const name in before) if (!(name in properties)) setProperty(node, name, null, before[name]);
  show(node, ...children); // before the value of a select, which is one of its options
  for (const name in properties)
    if (properties[name] !== before[name] || name === "value" || name === "checked")
      setProperty(node, name, properties[name], before[name]);
  node.shown = properties;
  properties.draw?.(node);
}

function setProperty(node, name, value, before) {
  if (name === "draw" || name === "kind") return;
  if (name === "style") {
    for (const key in before) if (!value || !(key in value)) node.style[key] = "";
    for (const key in value) if (value[key] !== before?.[key]) node.style[key] = value[key];
  } else if (name.startsWith("on")) {
    node[name] ??= (event) => node.shown[name]?.(event); // the function of the latest description
  } else if (name === "value") {
    // A field in which somebody types is left alone until it is left.
    if (node !== document.activeElement || node.localName !== "input" || node.type === "range")
      if (node.value !== String(value)) node.value = value;
  } else if (["hidden", "disabled", "checked", "open", "indeterminate"].includes(name)) node[name] = value;
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

function button(label, click, properties = {}) {
  return el("button", { type: "button", onclick: click, ...properties }, label);
}

/** A field for an integer. */
function integerField(label, value, min, max, changed) {
  return el(
    "label",
    {},
    label,
    " ",
    el("input", {
      type: "number",
      min,
      max,
      step: 1,
      value,
      required: "",
      onchange: (event) => {
        const given = Math.round(Number(event.target.value));
        const inside = Math.min(Math.max(Number.isFinite(given) ? given : min, min), max);
        event.target.value = inside;
        changed(inside);
      },
    }),
  );
}

function choice(label, value, options, changed, properties = {}) {
  return el(
    "label",
    {},
    label,
    " ",
    el(
      "select",
      { ...properties, value, onchange: (event) => changed(event.target.value) },
      ...options.map(([key, text]) => el("option", { value: key }, text)),
    ),
  );
}

function checkbox(label, checked, changed) {
  return el(
    "label",
    {},
    el("input", { type: "checkbox", checked, onchange: (event) => changed(event.target.checked) }),
    " ",
    label,
  );
}

// --- Numbers --------------------------------------------------------------------------------

const format = { plain: false }; // plain numbers in place of percent and "< 0.01"

/** A number with a fixed number of digits; a smaller one as "< 0.01", or by its power of ten. */
function number(v, digits = 2) {
  if (!Number.isFinite(v)) return String(v);
  if (v === 0) return "0";
  const least = 10 ** -digits,
    small = Math.abs(v) < 0.5 * least;
  if (small && !format.plain) return v < 0 ? `> −${least.toFixed(digits)}` : `< ${least.toFixed(digits)}`;
  return (small ? v.toExponential(0) : v.toFixed(digits)).replaceAll("-", "−");
}

/** A probability in percent, or as a plain number. */
function percent(p) {
  if (!Number.isFinite(p)) return String(p);
  if (format.plain) return number(p, 4);
  return p > 0 && p < 1e-4 ? "< 0.01 %" : p < 1 && p > 0.9999 ? "> 99.99 %" : `${(100 * p).toFixed(2)} %`;
}

/** A number that is added to what stands before it. */
function term(v, digits = 3) {
  return (v < 0 ? " − " : " + ") + number(Math.abs(v), digits);
}

/** A number as a factor: in brackets if it is negative. */
function factor(v, digits) {
  return v < 0 ? `(${number(v, digits)})` : number(v, digits);
}

function largest(values) {
  let most = 0;
  for (const v of values) if (Math.abs(v) > most) most = Math.abs(v);
  return most || 1;
}

/** The next round number that is at least v: scales that do not change with every image. */
function rounded(v) {
  const power = 10 ** Math.floor(Math.log10(v));
  return power * [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((step) => step * power >= v * 0.999999);
}

// --- Colours --------------------------------------------------------------------------------
//
// Two colours whose lightness falls from one end to the other, so that they can be distinguished in
// grey: light orange below zero, grey at zero, dark blue above.

const NEGATIVE = [255, 190, 80],
  ZERO = [150, 153, 158],
  POSITIVE = [8, 38, 110];

/** Red, green and blue of a number on a scale from -1 to 1. */
function colour(v) {
  const end = v < 0 ? NEGATIVE : POSITIVE,
    part = Math.min(Math.abs(v), 1) || 0;
  return ZERO.map((zero, k) => Math.round(zero + part * (end[k] - zero)));
}

/** 511 colours from -1 to 1, as numbers of 32 bits for a canvas. */
const PALETTE = Uint32Array.from({ length: 511 }, (_, k) => {
  const [r, g, b] = colour(k / 255 - 1);
  return (255 << 24) | (b << 16) | (g << 8) | r;
});

/** Background and text of a cell for a number on a scale from -1 to 1. */
function paint(v) {
  const [r, g, b] = colour(v);
  // The text is black or white, whichever contrasts more.
  const linear = (c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  return { background: `rgb(${r}, ${g}, ${b})`, color: light > 0.179 ? "#000" : "#fff" };
}
