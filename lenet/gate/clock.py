"""A clock for timing code on a busy machine: it stops while the thread waits for a core.

Neither of Python's own clocks will do. The wall clock (``time.perf_counter``) also counts the time
that other programs use: beside a busy loop on the same core every step takes twice as long, and
sound code fails. Processor time (``time.thread_time``) leaves out sleeping and waiting for a disk,
so a change that makes every step sleep passes.
"""

from __future__ import annotations

import time
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds on a core, nanoseconds waiting for one, number of time slices."""


def seconds() -> float:
    """Return the wall clock's time less the time that this thread has waited for a core.

    Where the system does not report the waiting (anywhere but on Linux), this is the wall clock.
    """
    waited = _waited()
    while True:
        now, before = time.perf_counter(), waited
        waited = _waited()
        if waited == before:  # otherwise the thread had to wait between the two readings
            return now - waited


def _waited() -> float:
    try:
        return int(SCHEDSTAT.read_bytes().split()[1]) * 1e-9
    except OSError:
        return 0.0
