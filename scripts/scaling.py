#!/usr/bin/env python3
"""Measure the parts of a step on several ranks, and compare them with the model in docs/scaling.md.

    python scripts/scaling.py                        print the tables
    python scripts/scaling.py --into docs/scaling.md and write them between the marks of that page

Needs the extra mpi and an idle machine, for about two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = 64  # images a rank
STEPS = 50
ROUNDS = 7
PARAMETERS = 61_706
BYTES = 4 * PARAMETERS
RATES = (1, 25)  # Gbit/s
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


# --- The ranks ----------------------------------------------------------------------------------


def run_rank() -> None:
    """Measure in this rank of an MPI job; rank 0 prints the results as JSON."""
    import numpy as np
    from mpi4py import MPI

    from lenet.config.schema import Config
    from lenet.parallel.communicator import SingleProcess
    from lenet.parallel.mpi import MPICommunicator
    from lenet.train.build import build_trainer
    from lenet.train.events import Callback, EpochEvent

    comm, ranks = MPI.COMM_WORLD, MPICommunicator(MPI)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS * BATCH * comm.size, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images), dtype=np.uint8)

    class Last(Callback):
        def on_epoch(self, event: EpochEvent, best: bool, snapshot: object) -> None:  # noqa: ARG002
            self.seconds = event.seconds

    def step(workers: MPICommunicator | SingleProcess) -> float:
        """Return the seconds of a step, without the first epoch, which allocates the buffers."""
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


def measure(ranks: int, **environment: str) -> dict[str, float]:
    """Run the ranks; return their measurements."""
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ["PATH"]]))
    if mpiexec is None:
        sys.exit("scripts/scaling.py: error: there is no mpiexec; pip install 'lenet[mpi]'")
    if ranks > (os.cpu_count() or 1):
        environment |= PATIENT
    print(f"measuring {ranks} ranks {' '.join(environment.values())}", file=sys.stderr)
    done = subprocess.run(
        [mpiexec, "-n", str(ranks), sys.executable, __file__, "--rank"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# As in lenet.parallel.mpi, where ranks share processors.
PATIENT = {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1", "MPIR_CVAR_POLLS_BEFORE_YIELD": "10"}
TCP = {  # as if each rank ran on another machine
    "MPIR_CVAR_NOLOCAL": "1",
    "UCX_TLS": "tcp,self",
    "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": "reduce_scatter_allgather",
}


def link_of(found: dict[str, float]) -> Link:
    alpha = found["small"]
    return Link(alpha, (found["large"] - alpha) / BYTES, found["add"] / BYTES)


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


def tables() -> str:
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
        "Ranks on this machine, over shared memory and over TCP:\n",
        table(
            COMPARED,
            [
                compared("2, shared memory", two["compute"], shared.halving(2), two["step"]),
                compared("4, shared memory", four["compute"], shared.halving(4), four["step"]),
                compared("2, TCP", tcp["compute"], network.halving(2), tcp["step"]),
            ],
        ),
    ]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, metavar="PAGE", help="page to write the tables to")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    chosen: Any = parser.parse_args()
    if chosen.rank:
        run_rank()
        return
    text = tables()
    print(text)
    if chosen.into:
        before, _, rest = chosen.into.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        chosen.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
