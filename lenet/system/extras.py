"""Optional extras: modules imported where they are used, with the command that installs them.

The five core dependencies are imported as usual; all others are imported by :func:`require`, so
that a missing extra gives a one-line error with the exact command and exit code 4.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lenet.errors import SystemFailure


def require(module: str, extra: str) -> Any:  # noqa: ANN401 - a module has no better type
    """Import and return ``module``, which the optional ``extra`` of this package installs.

    Examples
    --------
    >>> require("no_such_module", extra="viz")
    Traceback (most recent call last):
    lenet.errors.SystemFailure: no_such_module: is not installed; pip install 'lenet[viz]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise SystemFailure(
            "is not installed", remedy=f"pip install 'lenet[{extra}]'", file=module
        ) from None
