"""The recipe for the user's own images: what ``auto`` becomes once the images are known.

Rules for scaling, batch, learning rate, length, class weights and distortions; and one comparison:
``model.name: auto`` trains LeNet-5 and mini-vgg for some epochs on a part of the images, and takes
the one with the lower validation loss. scripts/trial-data measures the result on sets of many
kinds, beside a grid of settings and other methods. docs/recipes.md says how the rules were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from lenet.config.model_section import LENET5, Model
from lenet.config.rules import as_yaml
from lenet.config.schema import Config, differences
from lenet.data.augmentation import MAX_CROP
from lenet.data.catalogue import FORMATS
from lenet.data.dataset import Split
from lenet.data.mapped import take
from lenet.data.measure import ImageFacts
from lenet.data.preprocessing import image_shape
from lenet.data.splits import validation_count
from lenet.errors import GateFailed
from lenet.models.packaged import MINI_VGG_MIN_SIZE
from lenet.optim import OPTIMIZERS, Optimizer
from lenet.system.machine import one_blas_thread
from lenet.train.build import build_trainer
from lenet.train.finetune import with_outputs

SAMPLE = 2000  # images that are measured and compared
RACE_EPOCHS = 12
BUDGET: Final = 1.2e12
"""Multiply-adds of a forward pass over all epochs: a minute or two on two cores."""
PER_IMAGE: Final = 600_000  # multiply-adds that take as long as reading and distorting an image
MAX_EPOCHS, MIN_EPOCHS, MIN_STEPS = 100, 6, 2000
RATES: Final = {"lenet5": 0.04, "mini-vgg": 0.05}  # at a batch of 64
DECAYS: Final = {"lenet5": 5e-4, "mini-vgg": 5e-3}
MIRRORED: Final = 0.75
"""Mirrored images are used if so large a part of the accuracy of nearest neighbours remains."""
RARE = 5  # times more images of the most frequent class: class weights balance the classes
SIDE = 16  # of the thumbnails of which neighbours are compared


def complete(
    config: Config,
    found: Split,
    facts: ImageFacts,
    say: Callable[[str], None],
    *,
    fit_outputs: bool = False,
) -> Config:
    """Return a configuration without ``auto``, and with the input that images and labels need.

    Named data sets have none: their configuration is returned as it is.
    """
    if config.data.name not in FORMATS or len(found.class_names) < 2:
        return config
    images, labels, classes = found.images, found.labels, len(found.class_names)
    count = min(len(images), config.data.limit or len(images))
    rows = np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.intp)
    sample, sample_labels = take(images, rows), labels[rows]
    made = config.with_values(_scaling(config, sample))
    made = made.with_values(_batch(made, count, may_shrink=fit_outputs))
    made = made.with_values(_weights(made, labels, classes))
    made = made.with_values(_augmentation(made, sample, sample_labels, facts))
    if made.model.layers is not None:
        made = with_outputs(made, image_shape(images), classes) if fit_outputs else made
        names = ["lenet5"]  # has no effect
    else:
        options = LENET5.keys() - {"classes", "initializer"}
        plain = all(getattr(made.model, key) == getattr(Model, key) for key in options)
        both = made.model.name == "auto" and made.model.input is None and plain
        names = ["lenet5", "mini-vgg"] if both else [made.model.network]
    networks = [_with_network(made, name, image_shape(images), classes, count) for name in names]
    chosen, about = networks[0], ""
    if len(networks) > 1:
        losses = [_validation_loss(network, sample, sample_labels) for network in networks]
        chosen = networks[int(np.argmin(losses))]
        shown = ", ".join(f"{n} {loss:.3f}" for n, loss in zip(names, losses, strict=True))
        about = f" (validation loss after a short training: {shown})"
    changed = {key: _value(chosen, key) for key in differences(config, chosen)}
    network = [f"{key} {as_yaml(changed[key])}" for key in changed if key.startswith("model.")]
    others = [f"{key} {as_yaml(changed[key])}" for key in changed if not key.startswith("model.")]
    if network:
        say(f"chosen for {count:,} images of {classes} classes: {', '.join(network)}{about}")
    if others:
        say(f"chosen: {', '.join(others)}")
    return chosen


def _value(config: Config, dotted: str) -> object:
    section, _, name = dotted.rpartition(".")
    return getattr(getattr(config, section), name)


def _scaling(config: Config, images: NDArray[np.uint8]) -> dict[str, object]:
    """Return scale and shift by which all levels have mean 0 and variance 1."""
    deviation = float(images.std())
    if config.model.scale is not None or config.model.shift is not None or not deviation:
        return {}
    scale = _rounded(1 / deviation)
    return {"model.scale": scale, "model.shift": _rounded(-scale * float(images.mean()))}


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def _batch(config: Config, count: int, *, may_shrink: bool) -> dict[str, object]:
    """Return a batch for some 30 steps per epoch, from 8 to 64, at most the images there are."""
    trained = count - validation_count(config.data.validation, count)
    most = max(trained, 1)
    if "train.batch_size" in config.open():
        batch = 2 ** int(np.clip(math.log2(most / 20), 3, 6))
        return {"train.batch_size": min(batch, most)}
    return {"train.batch_size": min(config.train.batch_size, most)} if may_shrink else {}


def _weights(config: Config, labels: NDArray[np.integer[Any]], classes: int) -> dict[str, object]:
    """Return class weights where classes are rare."""
    if config.train.class_weights != "auto":
        return {}
    counts = np.bincount(labels, minlength=classes)
    rare = counts.max() > RARE * counts[counts > 0].min()
    return {"train.class_weights": "balanced" if rare else "none"}


def _augmentation(
    config: Config,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    facts: ImageFacts,
) -> dict[str, object]:
    """Return mild affine maps; for photographs windows and light; flips where they do no harm."""
    augment = config.augment
    if not augment.auto:
        return {}
    off: dict[str, object] = {"augment.auto": False}
    if any(getattr(augment, key) for key in (*AFFINE, "elastic_alpha", "stretch", "noise")):
        return off
    side = max(facts.shape[1:])
    made = {**off, "augment.rotation": 10.0, "augment.scale": 0.1, "augment.shear": 0.1}
    made["augment.shift"] = round(min(side / 16, 14.0), 1)
    if facts.paper is None:
        made |= {"augment.crop": min(0.15, MAX_CROP), "augment.chance": 0.5}
        made |= {"augment.brightness": 0.1, "augment.contrast": 0.2}
    if mirrors(images, labels):
        made["augment.flip"] = 0.5
    return made


AFFINE: Final = ("rotation", "scale", "shear", "shift", "flip", "crop")


def mirrors(images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> bool:
    """Return whether mirrored images still look like their class.

    Every image, as it is and mirrored, is classified by the most similar other image: letters,
    digits, and signs that point to a side lose most of that accuracy, photographs hardly any.

    Examples
    --------
    >>> from lenet.data.strokes import draw
    >>> digits, labels = draw(500, seed=0)
    >>> mirrors(digits, labels), mirrors(digits + digits[..., ::-1], labels)
    (False, True)
    """
    thumbnails, mirrored = _thumbnails(images), _thumbnails(images[..., ::-1])
    right = []
    for shown in (thumbnails, mirrored):
        likeness = shown @ thumbnails.T
        np.fill_diagonal(likeness, -np.inf)
        right.append(np.mean(labels[likeness.argmax(axis=1)] == labels))
    return bool(right[1] >= MIRRORED * right[0])


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return images as vectors of length 1 with mean 0, (N, C·SIDE²) at most."""
    N, (C, H, W) = len(images), image_shape(images)
    blurred = uniform_filter(
        images.reshape(N, C, H, W).astype(np.float32), (0, 0, -(-H // SIDE), -(-W // SIDE))
    )
    rows, columns = (np.linspace(0, n - 1, min(n, SIDE)).round().astype(int) for n in (H, W))
    vectors = blurred[:, :, rows[:, None], columns].reshape(N, -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6
    return vectors


def _with_network(
    config: Config, name: str, shape: tuple[int, int, int], classes: int, count: int
) -> Config:
    """Return a configuration with a network for images (C,H,W), and how to train that network."""
    C, H, W = shape
    made = config.with_values({"model.name": name})
    if made.model.input is None:
        _, h, w = made.model.specification().input_shape
        if name == "mini-vgg":
            made = made.with_values(
                {"model.input": (C, max(H, MINI_VGG_MIN_SIZE), max(W, MINI_VGG_MIN_SIZE))}
            )
        elif h < H or w < W:
            made = made.with_values({"model.input": (C, max(H, h), max(W, w))})
    if made.model.layers is None:
        made = made.for_data(classes, C, config.data.title)
    train, batch = made.train, made.train.batch_size
    steps = -(-(count - validation_count(made.data.validation, count)) // batch)
    epochs: int | str = train.epochs
    if epochs == "auto":
        layers = made.model.specification().build().layers
        visits = BUDGET / (sum(layer.multiply_adds for layer in layers) + PER_IMAGE)
        most = max(MAX_EPOCHS, min(2 * MAX_EPOCHS, MIN_STEPS // steps))
        epochs = int(np.clip(round(visits / count), MIN_EPOCHS, most))
    epochs = int(epochs)
    chosen: dict[str, object] = {
        "train.epochs": epochs,
        "train.patience": max(10, epochs // 3) if made.data.validation != 0 else 0,
        "optimizer.lr": _rounded(
            RATES.get(name, RATES["lenet5"])
            * math.sqrt(batch / 64)
            * (OPTIMIZERS[made.optimizer.name].default_lr / Optimizer.default_lr)
        ),
        "optimizer.weight_decay": DECAYS.get(name, DECAYS["lenet5"]),
        "schedule.warmup": min(2.0, epochs / 4),
    }
    still_open = made.open()
    return made.with_values({key: chosen[key] for key in chosen if key in still_open})


@one_blas_thread()
def _validation_loss(
    config: Config, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]
) -> float:
    """Return the validation loss that a network reaches on some images in some epochs."""
    epochs = min(RACE_EPOCHS, config.train.epochs)
    validation = config.data.validation
    short = config.with_values(
        {
            "train.epochs": epochs,
            "train.patience": 0,
            "schedule.warmup": min(config.schedule.warmup, epochs / 4),
            "data.limit": None,
            "data.drawn": 0,
            "data.validation": None if validation else validation,
            "train.teacher": None,
            "train.freeze": None,
            "train.layer_rates": None,
        }
    )
    trainer = build_trainer(short, images, labels)
    try:
        return trainer.run().best_loss
    except GateFailed:
        return math.inf
