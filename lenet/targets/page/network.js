// The arithmetic of the page: one image forward and backward through the network, in the letters
// of docs/derivation.md. The views and the training use the same functions.
//
//   Z     = W · cols     (F × K) · (K × P)      K = C·kh·kw, a patch is a column
//   dW    = dZ · colsT   (F × P) · (P × K)      P = Ho·Wo, the patches of the image
//   dcols = WT · dZ      (K × F) · (F × P)      then col2im: dX
//
// A matrix is a Float64Array in row order. An image (C,H,W) is such an array too, so that it is
// also the matrix (C × H·W), and Z (F × P) is the image (F,Ho,Wo) that the next layer takes. The
// patch matrix is stored as colsT (P × K), one patch per row, so that every product reads memory in
// its order; dcols is stored as dcolsT.
"use strict";

// --- Matrix products ------------------------------------------------------------------------

/** A (n × m) · BT, with B (q × m): two rows of A and four of B at a time, as that is fastest. */
function productT(A, B, n, m, q, C = new Float64Array(n * q)) {
  if (q === 1 && n > 1) return productT(B, A, 1, m, n, C); // a column is the same array as a row
  for (let i = 0; i < n; i += 2) {
    const a = i * m, a_ = i + 1 < n ? a + m : a; // an odd last row is multiplied twice
    let j = 0;
    for (; j + 4 <= q; j += 4) {
      const b0 = j * m, b1 = b0 + m, b2 = b1 + m, b3 = b2 + m;
      let c0 = 0, c1 = 0, c2 = 0, c3 = 0, d0 = 0, d1 = 0, d2 = 0, d3 = 0;
      for (let k = 0; k < m; k++) {
        const v = A[a + k], w = A[a_ + k];
        const x0 = B[b0 + k], x1 = B[b1 + k], x2 = B[b2 + k], x3 = B[b3 + k];
        c0 += v * x0; c1 += v * x1; c2 += v * x2; c3 += v * x3;
        d0 += w * x0; d1 += w * x1; d2 += w * x2; d3 += w * x3;
      }
      const c = i * q + j, d = a_ === a ? c : c + q;
      C[c] = c0; C[c + 1] = c1; C[c + 2] = c2; C[c + 3] = c3;
      C[d] = d0; C[d + 1] = d1; C[d + 2] = d2; C[d + 3] = d3;
    }
    for (; j < q; j++) {
      let c = 0, d = 0;
      for (let k = 0; k < m; k++) {
        c += A[a + k] * B[j * m + k];
        d += A[a_ + k] * B[j * m + k];
      }
      C[i * q + j] = c;
      if (a_ !== a) C[(i + 1) * q + j] = d;
    }
  }
  return C;
}

/** C + A (n × m) · B (m × q). Zeros of A cost nothing: most gradients behind a ReLU are 0. */
function product(A, B, n, m, q, C = new Float64Array(n * q)) {
  for (let i = 0; i < n; i++) addRows(A, i * m, 1, B, m, q, C, i * q);
  return C;
}

/** C + AT · B, with A (m × n) and B (m × q). */
function Tproduct(A, B, n, m, q, C = new Float64Array(n * q)) {
  for (let i = 0; i < n; i++) addRows(A, i, n, B, m, q, C, i * q);
  return C;
}

let filled = new Int32Array(1024); // where the row of A is not 0

/** Add to a row of C, from c on, the m rows of B times A[a], A[a + stride], …: three rows at a time. */
function addRows(A, a, stride, B, m, q, C, c) {
  if (filled.length < m) filled = new Int32Array(m);
  let count = 0, r = 0;
  for (let k = 0; k < m; k++) if (A[a + k * stride] !== 0) filled[count++] = k;
  for (; r + 3 <= count; r += 3) {
    const k0 = filled[r], k1 = filled[r + 1], k2 = filled[r + 2];
    const a0 = A[a + k0 * stride], a1 = A[a + k1 * stride], a2 = A[a + k2 * stride];
    const b0 = k0 * q, b1 = k1 * q, b2 = k2 * q;
    for (let j = 0; j < q; j++) C[c + j] += a0 * B[b0 + j] + a1 * B[b1 + j] + a2 * B[b2 + j];
  }
  for (; r < count; r++) {
    const k = filled[r], v = A[a + k * stride];
    for (let j = 0; j < q; j++) C[c + j] += v * B[k * q + j];
  }
}

// --- Windows --------------------------------------------------------------------------------
//
// What is needed of a layer with windows: input [C,H,W], output [F,Ho,Wo], kernel, stride and
// dilation as pairs (vertical, horizontal), padding above and to the left.

/** The index in the input of the number (c,m,n) of the patch (i,j); -1 on the padding. */
function pixelAt(g, c, m, n, i, j) {
  const [, H, W] = g.input;
  const h = i * g.stride[0] + m * g.dilation[0] - g.padding[0];
  const w = j * g.stride[1] + n * g.dilation[1] - g.padding[1];
  return h >= 0 && h < H && w >= 0 && w < W ? (c * H + h) * W + w : -1;
}

/** The pixels of channel c in the patch (i,j), in row order; -1 on the padding. */
function patchPixels(g, c, i, j) {
  const pixels = [];
  for (let m = 0; m < g.kernel[0]; m++)
    for (let n = 0; n < g.kernel[1]; n++) pixels.push(pixelAt(g, c, m, n, i, j));
  return pixels;
}

/** A function whose result for a layer is found once; steps of descent keep the layer's `output`. */
function onceForEachLayer(find) {
  const found = new WeakMap();
  return (g) => found.get(g.output) ?? found.set(g.output, find(g)).get(g.output);
}

/** The pixel of every number of colsT (P × K); -1 on the padding. */
const patchTable = onceForEachLayer((g) => {
  const pixels = [];
  for (let i = 0; i < g.output[1]; i++)
    for (let j = 0; j < g.output[2]; j++)
      for (let c = 0; c < g.input[0]; c++) pixels.push(...patchPixels(g, c, i, j));
  return Int32Array.from(pixels);
});

/** The pixel of every number of the windows of a pooling layer, C·Ho·Wo windows one by one. */
const windowTable = onceForEachLayer((g) => {
  const pixels = [];
  for (let c = 0; c < g.output[0]; c++)
    for (let i = 0; i < g.output[1]; i++)
      for (let j = 0; j < g.output[2]; j++) pixels.push(...patchPixels(g, c, i, j));
  return Int32Array.from(pixels);
});

/** colsT (P × K) of x: one patch per row. */
function im2col(x, g, colsT = new Float64Array(patchTable(g).length)) {
  const pixels = patchTable(g);
  for (let q = 0; q < pixels.length; q++) colsT[q] = pixels[q] < 0 ? 0 : x[pixels[q]];
  return colsT;
}

/** The adjoint: add the first `patches` rows of dcolsT back onto the image dX. */
function col2im(dcolsT, g, { dX = new Float64Array(size(g.input)), patches = Infinity, overwrite } = {}) {
  const pixels = patchTable(g), K = g.input[0] * g.kernel[0] * g.kernel[1];
  const end = Math.min(patches * K, pixels.length);
  for (let q = 0; q < end; q++)
    if (pixels[q] >= 0) {
      if (overwrite) dX[pixels[q]] = dcolsT[q]; // the fault "= for +=" of the view "Train"
      else dX[pixels[q]] += dcolsT[q];
    }
  return dX;
}

/**
 * dX of a convolution without a patch matrix: dZ, spread by the stride and padded, is correlated
 * with the kernels turned by 180° (docs/derivation.md, "full convolution").
 */
function fullConvolution(dZ, layer) {
  const [C, H, W] = layer.input, [F, Ho, Wo] = layer.output;
  const [kh, kw] = layer.kernel, [sh, sw] = layer.stride, [dh, dw] = layer.dilation;
  const [top, left] = layer.padding;
  const dX = new Float64Array(C * H * W);
  for (let c = 0; c < C; c++)
    for (let h = 0; h < H; h++)
      for (let w = 0; w < W; w++) {
        let sum = 0;
        for (let m = 0; m < kh; m++) {
          const i = (h + top - m * dh) / sh;
          if (!Number.isInteger(i) || i < 0 || i >= Ho) continue;
          for (let n = 0; n < kw; n++) {
            const j = (w + left - n * dw) / sw;
            if (!Number.isInteger(j) || j < 0 || j >= Wo) continue;
            for (let f = 0; f < F; f++)
              sum += dZ[(f * Ho + i) * Wo + j] * layer.W[((f * C + c) * kh + m) * kw + n];
          }
        }
        dX[(c * H + h) * W + w] = sum;
      }
  return dX;
}

// --- Layers ---------------------------------------------------------------------------------
//
// Each has forward(layer, pass), which fills pass.y from pass.x, and backward(layer, pass, gradient,
// how), which fills gradient.dx and adds to gradient.dW and gradient.db, given gradient.dy. Arrays
// are made at the first use and used again, so that training makes none.
//
// `how` is { toInput, overwrite, unmasked }: whether the first layer's dx is wanted, and two faults
// of the view "Train".

/** The array `name` of a pass or of a gradient. */
function room(holder, name, length) {
  return (holder[name] ??= new Float64Array(length));
}

/** The same array with zeros. */
function zeros(holder, name, length) {
  return room(holder, name, length).fill(0);
}

// ACTIVATIONS, by type { f, slope of y, formula }, stands before this file: html.py writes it from
// the formulas in lenet/nn/activations.py.

function addBias(Z, b, F, P) {
  for (let f = 0; f < F; f++) for (let p = 0; p < P; p++) Z[f * P + p] += b[f];
  return Z;
}

/** db + the sums of dZ (F × P) over its columns. */
function addColumns(dZ, F, P, db) {
  for (let f = 0; f < F; f++) for (let p = 0; p < P; p++) db[f] += dZ[f * P + p];
}

const convolution = {
  forward(layer, pass) {
    const [F, Ho, Wo] = layer.output, P = Ho * Wo, K = layer.W.length / F;
    const colsT = im2col(pass.x, layer, room(pass, "colsT", P * K));
    const Z = productT(layer.W, colsT, F, K, P, room(pass, "y", F * P));
    addBias(Z, layer.b, F, P);
  },
  backward(layer, pass, gradient, how) {
    const [F, Ho, Wo] = layer.output, P = Ho * Wo, K = layer.W.length / F;
    const dZ = gradient.dy;
    const dW = product(dZ, pass.colsT, F, P, K, room(gradient, "dW", F * K));
    if (layer.channels) unconnectedToZero(dW, layer);
    addColumns(dZ, F, P, room(gradient, "db", F));
    if (!how.toInput) return;
    const dcolsT = Tproduct(dZ, layer.W, P, F, K, zeros(gradient, "dcolsT", P * K));
    col2im(dcolsT, layer, { dX: zeros(gradient, "dx", pass.x.length), overwrite: how.overwrite });
  },
};

/** With groups or a table of connections only the channels of a filter have weights. */
function unconnectedToZero(dW, layer) {
  const C = layer.input[0], area = layer.kernel[0] * layer.kernel[1];
  layer.channels.forEach((channels, f) => {
    for (let c = 0; c < C; c++)
      if (!channels.includes(c)) dW.fill(0, (f * C + c) * area, (f * C + c + 1) * area);
  });
}

const maxPooling = {
  forward(layer, pass) {
    const pixels = windowTable(layer), area = layer.kernel[0] * layer.kernel[1], x = pass.x;
    const y = room(pass, "y", size(layer.output));
    const winners = (pass.winners ??= new Int32Array(y.length));
    for (let q = 0; q < y.length; q++) {
      let winner = -1;
      for (let k = q * area; k < (q + 1) * area; k++) // the first maximum in row order
        if (pixels[k] >= 0 && (winner < 0 || x[pixels[k]] > x[winner])) winner = pixels[k];
      winners[q] = winner;
      y[q] = x[winner];
    }
  },
  backward(layer, pass, gradient) {
    const dx = zeros(gradient, "dx", pass.x.length);
    for (let q = 0; q < pass.winners.length; q++) dx[pass.winners[q]] += gradient.dy[q];
  },
};

/** What the sum of a window is multiplied by: a trained number, or one divided by their count. */
function windowFactor(layer, q) {
  const area = layer.output[1] * layer.output[2];
  if (layer.type === "subsampling") return layer.W[Math.floor(q / area)];
  return typeof layer.factor === "number" ? layer.factor : layer.factor[q % area];
}

// The sum of a window times a factor. In the trainable subsampling of the first LeNet-5 the factor
// is a weight of its map, and a bias is added.
const averagePooling = {
  forward(layer, pass) {
    const pixels = windowTable(layer), area = layer.kernel[0] * layer.kernel[1];
    const y = room(pass, "y", size(layer.output)), sums = zeros(pass, "sums", y.length);
    for (let k = 0; k < pixels.length; k++)
      if (pixels[k] >= 0) sums[Math.floor(k / area)] += pass.x[pixels[k]];
    for (let q = 0; q < y.length; q++) y[q] = sums[q] * windowFactor(layer, q);
    if (layer.b) addBias(y, layer.b, layer.output[0], layer.output[1] * layer.output[2]);
  },
  backward(layer, pass, gradient) {
    const pixels = windowTable(layer), area = layer.kernel[0] * layer.kernel[1], { dy } = gradient;
    const dx = zeros(gradient, "dx", pass.x.length);
    for (let k = 0; k < pixels.length; k++) {
      const q = Math.floor(k / area);
      if (pixels[k] >= 0) dx[pixels[k]] += dy[q] * windowFactor(layer, q);
    }
    if (!layer.b) return;
    const C = layer.output[0], P = layer.output[1] * layer.output[2];
    addColumns(dy.map((d, q) => d * pass.sums[q]), C, P, room(gradient, "dW", C));
    addColumns(dy, C, P, room(gradient, "db", C));
  },
};

// Outside training: y = w·(x - mean)·inverse + b, with inverse = 1/√(variance + ε) of the channel.
const batchNormalization = {
  forward(layer, pass) {
    const C = layer.output[0], P = pass.x.length / C, channel = (q) => Math.floor(q / P);
    const normal = room(pass, "normal", pass.x.length), y = room(pass, "y", pass.x.length);
    for (let q = 0; q < y.length; q++) {
      normal[q] = (pass.x[q] - layer.mean[channel(q)]) * layer.inverse[channel(q)];
      y[q] = normal[q] * layer.W[channel(q)];
    }
    addBias(y, layer.b, C, P);
  },
  backward(layer, pass, gradient) {
    const C = layer.output[0], P = pass.x.length / C, channel = (q) => Math.floor(q / P), { dy } = gradient;
    addColumns(dy.map((d, q) => d * pass.normal[q]), C, P, room(gradient, "dW", C));
    addColumns(dy, C, P, room(gradient, "db", C));
    const dx = room(gradient, "dx", dy.length);
    for (let q = 0; q < dx.length; q++) dx[q] = dy[q] * layer.W[channel(q)] * layer.inverse[channel(q)];
  },
};

const linear = {
  forward(layer, pass) {
    const F = layer.output[0], D = pass.x.length;
    addBias(productT(pass.x, layer.W, 1, D, F, room(pass, "y", F)), layer.b, F, 1);
  },
  backward(layer, pass, gradient, how) {
    const F = layer.output[0], D = pass.x.length, dz = gradient.dy;
    product(dz, pass.x, F, 1, D, room(gradient, "dW", F * D));
    addColumns(dz, F, 1, room(gradient, "db", F));
    if (how.toInput) product(dz, layer.W, 1, F, D, zeros(gradient, "dx", D)); // dxT = dzT · W
  },
};

const activation = {
  forward(layer, pass) {
    const { f } = ACTIVATIONS[layer.type], { x } = pass, y = room(pass, "y", x.length);
    for (let q = 0; q < y.length; q++) y[q] = f(x[q]);
  },
  backward(layer, pass, gradient, how) {
    const slope = how.unmasked ? () => 1 : ACTIVATIONS[layer.type].slope;
    const { dy } = gradient, { y } = pass, dx = room(gradient, "dx", y.length);
    for (let q = 0; q < dx.length; q++) dx[q] = dy[q] === 0 ? 0 : dy[q] * slope(y[q]);
  },
};

// Outside training, dropout returns its input.
const dropout = {
  forward: (layer, pass) => void (pass.y = pass.x),
  backward: (layer, pass, gradient) => void (gradient.dx = gradient.dy),
};

const OPERATIONS = {
  convolution, linear, dropout, subsampling: averagePooling, batch_normalization: batchNormalization,
  max_pooling: maxPooling, average_pooling: averagePooling,
  ...Object.fromEntries(Object.keys(ACTIVATIONS).map((type) => [type, activation])),
};

// --- The network ----------------------------------------------------------------------------

function size(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

/** All passes of an image x, one for each layer: { x, y, … }. Those of another image are used again. */
function forward(network, x, passes = network.layers.map(() => ({}))) {
  network.layers.forEach((layer, l) => {
    passes[l].x = x;
    OPERATIONS[layer.type].forward(layer, passes[l]);
    x = passes[l].y;
  });
  return passes;
}

/** The scores of an image. */
function scores(network, x, passes) {
  return forward(network, x, passes)[network.layers.length - 1].y;
}

function softmax(z) {
  const largest = z.reduce((a, b) => Math.max(a, b));
  const e = z.map((v) => Math.exp(v - largest));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}

function argmax(values) {
  return values.reduce((best, v, k) => (v > values[best] ? k : best), 0);
}

/** The loss E = -log p(label) and dz = p - y, with y 1 for the label and 0 for the others. */
function crossEntropy(z, label) {
  const p = softmax(z), dz = p.slice();
  dz[label] -= 1;
  return { p, dz, E: -Math.log(Math.max(p[label], Number.MIN_VALUE)) };
}

/**
 * The gradients of all layers, one { dy, dx, dW, db, … } for each, given dz of the scores. dW and db
 * are added to those of the `gradients` given.
 */
function backward(network, passes, dz, gradients = network.layers.map(() => ({})), how = { toInput: true }) {
  let dy = dz;
  for (let l = network.layers.length - 1; l >= 0; l--) {
    const layer = network.layers[l];
    gradients[l].dy = dy;
    OPERATIONS[layer.type].backward(layer, passes[l], gradients[l], l > 0 ? { ...how, toInput: true } : how);
    dy = gradients[l].dx;
  }
  return gradients;
}

/** One step of gradient descent, W ← W - rate·dW; returns the network after it. */
function descend(network, gradients, rate) {
  const layers = network.layers.map((layer, l) => {
    const { dW, db } = gradients[l];
    if (!dW) return layer;
    return {
      ...layer,
      W: layer.W.map((w, k) => w - rate * dW[k]),
      b: layer.b.map((b, f) => b - rate * db[f]),
    };
  });
  return { ...network, layers };
}

// --- From the page's data -------------------------------------------------------------------

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** The network of the page's data: every trained layer gets its W, from integers and scales. */
function networkOf(data) {
  const bytes = bytesOf(data.weights), integers = new DataView(bytes.buffer);
  let at = 0;
  const next = (scale) => {
    at += 2;
    return scale * integers.getInt16(at - 2, true);
  };
  const layers = data.layers.map((layer) => {
    if (!layer.scales) return layer;
    const F = layer.output[0], K = layer.K; // the length of a row of W
    const W = Float64Array.from({ length: F * K }, (_, k) => next(layer.scales[Math.floor(k / K)]));
    return { ...layer, W, b: Float64Array.from(layer.b) };
  });
  return { ...data, weights: null, layers };
}
