"""The processes of a benchmark: programs of :mod:`lenet.bench.programs`, and their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lenet.errors import ConfigError, DataError, GateFailed, LenetError, SystemFailure
from lenet.system.machine import THREAD_VARIABLES

POLL_SECONDS = 0.2
END_SECONDS = 5.0

ERRORS: dict[int, type[LenetError]] = {
    error.exit_code: error for error in (ConfigError, DataError, SystemFailure, GateFailed)
}


class Program:
    """A running program of :mod:`lenet.bench.programs`, which prints one answer after another.

    A context manager: on leaving it, the process ends.
    """

    def __init__(self, name: str, *, threads: int, **arguments: object) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - this Python, this package
            [sys.executable, "-m", "lenet.bench.programs", name, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches only this process, which ends the other one
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)),
        )

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        line = self.process.stdout.readline()
        if not line:
            raise SystemFailure(
                f"a measured process ended with code {self.process.wait()}",
                remedy="see its message above; if it was killed because memory was short, use "
                "fewer workers",
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ERRORS[answer["exit_code"]](**answer["error"])
        return answer

    def next(self) -> dict[str, Any]:
        """Let the program continue, and wait for its next answer."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # the process has ended, and there is no answer
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.answer()

    def answer_and_memory(self) -> tuple[dict[str, Any], int | None]:
        """Wait for the next answer; return it with the peak of the resident memory until then."""
        peak = None
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.answer)
            while not answer.done():
                wait([answer], timeout=POLL_SECONDS)
                now = resident_memory(self.process.pid)
                peak = now if peak is None else max(peak, now or 0)
        return answer.result(), peak

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=END_SECONDS)  # it ends when stdin is closed
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def resident_memory(pid: int) -> int | None:
    """Return the resident bytes of a process and its descendants.

    This is the sum of PSS in ``/proc/<pid>/smaps_rollup``, in which a page that several processes
    share counts in part for each; None where there is no such file.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:  # the process has ended, or this is not Linux
        return None
    return own + sum(resident_memory(child) or 0 for child in children)


def peak_memory(processes: int) -> int | None:
    """Return the peak of the resident bytes of this process and of its workers.

    The system reports the largest of the ended children only; each worker counts with its peak.
    What processes share counts in full for each. None where the system does not report it.
    """
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return unit * (own + (processes - 1) * largest)
