"""The errors of working with several processes. They need no NumPy."""

from __future__ import annotations

from lenet.system.errors import ConfigError, SystemFailure


class WorkerDied(SystemFailure):
    """A worker process ended before its work did."""


class WorkersUnavailable(SystemFailure):
    """There is no process, or no memory to share, for more than one worker."""


class NotImportable(ConfigError):
    """Something that workers need is defined where they cannot import it, as in a notebook."""
