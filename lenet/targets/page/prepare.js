// From a drawing to the input of the network, as `lenet predict` does it: the ink is scaled to a
// box of 20×20 pixels with its proportions kept, its centre of mass is moved to the middle of
// 28×28, and levels are scaled and surrounded by background.
"use strict";

/**
 * The matrix (n × m) that resamples m pixels to n; `centre` becomes the middle of the n.
 * The same tents as in lenet/data/pixels.py.
 */
function resamplingMatrix(n, m, scale, centre) {
  const radius = Math.max(1, scale), A = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < m; k++) {
      const at = (k + 0.5 - centre) * scale - (i + 0.5 - n / 2);
      A[i * m + k] = (Math.max(0, 1 - Math.abs(at) / radius) * scale) / radius;
    }
  return A;
}

/** The matrix (n × m) that scales ink and centres its mass as far as the ink stays inside. */
function placement(mass, n, scale) {
  const first = mass.findIndex((v) => v > 0);
  const end = mass.length - [...mass].reverse().findIndex((v) => v > 0);
  const total = mass.reduce((a, b) => a + b, 0);
  let centre = mass.reduce((sum, v, k) => sum + v * (k + 0.5), 0) / total;
  const above = (n / 2 + 0.5) / scale, below = (n / 2 - 0.5) / scale;
  centre = Math.min(Math.max(centre, end - below), first + above);
  return resamplingMatrix(n, mass.length, scale, centre - 0.5 / scale);
}

/** Rows and columns of what is inked: { top, left, bottom, right }, or null of an empty drawing. */
function bounds(ink, H, W) {
  let top = H, left = W, bottom = 0, right = 0;
  for (let h = 0; h < H; h++)
    for (let w = 0; w < W; w++)
      if (ink[h * W + w] > 0.3) {
        top = Math.min(top, h);
        left = Math.min(left, w);
        bottom = Math.max(bottom, h + 1);
        right = Math.max(right, w + 1);
      }
  return bottom ? { top, left, bottom, right } : null;
}

/** An image of levels from 0 to 255 of the size [h, w] for ink (H × W) from 0 to 1. */
function normalised(ink, H, W, [h, w]) {
  const box = bounds(ink, H, W);
  if (!box) return new Float64Array(h * w);
  const length = Math.max(box.bottom - box.top, box.right - box.left);
  const scale = ((20 / 28) * Math.min(h, w)) / length;
  const rows = new Float64Array(H), columns = new Float64Array(W);
  for (let k = 0; k < H; k++)
    for (let l = 0; l < W; l++) {
      rows[k] += ink[k * W + l];
      columns[l] += ink[k * W + l];
    }
  const A = placement(rows, h, scale), B = placement(columns, w, scale);
  const image = productT(product(A, ink, h, H, W), B, h, W, w);
  return image.map((v) => Math.round(255 * Math.min(Math.max(v, 0), 1)));
}

/** The input (C,H,W) for an image of levels: scaled, in every channel, with background around. */
function inputOf(network, image) {
  const [C, H, W] = network.input, [h, w] = network.size, { scale, shift } = network;
  const top = Math.floor((H - h) / 2), left = Math.floor((W - w) / 2);
  const x = new Float64Array(C * H * W).fill(scale * network.background + shift);
  for (let c = 0; c < C; c++)
    for (let i = 0; i < h; i++)
      for (let j = 0; j < w; j++)
        x[(c * H + top + i) * W + left + j] = scale * image[i * w + j] + shift;
  return x;
}

/** The built-in digits of the page's data: [{ label, levels }], unpacked from four levels of grey. */
async function unpackDigits({ labels, images }) {
  const unpacking = new Blob([bytesOf(images)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(unpacking).arrayBuffer());
  return Array.from(labels, (label, n) => ({
    label: Number(label),
    levels: Uint8Array.from({ length: 784 }, (_, k) => 85 * ((packed[196 * n + (k >> 2)] >> (2 * (k & 3))) & 3)),
  }));
}
