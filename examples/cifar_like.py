"""A different network from the same layers, for colour images of 3×32×32 as in CIFAR-10.

python examples/cifar_like.py

The layers are those of Caffe's ``cifar10_quick`` with half the filters: padding, overlapping 3×3
pooling windows, max and average pooling. CIFAR-10 would have to be downloaded, so the images are
built-in digits instead, each in a random light colour on clouds of darker colours. To use CIFAR-10,
load it into arrays of the same shapes; the rest of the script stays the same.
"""

import numpy as np

from lenet import Network, SoftmaxCrossEntropy, make_optimizer, train_step
from lenet.data.strokes import draw
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.linear import Linear
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.optim.schedules import cosine


def colour_network():
    """Return an initialised network for images (3,32,32)."""
    network = Network(
        [
            Convolution("conv1", 16, kernel=5, padding=2),
            MaxPooling("pool1", kernel=3, stride=2),
            Activation("relu1", "relu"),
            Convolution("conv2", 16, kernel=5, padding=2),
            Activation("relu2", "relu"),
            AveragePooling("pool2", kernel=3, stride=2),
            Convolution("conv3", 32, kernel=5, padding=2),
            Activation("relu3", "relu"),
            AveragePooling("pool3", kernel=3, stride=2),
            Linear("ip1", 64),
            Activation("relu4", "relu"),
            Linear("ip2", 10),
        ],
        input_shape=(3, 32, 32),
    )
    network.initialize(np.random.default_rng(0))
    return network


def colour_digits(count, stream):
    """Return images (count,3,32,32) with values from −1 to 1, and their labels (count,)."""
    digits, labels = draw(count, seed=0, stream=stream)
    rng = np.random.default_rng([0, stream])
    ink = np.pad(digits / np.float32(255), ((0, 0), (2, 2), (2, 2)))[:, None]
    colour = rng.uniform(0, 1, (count, 3, 1, 1)).astype(np.float32)
    # Clouds: 4×4 random dark colours, enlarged by repetition, plus noise.
    clouds = -rng.random((count, 3, 4, 4), np.float32)
    paper = clouds.repeat(8, axis=2).repeat(8, axis=3)
    paper += rng.normal(0, 0.1, paper.shape).astype(np.float32)
    return (ink * colour + (1 - ink) * paper).clip(-1, 1), labels


def main(count=10_000, epochs=4, batch=50, target=0.80):
    images, labels = colour_digits(count, stream=0)
    network, loss = colour_network(), SoftmaxCrossEntropy(classes=10)
    optimizer = make_optimizer(
        "nesterov", network.parameters.size, weight_decay=5e-4, decays=network.decays
    )
    steps = count // batch
    rate, rng = cosine(0.02, steps=epochs * steps), np.random.default_rng(1)
    print(f"{network.parameters.size:,} weights, {count:,} images")

    for epoch in range(epochs):
        order = rng.permutation(count)[: steps * batch].reshape(steps, batch)
        total = 0.0
        for t, chosen in enumerate(order, start=epoch * steps + 1):
            x = images[chosen]
            total += train_step(network, loss, optimizer, x, labels[chosen], rate(t - 1), t)
        print(f"epoch {epoch + 1}  loss {total / steps:.4f}")

    images, labels = colour_digits(2_000, stream=1)
    accuracy = np.mean(network.predict(images).argmax(axis=1) == labels)
    print(f"{accuracy:.1%} of {len(labels):,} other images are correct")
    assert accuracy > target, f"the target is {target:.0%}"


if __name__ == "__main__":
    main()
