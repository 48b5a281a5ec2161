"""Errors that a user can cause or encounter, each with an exit code and a one-line remedy.

Every error that reaches the command line as a :class:`LenetError` is printed as ``lenet: error:
<file>: <key>: <problem>; <what to do>``; anything else that reaches it is an internal error (exit
code 1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike, fspath
from typing import ClassVar

from lenet.system.text import printable


class LenetError(Exception):
    """A problem with its remedy, and where known the file and the key it is about.

    Parameters
    ----------
    problem
        What is wrong, without a final full stop.
    remedy
        What the user can do about it.
    file
        The file, directory or address.
    key
        The configuration key, array name, option, line or index in it.

    Examples
    --------
    >>> print(ConfigError("must be above 0, is -1", remedy="give a positive number",
    ...                   file="mnist.yaml", key="optimizer.lr"))
    mnist.yaml: optimizer.lr: must be above 0, is -1; give a positive number
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: str | PathLike[str] | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.file = None if file is None else fspath(file)
        self.key = key

    def __reduce__(self) -> tuple[Callable[..., LenetError], tuple[str]]:
        make = partial(type(self), remedy=self.remedy, file=self.file, key=self.key)
        return make, (self.problem,)  # a worker's error is pickled and sent to the first process

    def __str__(self) -> str:
        where = [part for part in (self.file, self.key) if part]
        return printable(": ".join([*where, f"{self.problem}; {self.remedy}"]))


class ConfigError(LenetError):
    """The configuration or the command line is wrong (exit code 2)."""

    exit_code = 2


class OrderError(ConfigError, AttributeError):
    """A network or a layer was called in the wrong order, such as backward before forward."""


class DataError(LenetError, ValueError):
    """A data file is missing, damaged or not what it should be (exit code 3)."""

    exit_code = 3


class CheckpointError(LenetError):
    """A checkpoint is missing, damaged or of another network (exit code 3)."""

    exit_code = 3


class ImageError(LenetError):
    """An image file cannot be read as an image (exit code 3)."""

    exit_code = 3


class MissingConfigError(ConfigError, FileNotFoundError):
    """There is no configuration file of this name."""


class MissingDataError(DataError, FileNotFoundError):
    """There is no data file or directory of this name."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no checkpoint of this name."""


class MissingImageError(ImageError, FileNotFoundError):
    """There is no image file of this name."""


def missing(failure: type[LenetError]) -> type[LenetError]:
    """Return the class of errors for a missing file: a ``failure`` and a FileNotFoundError.

    Examples
    --------
    >>> missing(DataError).__name__, missing(SystemFailure).__name__
    ('MissingDataError', 'SystemFailure')
    """
    classes = failure.__subclasses__()
    return next((kind for kind in classes if issubclass(kind, FileNotFoundError)), failure)


class SystemFailure(LenetError):
    """The environment fails: disk, permission, network, memory, a missing extra (exit code 4)."""

    exit_code = 4


class GateFailed(LenetError):
    """Training diverged, or a result fails a required check (exit code 5)."""

    exit_code = 5


class WorkerDied(SystemFailure):
    """A worker process ended before its work did."""


class WorkersUnavailable(SystemFailure):
    """The system cannot provide processes or shared memory for more than one worker."""


class NotImportable(ConfigError):
    """Something that workers need is defined where they cannot import it, as in a notebook."""
