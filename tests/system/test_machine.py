"""How many workers there are, and how many threads BLAS has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lenet.bench import measured_processes, speed
from lenet.cli import COMMANDS, main
from lenet.errors import ConfigError
from lenet.parallel import launch
from lenet.system import machine
from lenet.system.machine import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system sets no affinity")
def test_affinity_counts():
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); "
    code = one + "from lenet.system.machine import usable_cores; print(usable_cores())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


# --- Quotas of control groups -------------------------------------------------------------------

V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
OTHERS = (
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


def tree(root: Path, mounts: str, own: str, files: dict[str, str]) -> Path:
    """A file system with the groups of this process, what is mounted where, and quotas."""
    content = {"proc/self/cgroup": own, "proc/self/mountinfo": OTHERS + mounts}
    for name, text in (content | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.replace("\xe9", "\udce9").encode("utf-8", "surrogateescape"))
    return root


def v2(group: str, quota: str) -> dict[str, str]:
    return {f"sys/fs/cgroup{group}/cpu.max": f"{quota}\n"}


def v1(group: str, quota: int, period: int = 100_000) -> dict[str, str]:
    place = f"sys/fs/cgroup/cpu,cpuacct{group}"
    return {f"{place}/cpu.cfs_quota_us": f"{quota}\n", f"{place}/cpu.cfs_period_us": f"{period}\n"}


SLICE = "/system.slice/job.service"
INSIDE = V2.replace("0:28 / ", "0:28 /docker/1f ")  # a container that sees only its own group


@pytest.mark.parametrize(
    ("mounts", "own", "files", "expected"),
    [
        ("", "", {}, 8),
        (V2, "0::/\n", {}, 8),
        # the quota of the root, as a container with a name space of its own sees it
        (V2, "0::/\n", v2("", "max 100000"), 8),
        (V2, "0::/\n", v2("", "150000 100000"), 1),
        (V2, "0::/\n", v2("", "400000 100000"), 4),
        (V2, "0::/\n", v2("", "30000 100000"), 1),
        # one's own group, and every group above it
        (V2, f"0::{SLICE}\n", v2(SLICE, "300000 100000"), 3),
        (V2, f"0::{SLICE}\n", v2("/system.slice", "200000 100000") | v2(SLICE, "max 100000"), 2),
        (V2, f"0::{SLICE}\n", v2("/system.slice", "5000 1000") | v2(SLICE, "600000 100000"), 5),
        (V2, f"0::{SLICE}\n", v2("/other.slice", "100000 100000"), 8),
        # version 1, alone and beside version 2
        (V1, "4:cpu,cpuacct:/\n", v1("", 200_000), 2),
        (V1, "4:cpu,cpuacct:/\n", v1("", -1), 8),
        (V1, "4:cpuacct,cpu:/a/job\n", v1("/a", 250_000, 50_000) | v1("/a/job", -1), 5),
        (HYBRID, "4:cpu,cpuacct:/a/b\n0::/a/b\n", v1("/a/b", 100_000), 1),
        (HYBRID, "9:name=systemd:/x\n0::/\n", v1("", 300_000), 3),
        # a container without a name space: its group is named as on the host
        (INSIDE, "0::/docker/1f\n", v2("", "200000 100000"), 2),
        (INSIDE, "0::/docker/1f/job\n", v2("/job", "100000 100000"), 1),
        (INSIDE, "0::/../elsewhere\n", v2("", "200000 100000"), 2),
        # one place mounted in another; a space in its name; a source without a name
        (
            V1.replace("0:29 / /sys/fs/cgroup/cpu,cpuacct", r"0:29 /pod /my\040groups/cpu"),
            "4:cpu,cpuacct:/pod/1\n",
            {
                "my groups/cpu/cpu.cfs_quota_us": "300000\n",
                "my groups/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (V1.replace("- cgroup cgroup", "- cgroup "), "4:cpu,cpuacct:/\n", v1("", 300_000), 3),
        # names in Latin-1, and with what Python would take for the end of a line
        (
            "50 22 8:2 / /mnt/caf\xe9\u2028 rw - ext4 /dev/sdb1 rw\n" + V2,
            "0::/caf\xe9\n",
            v2("", "300000 100000"),
            3,
        ),
        # what cannot be read as a quota
        (V2, "0::/\n", v2("", "nonsense"), 8),
        (V2, "0::/\n", v2("", "1000 0") , 8),
        (V1, "4:cpu,cpuacct:/\n", {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n"}, 8),
    ],
)  # fmt: skip
def test_the_least_quota_on_the_way_to_the_root_counts(
    tmp_path, monkeypatch, mounts, own, files, expected
):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores(tree(tmp_path, mounts, own, files)) == expected


def test_affinity_counts_below_the_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert usable_cores(tree(tmp_path, V2, "0::/\n", v2("", "400000 100000"))) == 2


def test_systems_without_affinity_or_control_groups(tmp_path, monkeypatch):
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
    monkeypatch.setattr(machine.os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


# --- Workers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "expected"), [(8, 1), (31, 1), (32, 2), (64, 4), (4096, 8)])
def test_auto_leaves_every_worker_sixteen_images(monkeypatch, batch, expected):
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    assert launch.choose_workers("auto", batch) == expected


def test_more_workers_than_images():
    assert launch.choose_workers(4, 4) == 4
    with pytest.raises(ConfigError, match="5 workers cannot share a batch of 4"):
        launch.choose_workers(5, 4)


def test_threads_that_the_user_set_stay(monkeypatch):
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    machine.limit_blas_threads(1)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_limits_blas_to_one_thread(monkeypatch, command):
    """The products are small: more threads would wait for each other. Bits vary with them, too."""
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert {os.environ.pop(name) for name in machine.THREAD_VARIABLES} == {"1"}


def test_blas_is_limited_before_numpy_is_imported():
    code = (
        "import sys, lenet.cli as cli\n"
        "assert 'numpy' not in sys.modules\n"
        "limit = cli.limit_blas_threads\n"
        "cli.limit_blas_threads = lambda n: print(n, 'numpy' in sys.modules) or limit(n)\n"
        "cli.main(['summary'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("1 False\n")


ONE_THREAD = """
import os
import numpy
from lenet.system import machine
get, limit = machine._openblas()
limit(2)  # whatever the number of cores
counted = []
with machine.one_blas_thread():
    counted.append((get(), os.environ.get("OPENBLAS_NUM_THREADS")))
    with machine.one_blas_thread():
        counted.append(get())
    counted.append(get())
counted.append((get(), os.environ.get("OPENBLAS_NUM_THREADS")))
print(counted)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "[(1, '1'), 1, 1, (2, None)]"),
        ({"OPENBLAS_NUM_THREADS": "2"}, "[(2, '2'), 2, 2, (2, '2')]"),  # as the user wants it
    ],
)
def test_blas_is_limited_after_numpy_is_imported(given, expected):
    """In a notebook, or another program."""
    get, _ = machine._openblas()
    if not hasattr(get, "restype"):  # a function of a library
        pytest.skip("this NumPy has no OpenBLAS")
    environment = {k: v for k, v in os.environ.items() if k not in machine.THREAD_VARIABLES}
    ran = subprocess.run(
        [sys.executable, "-c", ONE_THREAD],
        env=environment | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"{expected}\n"


def test_another_blas_is_left_alone(monkeypatch):
    monkeypatch.setattr(machine, "OPENBLAS_NAMES", ())
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with machine.one_blas_thread():
        assert os.environ["MKL_NUM_THREADS"] == "1"  # of the workers
    assert "MKL_NUM_THREADS" not in os.environ


def test_what_is_measured_has_the_threads_that_it_is_to_have(monkeypatch):
    """The programs that lenet bench starts are not limited by the limit of lenet bench."""
    environments = []
    monkeypatch.setattr(
        measured_processes.subprocess, "Popen", lambda *_, env, **__: environments.append(env)
    )
    for name in machine.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    measured_processes.Program("version", threads=3)
    assert {environments[0][name] for name in machine.THREAD_VARIABLES} == {"3"}
    assert {case.cores for case in speed.competing_cases("torch", 64)} == {1, usable_cores()}
