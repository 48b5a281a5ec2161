"""LeNet-5 in plain NumPy: every layer a matrix product on the patch matrix.

The public names, for notebooks and programs; docs/api.md shows them at work. They are imported
when they are first used: ``import lenet`` loads not even NumPy, and so the command line answers
at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from lenet.version import __version__ as __version__

if TYPE_CHECKING:
    from lenet.api import Model as Model
    from lenet.api import evaluate as evaluate
    from lenet.api import load as load
    from lenet.api import load_data as load_data
    from lenet.api import prepare as prepare
    from lenet.api import train_step as train_step
    from lenet.config import Config as Config
    from lenet.config import load_config as load_config
    from lenet.errors import LenetError as LenetError
    from lenet.im2col import col2im as col2im
    from lenet.im2col import im2col as im2col
    from lenet.im2col import output_size as output_size
    from lenet.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
    from lenet.metrics import Evaluation as Evaluation
    from lenet.models import lenet5 as lenet5
    from lenet.models import lenet5_layers as lenet5_layers
    from lenet.network import Network as Network
    from lenet.optimizers import make_optimizer as make_optimizer
    from lenet.run import run_training as run_training

_HOMES = {
    # arrays
    "output_size": "lenet.im2col",
    "im2col": "lenet.im2col",
    "col2im": "lenet.im2col",
    # a network, and a step of its training
    "Network": "lenet.network",
    "lenet5": "lenet.models",
    "lenet5_layers": "lenet.models",
    "SoftmaxCrossEntropy": "lenet.losses",
    "make_optimizer": "lenet.optimizers",
    "load_data": "lenet.api",
    "prepare": "lenet.api",
    "train_step": "lenet.api",
    # whole runs, as the command line makes them
    "Config": "lenet.config",
    "load_config": "lenet.config",
    "run_training": "lenet.run",
    # what came of them
    "Model": "lenet.api",
    "load": "lenet.api",
    "Evaluation": "lenet.metrics",
    "evaluate": "lenet.api",
    "LenetError": "lenet.errors",
}

__all__ = [*_HOMES, "__version__"]


class _Package(ModuleType):
    """The package as Python sees it: a public name stands for what it names, always."""

    def __getattr__(self, name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        return getattr(import_module(_HOMES[name]), name)

    def __setattr__(self, name: str, value: object) -> None:
        # Importing the file lenet/im2col.py would put the module in the function's place.
        if name not in _HOMES:
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
