"""Processes that do not import the user's main program again.

``multiprocessing`` starts a process by importing the main module again, which needs a file, and the
guard ``if __name__ == "__main__":`` in it. The processes of this package run functions of this
package only, so they leave the main module alone: training with several workers starts from a
notebook, a here-document or a script without the guard just as well.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock
from types import ModuleType
from typing import Any

_patching = Lock()


class Process(SpawnProcess):
    """A spawned process whose ``__main__`` is empty."""

    def start(self) -> None:
        with _without_main():
            super().start()


class Context(SpawnContext):
    """The context of :class:`Process`, for pools too."""

    Process = Process


def check_executable() -> None:
    """Check that there is a Python to start: a program that embeds Python may not name it."""
    executable = os.fsdecode(spawn.get_executable() or "")
    if not os.access(executable, os.X_OK):
        raise OSError(errno.ENOENT, f"there is no Python to start at {executable!r}")


@contextmanager
def _without_main() -> Iterator[None]:
    """Describe an empty main module to a new process, whatever this program's is."""
    with _patching:
        describe = spawn.get_preparation_data

        def describe_without_main(name: str) -> dict[str, Any]:
            main = sys.modules.get("__main__")
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return describe(name)
            finally:
                if main is None:
                    del sys.modules["__main__"]
                else:
                    sys.modules["__main__"] = main

        spawn.get_preparation_data = describe_without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = describe
