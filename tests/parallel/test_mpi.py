"""A training run on several ranks: what it computes, how it ends, what is refused.

The ranks are processes under mpiexec, on this machine. Skipped where the extra ``mpi`` is missing.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from runs import STATEFUL, assert_same_state, checkpoint, log, timeless
from scripted import load_script
from tiny import write_bars

from lenet.cli import main
from lenet.config.schema import Config, to_yaml
from lenet.models.lenet5 import lenet5
from lenet.parallel.launch import VARIABLES
from lenet.train.run import run_training

ROOT = Path(__file__).resolve().parents[2]
OURS = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
MPI_NAMES = tuple(name for pair in VARIABLES for name in pair)


@cache
def mpiexec() -> tuple[str, str]:
    """The mpiexec of this Python, or "" and why there is none."""
    if importlib.util.find_spec("mpi4py") is None:
        return "", "mpi4py is not installed: pip install 'lenet[mpi]'"
    beside = str(Path(sys.executable).parent)
    found = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ["PATH"]]))
    if found is None:
        return "", "there is no mpiexec: pip install 'lenet[mpi]'"
    ask = "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"
    command = [found, "-n", "2", sys.executable, "-c", ask]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "", f"{found} does not start two processes within a minute"
    if "".join(done.stdout.split()) != "22":  # their lines may mix
        return "", f"{found} does not connect two processes: {(done.stdout + done.stderr)[:200]}"
    return found, ""


@pytest.fixture(scope="module")
def launcher() -> str:
    found, why = mpiexec()
    if not found:
        pytest.skip(why)
    return found


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, object]:
    return write_bars(tmp_path_factory.mktemp("bars"))


@pytest.fixture
def configured(keys, tmp_path):
    """Make a configuration of the tiny data set; the run is in ``tmp_path / name``."""

    def make(name: str = "run", **changes: object) -> Config:
        given = {key.replace("__", "."): value for key, value in changes.items()}
        return Config().with_values({**keys, "output.dir": str(tmp_path / name), **given})

    return make


@pytest.fixture
def start(launcher, tmp_path):
    """Start ``lenet train`` on several ranks, or a script."""
    running = []

    def begin(ranks: int, config: Config, *options: str, script: str = "") -> subprocess.Popen[str]:
        file = tmp_path / f"{Path(config.output.dir).name}.yaml"
        file.write_text(to_yaml(config))
        command = ["lenet", "train", "--config", str(file), "--workers", "mpi"]
        if script:
            (tmp_path / "script.py").write_text(script)
            command = ["mpi4py", str(tmp_path / "script.py"), str(file)]
        process = subprocess.Popen(
            [launcher, "-n", str(ranks), sys.executable, "-m", *command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": OURS},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


# --- What it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "ranks", "tolerance"),
    [
        ("float64", 1, 0),
        ("float64", 2, 1e-10),
        ("float64", 4, 1e-10),
        ("float32", 2, 1e-5),
        ("float32", 4, 1e-5),
    ],
)
def test_one_step_is_that_of_one_process(configured, start, precision, ranks, tolerance):
    """65 images in uneven parts; weighted right, the step is that of one process."""
    options = {
        "data__limit": 66,
        "data__validation": 1,
        "train__batch_size": 65,
        "train__epochs": 1,
        "train__precision": precision,
    }
    one, many = configured("one", **options), configured("many", **options)
    process = start(ranks, many)
    run_training(one)
    finish(process)
    a, b = checkpoint(one), checkpoint(many)
    assert (a.step, b.step, b.facts["workers"]) == (1, 1, ranks)
    for name in a.parameters:
        np.testing.assert_allclose(b.parameters[name], a.parameters[name], rtol=0, atol=tolerance)
    assert log(many)[0]["train_loss"] == pytest.approx(log(one)[0]["train_loss"], rel=1e-6)
    assert log(many)[0]["val_loss"] == pytest.approx(log(one)[0]["val_loss"], rel=1e-5)


STOP = """
import sys
from pathlib import Path
from mpi4py import MPI
from runs import StopAfter
from lenet.config.reader import load_config
from lenet.train.run import run_training
config = load_config(Path(sys.argv[1]), ["train.workers=mpi"])
outcome = run_training(config, callbacks=[StopAfter(step=11)])
assert outcome.signal == (15 if MPI.COMM_WORLD.rank == 0 else None), outcome
assert outcome.workers == 2
"""


def test_two_ranks_give_the_same_bits_every_time_and_after_a_stop(configured, start):
    """By the command line and by a script of one's own."""
    again, twice, parts = (configured(name, **STATEFUL) for name in ("again", "twice", "parts"))
    finish(start(2, again))
    finish(start(2, twice))
    assert_same_state(checkpoint(again), checkpoint(twice))
    finish(start(2, parts, script=STOP))
    assert checkpoint(parts).step == 12
    finish(start(2, parts, "--resume"))
    assert_same_state(checkpoint(again), checkpoint(parts))
    assert timeless(log(again)) == timeless(log(parts))


def test_data_that_are_not_mapped_reach_all_ranks(configured, start, keys, tmp_path):
    packed = {}
    for key in ("data.train_images", "data.train_labels"):
        packed[key] = str(tmp_path / f"{key}.gz")
        Path(packed[key]).write_bytes(gzip.compress(Path(keys[key]).read_bytes()))
    mapped = configured("mapped")
    sent = configured("sent").with_values(packed)
    finish(start(2, sent))
    finish(start(2, mapped))
    assert_same_state(checkpoint(sent), checkpoint(mapped))


def test_only_the_first_rank_prints(configured, start):
    config = configured()
    out, err = finish(start(2, config, "--json"))
    result = json.loads(out)  # one object, not two
    assert result["workers"] == 2
    assert result["last"] == log(config)[-1]
    opening, *epochs = err.splitlines()
    assert opening.startswith("training on idx with 2 workers")
    assert len(epochs) == config.train.epochs


def test_lr_batch_scales_the_rate_with_the_batch(configured):
    for batch, rate in ((16, 0.01), (32, 0.02), (48, 0.03)):
        config = configured(
            str(batch),
            train__batch_size=batch,
            train__epochs=1,
            optimizer__lr=0.01,
            optimizer__lr_batch=16,
            schedule__name="constant",
        )
        run_training(config)
        assert log(config)[0]["lr"] == pytest.approx(rate)


@pytest.mark.parametrize("ranks", [2, 4, 1024])
def test_the_model_of_an_allreduce_is_its_messages_one_by_one(ranks):
    """Halves of the vector, quarters … to the parts of single ranks, and all the way back."""
    scaling = load_script("scaling.py")
    alpha, beta, gamma = 3e-5, 2e-9, 1e-10
    halving, size = 0.0, scaling.BYTES
    for _ in range(int(math.log2(ranks))):
        size /= 2
        halving += 2 * (alpha + beta * size) + gamma * size
    ring = (ranks - 1) * (2 * (alpha + beta * size) + gamma * size)
    link = scaling.Link(alpha, beta, gamma)
    assert link.halving(ranks) == pytest.approx(halving)
    assert link.ring(ranks) == pytest.approx(ring)
    assert lenet5().parameters.size == scaling.PARAMETERS


# --- How it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "line", "options"),
    [
        (2, "unknown key; did you mean train.epochs?", ["--set", "train.epoch=3"]),
        (2, "No such option '--epochs'", ["--epochs", "3"]),
        (2, "already contains a run", ["--output", "."]),
        (2, "2 workers cannot share a batch of 1", ["--set", "train.batch_size=1"]),
        (3, "nowhere: ", ["--set", "data.train_images=nowhere"]),
        (
            5,
            "training has diverged",
            ["--quiet", "--set", "optimizer.lr=900", "--set", "train.epochs=50"],
        ),
    ],
)
def test_an_error_is_one_line_and_ends_the_job(
    configured, start, tmp_path, monkeypatch, code, line, options
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "last.npz").touch()  # "." contains a run
    process = start(2, configured(schedule__name="constant"), *options)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("lenet: error: ")
    assert line in err


ABORTING = """
import os, sys
from types import ModuleType, SimpleNamespace
from lenet.parallel.launch import abort_job
mpi = sys.modules["mpi4py.MPI"] = ModuleType("mpi4py.MPI")
mpi.Is_initialized = lambda: True
mpi.COMM_WORLD = SimpleNamespace(size=2, Abort=os._exit)
print("lenet: error: what happened", file=sys.stderr, flush=True)
abort_job(3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes that say how full they are there")
def test_a_job_is_not_aborted_before_its_line_is_read():
    command = [sys.executable, "-c", ABORTING]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        assert process.communicate(timeout=60)[1] == b"lenet: error: what happened\n"
    assert process.returncode == 3


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_srun_started_trains_alone_unless_mpi_is_requested(
    configured, tmp_path, capsys, monkeypatch, rank
):
    monkeypatch.setenv("PMI_RANK", rank)
    monkeypatch.setenv("PMI_SIZE", "2")
    (tmp_path / "alone.yaml").write_text(to_yaml(configured()))
    options = ["--config", tmp_path / "alone.yaml", "--output", tmp_path / "alone"]
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, options)])
    assert end.value.code == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        "lenet: warning: mpiexec or srun started 2 processes: each trains alone; --workers mpi "
        "makes them train one network"
    )
    assert (tmp_path / "alone" / "best.npz").exists()


@pytest.mark.parametrize(("rank", "size"), [("1", "4"), ("x", "4"), ("-1", ""), ("0x1", "2")])
def test_an_error_of_an_independent_process_is_printed(tmp_path, capsys, monkeypatch, rank, size):
    monkeypatch.setenv("PMI_RANK", rank)
    monkeypatch.setenv("PMI_SIZE", size)
    with pytest.raises(SystemExit) as end:
        main(["eval", str(tmp_path / "missing.npz")])
    assert end.value.code == 3
    assert "missing.npz" in capsys.readouterr().err


BLIND = """
import sys
from pathlib import Path
import numpy as np
from mpi4py import MPI
from lenet.config.reader import load_config
from lenet.train.run import run_training
config = load_config(Path(sys.argv[1]), ["train.workers=mpi"])
if MPI.COMM_WORLD.rank == 1:
    class Gone:
        def __new__(cls, *_): raise FileNotFoundError(2, "No such file or directory")
    np.memmap = Gone
run_training(config)
"""


def test_a_rank_that_does_not_find_the_data_reports_it_and_ends_the_job(configured, start):
    process = start(2, configured(), script=BLIND)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (3, 1), err
    assert err.startswith("lenet: error: rank 1 on ")
    assert "train-images: cannot be mapped here as on rank 0: [Errno 2] No such file" in err


def processes_below(pid: int) -> list[int]:
    """The living descendants of a process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found = [pid]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found[1:]


def shared_by_mpich() -> set[Path]:
    return set(Path("/dev/shm").glob("mpich_shm_*"))


@pytest.fixture
def shared_before() -> set[Path]:
    """What MPICH shared for other jobs; to be asked for before one is started."""
    return shared_by_mpich()


@pytest.fixture
def endless(configured, start):
    """A run of two ranks in the middle of its work."""
    config = configured(train__epochs=100_000)
    process = start(2, config, "--quiet")
    while not (Path(config.output.dir) / "last.npz").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return config, process


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "mpiexec"])
def test_a_killed_process_ends_the_job_and_the_run_is_resumed_elsewhere(
    shared_before, endless, start, victim
):
    config, process = endless
    family = processes_below(process.pid)
    environments = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in family}
    pids = {
        f"rank {rank}": next(p for p in family if b"PMI_RANK=%d" % rank in environments[p])
        for rank in (0, 1)
    }
    killed = time.monotonic()
    os.kill({**pids, "mpiexec": process.pid}[victim], signal.SIGKILL)
    _, err = process.communicate(timeout=20)
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < killed + 8:
        time.sleep(0.05)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()], "an orphan"
    assert not shared_by_mpich() - shared_before, "what MPICH shared"
    assert process.returncode != 0
    assert "Traceback" not in err

    step = checkpoint(config).step  # the last one is whole
    again = start(1, config, "--resume", "--quiet")
    while checkpoint(config).step == step:
        assert again.poll() is None, again.communicate()
        time.sleep(0.02)
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=20)
    assert "the run started with different workers: the last bits may differ" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_mpiexec_saves_and_ends_within_a_few_steps(endless, number):
    config, process = endless
    before = checkpoint(config).step
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert err.count("lenet: stopped by signal") == 1
    assert before < checkpoint(config).step < before + 1000


# --- What is refused without MPI ----------------------------------------------------------------


def refused(tmp_path: Path, environment: dict[str, str], before: str = "") -> tuple[int, str]:
    """Ask for ranks in a fresh process of its own, without mpiexec."""
    code = (
        f"{before}\nfrom lenet.cli import main\n"
        f"main(['train', '--workers', 'mpi', '--output', {str(tmp_path / 'run')!r}])"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in MPI_NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": OURS, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_without_mpiexec(tmp_path):
    assert refused(tmp_path, {}) == (
        2,
        "lenet: error: train.workers: is mpi, but mpiexec did not start this process; start it "
        "with mpiexec -n 4 lenet train --workers mpi …, or use --workers auto\n",
    )


def test_without_the_extra(tmp_path):
    as_of_two = {"PMI_RANK": "0", "PMI_SIZE": "2"}
    missing = (
        "import sys\n"
        "class Nowhere:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'mpi4py': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Nowhere())"
    )
    assert refused(tmp_path, as_of_two, missing) == (
        4,
        "lenet: error: mpi4py: is not installed; pip install 'lenet[mpi]'\n",
    )
    assert refused(tmp_path, {**as_of_two, "PMI_RANK": "1"}, missing) == (4, "")


def test_mpiexec_of_another_mpi(tmp_path, launcher):
    """Its processes do not know of each other: each thinks that it is alone."""
    stranger = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
    code, err = refused(tmp_path, stranger)
    assert (code, err.count("\n")) == (4, 1)
    assert "mpiexec started 2 processes, mpi4py sees 1; use the mpiexec of " in err
