"""Errors of training in several processes; importing them does not load NumPy."""

from __future__ import annotations

from lenet.errors import ConfigError, SystemFailure


class WorkerDied(SystemFailure):
    """A worker process ended before its work did."""


class WorkersUnavailable(SystemFailure):
    """The system cannot provide processes or shared memory for more than one worker."""


class NotImportable(ConfigError):
    """Something that workers need is defined where they cannot import it, as in a notebook."""
