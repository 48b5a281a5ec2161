"""The packaged networks by name; each is a file of its own in this folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from lenet.errors import ConfigError
from lenet.models import caffe_lenet, lenet5, lenet5_1998, mini_vgg
from lenet.models.specification import Specification
from lenet.system.registry import lookup
from lenet.system.text import listed

MODELS: Final[dict[str, Callable[..., Specification]]] = {
    "lenet5": lenet5.specification,
    "lenet5-1998": lenet5_1998.specification,
    "caffe-lenet": caffe_lenet.specification,
    "mini-vgg": mini_vgg.specification,
}


def model_options(name: str) -> dict[str, object]:
    """Return the options of a packaged network with their defaults."""
    made = lookup(MODELS, name, key="model.name")
    return {k: p.default for k, p in inspect.signature(made).parameters.items()}


def packaged_model(name: str, options: Mapping[str, Any] | None = None) -> Specification:
    """Return a packaged network as data.

    Parameters
    ----------
    name
        A name of :data:`MODELS`.
    options
        Such as ``channels``; each network has its own.

    Raises
    ------
    ConfigError
        There is no such network, or it has no such option.

    Examples
    --------
    >>> packaged_model("lenet5", {"channels": (4, 8)}).parameter_shapes()["C3.weight"]
    (8, 4, 5, 5)
    """
    known = model_options(name)
    for option in options or {}:
        if option not in known:
            raise ConfigError(
                f"is not an option of {name}",
                remedy=f"its options are {listed(known, 'and')}" if known else "it has none",
                key=f"model.{option}",
            )
    return MODELS[name](**(options or {}))
