// The arithmetic of the page: one image forward and backward through the network, in the letters
// of docs/derivation.md.
//
//   Z     = W · cols     (F × K) · (K × P)      K = C·kh·kw, a patch is a column
//   dW    = dZ · colsT   (F × P) · (P × K)      P = Ho·Wo, the patches of the image
//   dcols = WT · dZ      (K × F) · (F × P)      then col2im: dX
//
// A matrix is a Float64Array in row order. An image (C,H,W) is such an array too, so that it is
// also the matrix (C × H·W), and Z (F × P) is the image (F,Ho,Wo) that the next layer takes.
"use strict";

// --- Matrix products ------------------------------------------------------------------------

/** A (n × m) · B (m × q). */
function product(A, B, n, m, q) {
  const result = new Float64Array(n * q);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < m; k++) {
      const a = A[i * m + k];
      if (a !== 0) for (let j = 0; j < q; j++) result[i * q + j] += a * B[k * q + j];
    }
  return result;
}

/** A (n × m) · BT, with B (q × m). */
function productT(A, B, n, m, q) {
  const result = new Float64Array(n * q);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < q; j++) {
      let sum = 0;
      for (let k = 0; k < m; k++) sum += A[i * m + k] * B[j * m + k];
      result[i * q + j] = sum;
    }
  return result;
}

/** AT · B, with A (m × n) and B (m × q). */
function Tproduct(A, B, n, m, q) {
  const result = new Float64Array(n * q);
  for (let k = 0; k < m; k++)
    for (let i = 0; i < n; i++) {
      const a = A[k * n + i];
      if (a !== 0) for (let j = 0; j < q; j++) result[i * q + j] += a * B[k * q + j];
    }
  return result;
}

// --- Windows --------------------------------------------------------------------------------
//
// What is needed of a layer with windows: input [C,H,W], output [F,Ho,Wo], kernel, stride and
// dilation as pairs (vertical, horizontal), padding above and to the left.

/** Call visit(k, p, pixel) for every number of the patch matrix; pixel is -1 on the padding. */
function eachPlace(g, visit) {
  const [C, H, W] = g.input, [, Ho, Wo] = g.output;
  const [kh, kw] = g.kernel;
  let k = 0;
  for (let c = 0; c < C; c++)
    for (let m = 0; m < kh; m++)
      for (let n = 0; n < kw; n++, k++)
        for (let i = 0; i < Ho; i++)
          for (let j = 0; j < Wo; j++) visit(k, i * Wo + j, pixelAt(g, c, m, n, i, j));
}

/** The index in the input of the number (c,m,n) of the patch (i,j); -1 on the padding. */
function pixelAt(g, c, m, n, i, j) {
  const [, H, W] = g.input;
  const h = i * g.stride[0] + m * g.dilation[0] - g.padding[0];
  const w = j * g.stride[1] + n * g.dilation[1] - g.padding[1];
  return h >= 0 && h < H && w >= 0 && w < W ? (c * H + h) * W + w : -1;
}

/** The patch matrix (K × P) of x: every patch is a column. */
function im2col(x, g) {
  const P = g.output[1] * g.output[2];
  const cols = new Float64Array(g.input[0] * g.kernel[0] * g.kernel[1] * P);
  eachPlace(g, (k, p, pixel) => {
    if (pixel >= 0) cols[k * P + p] = x[pixel];
  });
  return cols;
}

/** The adjoint: add the first `patches` columns of a patch matrix back onto the image. */
function col2im(dcols, g, patches = Infinity) {
  const P = g.output[1] * g.output[2];
  const dX = new Float64Array(g.input[0] * g.input[1] * g.input[2]);
  eachPlace(g, (k, p, pixel) => {
    if (pixel >= 0 && p < patches) dX[pixel] += dcols[k * P + p];
  });
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
// Each has forward(layer, x), which returns { y, … }, and backward(layer, x, pass, dy), which
// returns { dx, … } given what forward returned.

// ACTIVATIONS, by type { f, slope of y, formula }, stands before this file: html.py writes it from
// the formulas in lenet/nn/activations.py.

function addBias(Z, b, F, P) {
  for (let f = 0; f < F; f++) for (let p = 0; p < P; p++) Z[f * P + p] += b[f];
}

/** db: the sum of dZ (F × P) over its columns. */
function sumColumns(dZ, F, P) {
  return Float64Array.from({ length: F }, (_, f) =>
    dZ.subarray(f * P, (f + 1) * P).reduce((sum, v) => sum + v, 0));
}

const convolution = {
  forward(layer, x) {
    const [F, Ho, Wo] = layer.output, P = Ho * Wo, K = layer.W.length / F;
    const cols = im2col(x, layer);
    const y = product(layer.W, cols, F, K, P);
    addBias(y, layer.b, F, P);
    return { y, cols };
  },
  backward(layer, x, pass, dZ) {
    const [F, Ho, Wo] = layer.output, P = Ho * Wo, K = layer.W.length / F;
    const dW = productT(dZ, pass.cols, F, P, K);
    if (layer.channels) unconnectedToZero(dW, layer);
    const dcols = Tproduct(layer.W, dZ, K, F, P);
    return { dW, db: sumColumns(dZ, F, P), dcols, dx: col2im(dcols, layer) };
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

/** The patch of one channel of a pooling layer: its pixels in row order, -1 on the padding. */
function poolingWindow(layer, c, i, j) {
  const pixels = [];
  for (let m = 0; m < layer.kernel[0]; m++)
    for (let n = 0; n < layer.kernel[1]; n++) pixels.push(pixelAt(layer, c, m, n, i, j));
  return pixels;
}

/** Call visit(place in the output, pixels of its window). */
function eachWindow(layer, visit) {
  const [C, Ho, Wo] = layer.output;
  let q = 0;
  for (let c = 0; c < C; c++)
    for (let i = 0; i < Ho; i++)
      for (let j = 0; j < Wo; j++) visit(q++, poolingWindow(layer, c, i, j));
}

const maxPooling = {
  forward(layer, x) {
    const y = new Float64Array(size(layer.output)), winners = new Int32Array(y.length);
    eachWindow(layer, (q, pixels) => {
      let winner = -1;
      for (const pixel of pixels) // the first maximum in row order
        if (pixel >= 0 && (winner < 0 || x[pixel] > x[winner])) winner = pixel;
      winners[q] = winner;
      y[q] = x[winner];
    });
    return { y, winners };
  },
  backward(layer, x, pass, dy) {
    const dx = new Float64Array(x.length);
    pass.winners.forEach((pixel, q) => (dx[pixel] += dy[q]));
    return { dx };
  },
};

/** The sum of every window. */
function windowSums(layer, x) {
  const sums = new Float64Array(size(layer.output));
  eachWindow(layer, (q, pixels) => {
    for (const pixel of pixels) if (pixel >= 0) sums[q] += x[pixel];
  });
  return sums;
}

/** Add to every pixel of a window its share of dy: the factor of the window, times dy. */
function shareOut(layer, x, dy) {
  const dx = new Float64Array(x.length);
  eachWindow(layer, (q, pixels) => {
    for (const pixel of pixels) if (pixel >= 0) dx[pixel] += dy[q] * windowFactor(layer, q);
  });
  return dx;
}

/** What the sum of a window is multiplied by: a trained number, or one divided by their count. */
function windowFactor(layer, q) {
  const area = layer.output[1] * layer.output[2];
  if (layer.type === "subsampling") return layer.W[Math.floor(q / area)];
  return typeof layer.factor === "number" ? layer.factor : layer.factor[q % area];
}

const averagePooling = {
  forward: (layer, x) => ({ y: windowSums(layer, x).map((sum, q) => sum * windowFactor(layer, q)) }),
  backward: (layer, x, pass, dy) => ({ dx: shareOut(layer, x, dy) }),
};

// Trainable subsampling of the first LeNet-5: the sum of a window, times w, plus b of its map.
const subsampling = {
  forward(layer, x) {
    const sums = windowSums(layer, x), P = layer.output[1] * layer.output[2];
    const y = sums.map((sum, q) => sum * windowFactor(layer, q));
    addBias(y, layer.b, layer.output[0], P);
    return { y, sums };
  },
  backward(layer, x, pass, dy) {
    const C = layer.output[0], P = layer.output[1] * layer.output[2];
    const dW = sumColumns(dy.map((d, q) => d * pass.sums[q]), C, P);
    return { dW, db: sumColumns(dy, C, P), dx: shareOut(layer, x, dy) };
  },
};

// Outside training: y = w·(x - mean)·inverse + b, with inverse = 1/√(variance + ε) of the channel.
const batchNormalization = {
  forward(layer, x) {
    const C = layer.output[0], P = x.length / C, channel = (q) => Math.floor(q / P);
    const normal = x.map((v, q) => (v - layer.mean[channel(q)]) * layer.inverse[channel(q)]);
    const y = normal.map((v, q) => v * layer.W[channel(q)]);
    addBias(y, layer.b, C, P);
    return { y, normal };
  },
  backward(layer, x, pass, dy) {
    const C = layer.output[0], P = x.length / C, channel = (q) => Math.floor(q / P);
    const dW = sumColumns(dy.map((d, q) => d * pass.normal[q]), C, P);
    const dx = dy.map((d, q) => d * layer.W[channel(q)] * layer.inverse[channel(q)]);
    return { dW, db: sumColumns(dy, C, P), dx };
  },
};

const linear = {
  forward(layer, x) {
    const F = layer.output[0];
    const y = product(layer.W, x, F, x.length, 1);
    addBias(y, layer.b, F, 1);
    return { y };
  },
  backward(layer, x, pass, dz) {
    const F = layer.output[0];
    return {
      dW: product(dz, x, F, 1, x.length),
      db: dz.slice(),
      dx: Tproduct(layer.W, dz, x.length, F, 1),
    };
  },
};

const activation = {
  forward: (layer, x) => ({ y: x.map(ACTIVATIONS[layer.type].f) }),
  backward: (layer, x, pass, dy) => ({
    dx: dy.map((d, q) => d * ACTIVATIONS[layer.type].slope(pass.y[q])),
  }),
};

// Outside training, dropout returns its input.
const dropout = { forward: (layer, x) => ({ y: x }), backward: (layer, x, pass, dy) => ({ dx: dy }) };

const OPERATIONS = {
  convolution, linear, dropout, subsampling, batch_normalization: batchNormalization,
  max_pooling: maxPooling, average_pooling: averagePooling,
  ...Object.fromEntries(Object.keys(ACTIVATIONS).map((type) => [type, activation])),
};

// --- The network ----------------------------------------------------------------------------

function size(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

/** All passes of an image x, one for each layer: { x, y, … }. */
function forward(network, x) {
  return network.layers.map((layer) => {
    const pass = { x, ...OPERATIONS[layer.type].forward(layer, x) };
    x = pass.y;
    return pass;
  });
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

/** The gradients of all layers, one { dy, dx, … } for each, given dz of the scores. */
function backward(network, passes, dz) {
  const gradients = [];
  let dy = dz;
  for (let l = network.layers.length - 1; l >= 0; l--) {
    const layer = network.layers[l];
    gradients[l] = { dy, ...OPERATIONS[layer.type].backward(layer, passes[l].x, passes[l], dy) };
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
