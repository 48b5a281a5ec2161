#!/usr/bin/env python3
"""Measure what a step on many ranks is made of, and hold the model of docs/scaling.md to it.

    python scripts/scaling.py                        print the tables
    python scripts/scaling.py --into docs/scaling.md and put them between the marks of that page

Needs the extra mpi and a quiet machine, some three minutes. The check on a slowed network needs
root, network namespaces and /dev/net/tun (Linux); without them it is left out, and says so.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import json
import math
import os
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

BATCH = 64  # images a rank
STEPS = 50
ROUNDS = 7
PARAMETERS = 61_706
BYTES = 4 * PARAMETERS
RATES = (1, 25)  # Gbit/s
DELAYS = (0.001, 0.005)
SIZES = tuple(2**k for k in range(1, 11))
BEGIN, END = "<!-- figures, written by scripts/scaling.py -->\n", "<!-- end of figures -->\n"

# --- The model ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """The time of a message of m bytes is alpha + beta·m; adding m bytes takes gamma·m."""

    alpha: float
    beta: float
    gamma: float

    def halving(self, p: int) -> float:
        """Allreduce by recursive halving and doubling: 2·log2(p) messages in a row.

        R. Rabenseifner; R. Thakur, R. Rabenseifner, W. Gropp (2005), Optimization of collective
        communication operations in MPICH, section 4.5. What MPICH does above 2 KiB.
        """
        share = (p - 1) / p * BYTES
        return 2 * math.ceil(math.log2(p)) * self.alpha + share * (2 * self.beta + self.gamma)

    def ring(self, p: int) -> float:
        """Allreduce around a ring: as many bytes, 2·(p − 1) messages in a row."""
        share = (p - 1) / p * BYTES
        return 2 * (p - 1) * self.alpha + share * (2 * self.beta + self.gamma)


# --- What runs in every rank --------------------------------------------------------------------


def be_a_rank() -> None:
    """Measure in this rank of an MPI job; rank 0 prints the figures as JSON."""
    import numpy as np
    from mpi4py import MPI

    from lenet.config.schema import Config
    from lenet.parallel.communicator import SingleProcess
    from lenet.parallel.mpi import MPICommunicator
    from lenet.training.build import build_trainer
    from lenet.training.events import Callback, EpochEvent

    comm, ranks = MPI.COMM_WORLD, MPICommunicator(MPI)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS * BATCH * comm.size, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images), dtype=np.uint8)

    class Last(Callback):
        def on_epoch(self, event: EpochEvent, best: bool, snapshot: object) -> None:  # noqa: ARG002
            self.seconds = event.seconds

    def step(workers: MPICommunicator | SingleProcess) -> float:
        """Return the seconds of a step, without the first epoch, which makes the buffers."""
        count = STEPS * BATCH * workers.size
        values = {
            "data.validation": 0,
            "train.batch_size": BATCH * workers.size,
            "train.epochs": 2,
            "optimizer.lr": 1e-3,
        }
        config = Config().with_values(values)
        trainer = build_trainer(config, images[:count], labels[:count], workers)
        last = Last()
        comm.Barrier()
        trainer.run([last])
        return last.seconds / STEPS

    def one_way(size: int, times: int = 200) -> float:
        """Return the seconds of a message of ``size`` bytes between ranks 0 and 1."""
        message, seconds = np.zeros(size, np.uint8), []
        for _ in range(times + 20):
            start = time.perf_counter()
            if comm.rank == 0:
                comm.Send(message, 1)
                comm.Recv(message, 1)
            elif comm.rank == 1:
                comm.Recv(message, 0)
                comm.Send(message, 0)
            seconds.append((time.perf_counter() - start) / 2)
        return statistics.median(seconds[20:])

    def add() -> float:
        """Return the seconds of adding two vectors of gradients."""
        a, b = np.ones((2, PARAMETERS), np.float32)
        seconds = []
        for _ in range(500):
            start = time.perf_counter()
            np.add(a, b, out=a)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    turns = [(step(SingleProcess()), step(ranks)) for _ in range(ROUNDS)]
    compute, whole = (statistics.median(turn) for turn in zip(*turns, strict=True))
    found = {"compute": compute, "step": whole, "add": add()}
    if comm.size == 2:
        found |= {"small": one_way(8), "large": one_way(BYTES)}
    if comm.rank == 0:
        print(json.dumps(found))


def measure(ranks: int, *options: str, **environment: str) -> dict[str, float]:
    """Run the ranks; return what they measured."""
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ["PATH"]]))
    if mpiexec is None:
        sys.exit("scripts/scaling.py: error: there is no mpiexec; pip install 'lenet[mpi]'")
    if ranks > (os.cpu_count() or 1):
        environment |= PATIENT
    print(f"measuring {ranks} ranks {' '.join(environment.values())}", file=sys.stderr)
    done = subprocess.run(
        [mpiexec, *options, "-n", str(ranks), sys.executable, __file__, "--rank"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# What lenet.mpi sets where ranks share processors; here a rank may share one with the network.
PATIENT = {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1", "MPIR_CVAR_POLLS_BEFORE_YIELD": "10"}
TCP = {  # as if every rank were on a machine of its own
    "MPIR_CVAR_NOLOCAL": "1",
    "UCX_TLS": "tcp,self",
    "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": "reduce_scatter_allgather",
}


def link_of(found: dict[str, float]) -> Link:
    alpha = found["small"]
    return Link(alpha, (found["large"] - alpha) / BYTES, found["add"] / BYTES)


# --- A network as slow as wanted ----------------------------------------------------------------


@contextmanager
def slow_network(hosts: int, delay: float, rate: float) -> Iterator[list[str]]:
    """Give every rank a network namespace; between them every packet is late by ``delay``.

    The namespaces hang on a switch: a process that reads their packets and hands them on after
    the delay, and after the time that ``rate`` (bytes a second) leaves to the link before it.
    Linux has this in the kernel (tc netem), but not every kernel has it.

    Yields
    ------
    What mpiexec must be told.
    """
    names = {k: f"lenet{k}" for k in [*range(1, hosts + 1), 254]}
    taps = {k: _tun(name) for k, name in names.items()}
    context = get_context("fork")
    switch = context.Process(target=_switch, args=(taps, delay, rate), daemon=True)
    try:
        for k, name in names.items():
            inside = []
            if k != 254:  # mpiexec itself stays outside
                _ip("netns", "add", name)
                _ip("link", "set", name, "netns", name)
                inside = ["-n", name]
                _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "address", "add", f"10.77.0.{k}/24", "dev", name)
            _ip(*inside, "link", "set", name, "mtu", "65520", "up")
        switch.start()
        with tempfile.TemporaryDirectory() as place:
            enter = Path(place) / "enter"
            enter.write_text(
                '#!/bin/sh\n[ "$1" = -x ] && shift\nhost=${1##*.}\nshift\n'
                'exec ip netns exec "lenet$host" sh -c "$*"\n'
            )
            enter.chmod(0o755)
            addresses = ",".join(f"10.77.0.{k}" for k in range(1, hosts + 1))
            yield [
                *("-iface", names[254], "-launcher", "ssh", "-launcher-exec", str(enter)),
                *("-hosts", addresses),
            ]
    finally:
        if switch.is_alive():
            switch.kill()
            switch.join()
        for fd in taps.values():
            os.close(fd)  # the device goes with it
        for k in range(1, hosts + 1):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", names[k])


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stderr=subprocess.DEVNULL)


def _tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    tun_set_interface, packets_only = 0x400454CA, 0x1001
    fcntl.ioctl(fd, tun_set_interface, struct.pack("16sH22x", name.encode(), packets_only))
    return fd


def _switch(taps: dict[int, int], delay: float, rate: float) -> None:
    """Hand on packets, each when it is due."""
    free = dict.fromkeys(taps, 0.0)
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select(list(taps.values()), [], [], timeout)
        now = time.monotonic()
        for fd in readable:
            packet = os.read(fd, 65536)
            if packet[0] >> 4 == 4 and packet[19] in taps:  # IPv4, by the last byte of the address
                to = packet[19]
                free[to] = max(now, free[to]) + len(packet) / rate
                count += 1
                heapq.heappush(waiting, (free[to] + delay, count, taps[to], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, fd, packet = heapq.heappop(waiting)
            with suppress(OSError):
                os.write(fd, packet)


# --- The tables ---------------------------------------------------------------------------------


def table(head: str, rows: list[list[str]]) -> str:
    names = head.split(" | ")
    rule = ["---", *["---:"] * (len(names) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [names, rule, *rows])


def us(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f}" if seconds >= 9.95e-6 else f"{1e6 * seconds:.1f}"


def compared(name: str, compute: float, together: float, measured: float) -> list[str]:
    predicted = compute + together
    return [
        name,
        us(compute),
        us(together),
        us(predicted),
        us(measured),
        f"{measured / predicted:.2f}",
    ]


COMPARED = "ranks | compute µs | allreduce µs, predicted | step µs, predicted | step µs, measured | measured / predicted"  # noqa: E501


def figures() -> str:
    from lenet.system.machine import processor_name

    alone, two, four = (measure(ranks) for ranks in (1, 2, 4))
    tcp = measure(2, **TCP)
    shared, network = link_of(two), link_of(tcp)
    gbit = {r: Link(network.alpha, max(8e-9 / r, network.beta), network.gamma) for r in RATES}
    load = os.getloadavg()[0]
    parts = [
        f"`python scripts/scaling.py`, {time.strftime('%Y-%m-%d')}; {processor_name()}, "
        f"{os.cpu_count()} cores, load {load:.1f} at the end.\n",
        f"Compute: {us(alone['compute'])} µs for a step of {BATCH} images on one rank alone, "
        f"{1e6 * alone['compute'] / BATCH:.1f} µs an image. A message of m bytes takes α + β·m:\n",
        table(
            "between two ranks | α µs | β ns a byte | Gbit/s | γ ns a byte",
            [
                [
                    name,
                    us(k.alpha),
                    *(f"{x:.3g}" for x in (1e9 * k.beta, 8e-9 / k.beta, 1e9 * k.gamma)),
                ]
                for name, k in (("shared memory", shared), ("TCP on one machine", network))
            ],
        ),
        f"Predicted efficiency at batch {BATCH} a rank:\n",
        table(
            "ranks | "
            + " | ".join(f"{r} Gbit/s, {kind}" for r in RATES for kind in ("halving", "ring")),
            [
                [f"{p:,}"]
                + [
                    f"{alone['compute'] / (alone['compute'] + cost(p)):.0%}"
                    for r in RATES
                    for cost in (gbit[r].halving, gbit[r].ring)
                ]
                for p in SIZES
            ],
        ),
        "First check, ranks on this machine over shared memory and over TCP:\n",
        table(
            COMPARED,
            [
                compared("2, shared memory", two["compute"], shared.halving(2), two["step"]),
                compared("4, shared memory", four["compute"], shared.halving(4), four["step"]),
                compared("2, TCP", tcp["compute"], network.halving(2), tcp["step"]),
            ],
        ),
        *_second_check(),
    ]
    return "\n".join(parts)


def _second_check() -> list[str]:
    """Compare on a network of 1 Gbit/s with a delay; the switch's own time is measured too."""
    if os.name != "posix" or os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        return ["Second check left out: it needs root, network namespaces and /dev/net/tun.\n"]
    with slow_network(2, 0, 1e12) as options:
        switch = link_of(measure(2, *options, **TCP, **PATIENT))
    rows = []
    for ranks in (2, 4):
        for delay in DELAYS:
            with slow_network(ranks, delay, 1e9 / 8) as options:
                found = measure(ranks, *options, **TCP, **PATIENT)
            link = Link(switch.alpha + delay, max(8e-9, switch.beta), switch.gamma)
            name = f"{ranks}, {1e3 * delay:g} ms"
            rows.append(compared(name, found["compute"], link.halving(ranks), found["step"]))
    return [
        "Second check, ranks in network namespaces, 1 Gbit/s and a delay on every message "
        f"(the switch itself: α {us(switch.alpha)} µs, β {1e9 * switch.beta:.2f} ns a byte):\n",
        table(COMPARED, rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, metavar="PAGE", help="page to put the figures into")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    chosen: Any = parser.parse_args()
    if chosen.rank:
        be_a_rank()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no namespace behind
    text = figures()
    print(text)
    if chosen.into:
        before, _, rest = chosen.into.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        chosen.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
