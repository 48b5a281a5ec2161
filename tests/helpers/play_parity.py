"""Compare the page of `lenet play` with this package on MNIST, in Node and in Chromium.

    LENET_DATA_DIR=... python tests/helpers/play_parity.py [--images 10000] [--gradients 50]

Labels and probabilities of the test images, gradients for a wrong label, and the time of a forward
pass and of a training step. Gradients are compared for weights rounded as the page stores them. An
engine that is not installed is left out. Exits with 1 if a label differs, or a number by more than
1e-3.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engines import CHROMIUM, NODE, Browser, in_node

from lenet import load_data
from lenet.checkpoint.restore import read_checkpoint
from lenet.data.strokes import draw
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.targets.networks import ExportedNetwork, exported_network
from lenet.targets.page.html import in_16_bits, page_data, to_html

Run = Callable[..., Any]
TOLERANCE = 1e-3
PART = 500  # images in one message

FORWARD = """
const network = networkOf(input.data), start = performance.now();
const p = input.images.map((image) => {
  const passes = forward(network, inputOf(network, image));
  return Array.from(softmax(passes[passes.length - 1].y));
});
return { p, milliseconds: performance.now() - start };
"""
BACKWARD = """
const network = networkOf(input.data), passes = forward(network, inputOf(network, input.image));
const { dz } = crossEntropy(passes[passes.length - 1].y, input.label);
return backward(network, passes, dz).filter((g) => g.dW)
  .map(({ dW, db }) => [Array.from(dW), Array.from(db)]);
"""


TRAINING = """
const digits = Array.from(input.labels, (label, n) => ({ label, levels: input.images[n] }));
const options = { rate: 0.05, momentum: 0.9, batch: 32, faults: {} };
const trainer = trainerOf(newNetwork("lenet5", 1), digits, options);
let least = Infinity;
for (let k = 0; k < 250; k++) {
  const start = performance.now();
  trainer.step();
  least = Math.min(least, performance.now() - start);
}
return 32000 / least;
"""


def probabilities(run: Run, data: dict[str, Any], images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the probabilities, and the milliseconds for one image."""
    found, spent = [], 0.0
    for start in range(0, len(images), PART):
        part = images[start : start + PART].reshape(-1, 784).tolist()
        result = run(FORWARD, data=data, images=part)
        found += result["p"]
        spent += result["milliseconds"]
    return np.array(found), spent / len(images)


def expected_probabilities(exported: ExportedNetwork, images: np.ndarray) -> np.ndarray:
    z = exported.scores(images[:, None]).astype(np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def rounded(exported: ExportedNetwork) -> None:
    """Round the weights as the page stores them."""
    for layer in exported.network.layers:
        if layer.parameters:
            W = layer.weight.value.reshape(layer.bias.value.size, -1)
            levels, scales = in_16_bits(W)
            W[...] = levels * scales[:, None]


def gradient_error(
    run: Run,
    data: dict[str, Any],
    exported: ExportedNetwork,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Return the largest relative error of the gradient of a layer's weights or biases."""
    network, loss = exported.network, SoftmaxCrossEntropy(10)
    worst = 0.0
    for image, label in zip(images, labels, strict=True):
        wrong = (int(label) + 3) % 10
        x = exported.preprocessing.prepare(image[None])
        loss.forward(network.forward(x), np.array([wrong]))
        network.backward(loss.backward())
        found = run(BACKWARD, data=data, image=image.ravel().tolist(), label=wrong)
        layers = [layer for layer in network.layers if layer.parameters]
        for layer, pair in zip(layers, found, strict=True):
            for parameter, values in zip((layer.weight, layer.bias), pair, strict=True):
                g = parameter.gradient.ravel()
                error = np.linalg.norm(np.array(values) - g) / np.linalg.norm(g)
                worst = max(worst, float(error))
    return worst


def compare(name: str, run: Run, options: argparse.Namespace) -> bool:
    exported = exported_network(read_checkpoint("pretrained"))
    data = page_data(exported)
    test = load_data("mnist", "test")
    images, labels = np.asarray(test.images), np.asarray(test.labels)
    expected = expected_probabilities(exported, images[: options.images])
    found, milliseconds = probabilities(run, data, images[: options.images])
    other = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    difference = float(np.abs(found - expected).max())
    rounded(exported)
    some = slice(options.gradients)
    error = gradient_error(run, data, exported, images[some], labels[some])
    digits, classes = draw(320, 5)
    speed = run(TRAINING, images=digits.reshape(320, -1).tolist(), labels=classes.tolist())
    print(
        f"{name}: {len(found)} images, {other} other labels, probabilities to {difference:.1e}, "
        f"gradients of {options.gradients} images to {error:.1e}, "
        f"{milliseconds:.2f} ms per forward pass, {speed:.0f} images/s trained in the fastest "
        "of 250 steps"
    )
    return other == 0 and difference <= TOLERANCE and error <= TOLERANCE


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--gradients", type=int, default=50)
    options = parser.parse_args()
    agree = []
    if NODE:
        agree.append(compare("Node", in_node, options))
    if CHROMIUM:
        with tempfile.TemporaryDirectory() as folder, Browser(Path(folder) / "profile") as browser:
            page = Path(folder) / "play.html"
            page.write_text(to_html(exported_network(read_checkpoint("pretrained"))), "utf-8")
            print(f"the page: {page.stat().st_size / 1000:.0f} kB")
            browser.open(page)
            agree.append(compare("Chromium", browser.run, options))
    if not agree:
        sys.exit("neither Node nor Chromium is installed")
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
