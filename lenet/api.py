"""Functions of the Python API: images, a training step, the evaluation of a checkpoint.

Each function is a few lines on top of the packages below.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array
from lenet.checkpoint.restore import read_checkpoint
from lenet.data.arrays import image_array
from lenet.data.dataset import Split, load_dataset
from lenet.data.preprocessing import Preprocessing
from lenet.evaluation.ensemble import evaluate_checkpoints
from lenet.evaluation.metrics import Evaluation
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.optim.optimizers import Optimizer
from lenet.system.machine import one_blas_thread


def load_data(
    name: str | PathLike[str],
    split: str = "train",
    directory: str | PathLike[str] | None = None,
    size: tuple[int, int] | Literal["auto"] | None = "auto",
) -> Split:
    """Return the ``train`` or ``test`` images of a data set, with labels and class names.

    Parameters
    ----------
    name
        A name in the catalogue, such as ``mnist``, or ``strokes``, which needs no file; or the path
        of your own data: a directory of IDX files, a directory with a directory of pictures for
        every class, a .npz or a .csv file.
    split
        ``train`` or ``test``.
    directory
        Searched first, before the cache and the download; by default what the environment variable
        ``LENET_DATA_DIR`` names.
    size
        Height and width that pictures are scaled to; ``auto`` is their median size, but at most
        32×32, and None requires that all have the same.

    Returns
    -------
    A ``Split`` of ``images`` uint8 (N,H,W) or (N,C,H,W), ``labels`` (N,) and ``class_names``.

    Raises
    ------
    LenetError
        There is no such data set, or its files are missing, damaged or cannot be downloaded.
    """
    return load_dataset(fspath(name), split, dir=directory, size=size)


def prepare(
    images: NDArray[np.uint8],
    preprocessing: Preprocessing | None = None,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Convert images, 0 background, 255 ink, to network inputs (N,C,H,W), (N,1,32,32) by default.

    Parameters
    ----------
    images
        uint8 (N,H,W), (N,C,H,W), or another layout of :func:`lenet.data.levels.pictures`.
    preprocessing, dtype
        Of the network.

    Raises
    ------
    DataError
        The images are not uint8, of another layout, or do not fit the network.

    Examples
    --------
    Black paper is −0.1, white ink 1.175, as in Y. LeCun et al. (1998):

    >>> x = prepare(np.full((5, 28, 28), 255, np.uint8))
    >>> x.shape, f"{x[0, 0, 0, 0]:.3f}", f"{x[0, 0, 16, 16]:.3f}"
    ((5, 1, 32, 32), '-0.100', '1.175')
    """
    preprocessing = preprocessing or Preprocessing()
    x = preprocessing.prepare(image_array(images, preprocessing.input_shape), dtype)
    return x.transpose(3, 0, 1, 2)


def train_step(
    network: Network,
    loss: SoftmaxCrossEntropy,
    optimizer: Optimizer,
    images: Array,
    labels: NDArray[np.integer[Any]],
    lr: float,
    t: int,
) -> float:
    """Update the weights with the gradient of one batch.

    Parameters
    ----------
    network, loss, optimizer
        The optimizer is for ``network.parameters``.
    images, labels
        (N,C,H,W), preprocessed for the network, and (N,).
    lr
        Learning rate.
    t
        Number of the step, starting at 1.

    Returns
    -------
    The loss before the step.

    Examples
    --------
    >>> from lenet.models.lenet5 import lenet5
    >>> from lenet.optim.optimizers import make_optimizer
    >>> rng = np.random.default_rng(0)
    >>> network = lenet5()
    >>> network.initialize(rng)
    >>> loss, rule = SoftmaxCrossEntropy(10), make_optimizer("nesterov", network.parameters.size)
    >>> images, labels = rng.normal(size=(20, 1, 32, 32)), rng.integers(0, 10, 20)
    >>> losses = [train_step(network, loss, rule, images, labels, 0.01, t) for t in range(1, 9)]
    >>> losses[-1] < losses[0]
    True
    """
    x = np.ascontiguousarray(images.transpose(1, 2, 3, 0), network.dtype)
    before = loss.forward(network.forward(x), labels)
    network.backward(loss.backward())
    optimizer.step(network.parameters, network.gradients, lr, t)
    return before


@one_blas_thread()
def evaluate(
    checkpoint: str | PathLike[str], split: str = "test", directory: str | None = None
) -> Evaluation:
    """Evaluate a checkpoint on its own data set, as ``lenet eval`` does.

    Parameters
    ----------
    checkpoint
        The file.
    split
        ``test``, ``validation`` or ``train``.
    directory
        Searched first for the data.

    Raises
    ------
    LenetError
        The checkpoint or the data cannot be read.
    """
    return evaluate_checkpoints([read_checkpoint(checkpoint)], split, directory=directory)[0]
