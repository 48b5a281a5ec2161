"""Processes that do not import the user's main program again.

``multiprocessing`` starts a process by importing the main module anew, which needs a file, and the
guard ``if __name__ == "__main__":`` in it. The processes of this package run functions of this
package only, so they leave the main module alone: training with several workers starts from a
notebook, a here-document or a script without the guard just as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock
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


@contextmanager
def _without_main() -> Iterator[None]:
    """Remove the location of the main module from the data sent to a new process."""
    with _patching:
        complete = spawn.get_preparation_data

        def reduced(name: str) -> dict[str, Any]:
            data = complete(name)
            return {key: data[key] for key in data if not key.startswith("init_main_from_")}

        spawn.get_preparation_data = reduced
        try:
            yield
        finally:
            spawn.get_preparation_data = complete
