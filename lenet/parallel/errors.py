"""The errors of working with several processes. They need no NumPy."""

from __future__ import annotations

from lenet.system.errors import SystemFailure


class WorkerDied(SystemFailure):
    """A worker process ended before its work did."""


class WorkersUnavailable(SystemFailure):
    """There is no process, or no memory to share, for more than one worker."""
