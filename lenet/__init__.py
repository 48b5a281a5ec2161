"""LeNet-5 in plain NumPy: every layer is a matrix product on the patch matrix.

The public names, for notebooks and programs; docs/api.md has examples. They are imported on first
use (PEP 562): ``import lenet`` does not load NumPy, so the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lenet.version import __version__ as __version__

if TYPE_CHECKING:
    from lenet.api import evaluate as evaluate
    from lenet.api import load_data as load_data
    from lenet.api import prepare as prepare
    from lenet.api import train_step as train_step
    from lenet.config.reader import load_config as load_config
    from lenet.config.schema import Config as Config
    from lenet.errors import LenetError as LenetError
    from lenet.evaluation.metrics import Evaluation as Evaluation
    from lenet.model import Model as Model
    from lenet.model import load as load
    from lenet.models.lenet5 import lenet5 as lenet5
    from lenet.models.lenet5 import lenet5_layers as lenet5_layers
    from lenet.models.registry import register_layer as register_layer
    from lenet.nn.gradcheck import check_layer as check_layer
    from lenet.nn.im2col import col2im as col2im
    from lenet.nn.im2col import im2col as im2col
    from lenet.nn.im2col import output_size as output_size
    from lenet.nn.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
    from lenet.nn.network import Network as Network
    from lenet.optim.optimizers import make_optimizer as make_optimizer
    from lenet.train.log import History as History
    from lenet.train.run import run_training as run_training

_MODULES = {
    # arrays
    "output_size": "lenet.nn.im2col",
    "im2col": "lenet.nn.im2col",
    "col2im": "lenet.nn.im2col",
    # a network and a training step
    "Network": "lenet.nn.network",
    "lenet5": "lenet.models.lenet5",
    "lenet5_layers": "lenet.models.lenet5",
    "SoftmaxCrossEntropy": "lenet.nn.losses",
    "check_layer": "lenet.nn.gradcheck",
    "register_layer": "lenet.models.registry",
    "make_optimizer": "lenet.optim.optimizers",
    "load_data": "lenet.api",
    "prepare": "lenet.api",
    "train_step": "lenet.api",
    # complete runs, as from the command line
    "Config": "lenet.config.schema",
    "load_config": "lenet.config.reader",
    "run_training": "lenet.train.run",
    # a network with its preprocessing and class names
    "Model": "lenet.model",
    "History": "lenet.train.log",
    "load": "lenet.model",
    "Evaluation": "lenet.evaluation.metrics",
    "evaluate": "lenet.api",
    "LenetError": "lenet.errors",
}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
