// Training in the page: networks with random weights, one step of SGD with momentum for a batch, and
// the worker in which it runs. Forward and backward are those of network.js, image by image.
"use strict";

// --- Networks -------------------------------------------------------------------------------

const NETWORKS = {
  lenet5: [
    ["C1", "convolution", 6, 5],
    ["C1.activation", "relu"],
    ["S2", "max_pooling", 2],
    ["C3", "convolution", 16, 5],
    ["C3.activation", "relu"],
    ["S4", "max_pooling", 2],
    ["C5", "convolution", 120, 5],
    ["C5.activation", "relu"],
    ["F6", "linear", 84],
    ["F6.activation", "relu"],
    ["F7", "linear", 10],
  ],
  small: [
    ["C1", "convolution", 4, 5],
    ["C1.activation", "relu"],
    ["S2", "max_pooling", 2],
    ["F3", "linear", 10],
  ],
};

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A normally distributed number (Box and Muller). */
function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** A network of NETWORKS for images 1×32×32; weights as He et al. (2015) draw them, biases 0. */
function newNetwork(kind, seed) {
  const random = uniform(seed);
  let input = [1, 32, 32];
  const layers = NETWORKS[kind].map(([name, type, F, k]) => {
    const layer = { name, type, input, output: input };
    if (type === "max_pooling")
      Object.assign(layer, { ...square(F, F), output: [input[0], input[1] / F, input[2] / F] });
    if (type === "convolution")
      Object.assign(layer, { ...square(k, 1), output: [F, input[1] - k + 1, input[2] - k + 1] });
    if (type === "linear") layer.output = [F];
    if (type === "convolution" || type === "linear") {
      const K = type === "linear" ? size(input) : input[0] * k * k;
      layer.W = Float64Array.from({ length: F * K }, () => Math.sqrt(2 / K) * normal(random));
      layer.b = new Float64Array(F);
    }
    input = layer.output;
    return layer;
  });
  const classes = Array.from("0123456789");
  return { input: [1, 32, 32], size: [28, 28], scale: 0.005, shift: -0.1, background: 0, classes, layers };
}

/** The geometry of a square window without padding. */
function square(kernel, stride) {
  return { kernel: [kernel, kernel], stride: [stride, stride], dilation: [1, 1], padding: [0, 0] };
}

// --- Steps ----------------------------------------------------------------------------------

/**
 * A trainer { step, evaluate, options }: step() trains on the next batch and returns its loss and how
 * many images it recognised. The options { rate, momentum, batch, faults } may change between steps;
 * the faults are those of network.js and `summed`: the gradient is not divided by the batch size.
 */
function trainerOf(network, digits, options, seed = 1) {
  const passes = network.layers.map(() => ({})),
    gradients = network.layers.map(() => ({}));
  const velocities = network.layers.map(
    ({ W, b }) => W && { W: new Float64Array(W.length), b: new Float64Array(b.length) },
  );
  const random = uniform(seed);
  let order = [];

  /** The next images, in an order that is drawn again for each epoch. */
  function nextBatch() {
    if (!order.length) {
      order = digits.map((_, n) => n);
      for (let n = order.length - 1; n > 0; n--) {
        const other = Math.floor(random() * (n + 1));
        [order[n], order[other]] = [order[other], order[n]];
      }
    }
    return order.splice(0, options.batch);
  }

  function step(batch = nextBatch()) {
    const { faults } = options;
    for (const { dW, db } of gradients) for (const sum of [dW, db]) sum?.fill(0);
    let E = 0,
      right = 0;
    for (const n of batch) {
      const z = scores(network, inputOf(network, digits[n].levels), passes);
      const loss = crossEntropy(z, digits[n].label);
      E += loss.E / batch.length;
      right += argmax(z) === digits[n].label;
      const dz = faults.summed ? loss.dz : loss.dz.map((d) => d / batch.length);
      backward(network, passes, dz, gradients, { ...faults, toInput: false });
    }
    network.layers.forEach((layer, l) => {
      if (!layer.W) return;
      move(layer.W, gradients[l].dW, velocities[l].W);
      move(layer.b, gradients[l].db, velocities[l].b);
    });
    return { E, right, images: batch.length };
  }

  /** v ← μ·v + dW, W ← W - η·v. */
  function move(W, dW, v) {
    for (let k = 0; k < W.length; k++) {
      v[k] = options.momentum * v[k] + dW[k];
      W[k] -= options.rate * v[k];
    }
  }

  /** Loss and accuracy on other digits, and which of them are taken for what: [[n, class], …]. */
  function evaluate(others) {
    let E = 0;
    const wrong = [];
    others.forEach(({ levels, label }, n) => {
      const z = scores(network, inputOf(network, levels), passes);
      E += crossEntropy(z, label).E / others.length;
      if (argmax(z) !== label || !z.every(Number.isFinite)) wrong.push([n, argmax(z)]);
    });
    return { E, accuracy: 1 - wrong.length / others.length, wrong };
  }

  return { network, options, step, evaluate };
}

// --- The worker -----------------------------------------------------------------------------
//
// A message to it is { start: { kind, seed, training, test, options } }, { options }, { play: true }
// or false, or { step: true }. It answers with { step, images, E, accuracy, test, layers, speed }.

/** What the messages are given to; answer(state, done) is called with what has changed. */
function trainingServer(answer) {
  let trainer = null,
    training = [],
    test = [],
    steps = 0,
    images = 0,
    playing = false,
    timer = 0;
  let seen = { E: 0, right: 0, images: 0, steps: 0, seconds: 0 };

  function run(seconds) {
    const begun = performance.now(),
      end = begun + 1000 * seconds;
    do {
      const { E, right, images: count } = trainer.step();
      steps += 1;
      images += count;
      seen = {
        E: seen.E + E,
        right: seen.right + right,
        images: seen.images + count,
        steps: seen.steps + 1,
        seconds: seen.seconds,
      };
    } while (performance.now() < end);
    seen.seconds += (performance.now() - begun) / 1000;
  }

  function report() {
    const layers = trainer.network.layers.map(({ W, b }) => W && { W: W.slice(), b: b.slice() });
    const of = (sum, count) => (count ? sum / count : null);
    answer({
      steps,
      images,
      epochs: images / training.length,
      layers,
      test: trainer.evaluate(test),
      E: of(seen.E, seen.steps),
      accuracy: of(seen.right, seen.images),
      speed: of(seen.images, seen.seconds),
    });
    seen = { E: 0, right: 0, images: 0, steps: 0, seconds: 0 };
  }

  function play() {
    if (!playing) return;
    run(0.35);
    report();
    timer = setTimeout(play, 0); // messages that have come are read first
  }

  return (message) => {
    if (message.start) {
      ({ training, test } = message.start);
      trainer = trainerOf(
        newNetwork(message.start.kind, message.start.seed),
        training,
        message.start.options,
        message.start.seed,
      );
      steps = images = 0;
      report();
    }
    if (message.options) Object.assign(trainer.options, message.options);
    if (message.step) {
      run(0);
      report();
    }
    if ("play" in message) {
      clearTimeout(timer);
      playing = message.play;
      play();
    }
  };
}
