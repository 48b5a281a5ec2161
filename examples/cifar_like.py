"""A different network for colour images of 3×32×32 as in CIFAR-10, trained with the Python API.

python examples/cifar_like.py

The layers are those of Caffe's ``cifar10_quick`` with half the filters: padding, overlapping 3×3
pooling windows, max and average pooling. CIFAR-10 would have to be downloaded, so the images are
built-in digits instead, each in a random light colour on clouds of darker colours. For CIFAR-10,
put ``lenet.load_data("cifar-10")`` in their place; the rest of the script stays the same.
"""

import numpy as np

from lenet import Model
from lenet.data.strokes import draw

LAYERS = [
    {"type": "convolution", "name": "conv1", "filters": 16, "kernel": 5, "padding": 2},
    {"type": "max_pooling", "name": "pool1", "kernel": 3, "stride": 2, "activation": "relu"},
    {"type": "convolution", "name": "conv2", "filters": 16, "kernel": 5, "padding": 2},
    {"type": "relu", "name": "relu2"},
    {"type": "average_pooling", "name": "pool2", "kernel": 3, "stride": 2},
    {"type": "convolution", "name": "conv3", "filters": 32, "kernel": 5, "padding": 2},
    {"type": "relu", "name": "relu3"},
    {"type": "average_pooling", "name": "pool3", "kernel": 3, "stride": 2},
    {"type": "linear", "name": "ip1", "units": 64, "activation": "relu"},
    {"type": "linear", "name": "ip2", "units": 10},
]


def colour_digits(count, stream):
    """Return images uint8 (count,3,32,32) and their labels (count,)."""
    digits, labels = draw(count, seed=0, stream=stream)
    rng = np.random.default_rng([0, stream])
    ink = np.pad(digits / np.float32(255), ((0, 0), (2, 2), (2, 2)))[:, None]
    colour = rng.uniform(128, 255, (count, 3, 1, 1)).astype(np.float32)
    # Clouds: 4×4 random dark colours, enlarged by repetition, plus noise.
    clouds = 128 * rng.random((count, 3, 4, 4), np.float32)
    paper = clouds.repeat(8, axis=2).repeat(8, axis=3)
    paper += rng.normal(0, 13, paper.shape).astype(np.float32)
    return (ink * colour + (1 - ink) * paper).clip(0, 255).astype(np.uint8), labels


def main(count=10_000, epochs=4, batch=50, target=0.80, workers="auto"):
    # From −1 to 1, as the images of CIFAR-10 are nearly.
    model = Model.from_layers(LAYERS, input_shape=(3, 32, 32), scale=2 / 255, shift=-1)
    print(model)
    model.fit(
        *colour_digits(count, stream=0),
        epochs=epochs,
        batch_size=batch,
        lr=0.02,
        workers=workers,
        verbose=True,
    )
    result = model.evaluate(*colour_digits(2_000, stream=1))
    print(f"{result.accuracy:.1%} of {result.count:,} other images are correct")
    assert result.accuracy > target, f"the target is {target:.0%}"


if __name__ == "__main__":
    main()
