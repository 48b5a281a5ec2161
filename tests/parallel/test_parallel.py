"""Several processes over shared memory: what they share, how they start, what prevents them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import Pipe, Process, current_process
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from tiny import write_bars

from lenet.checkpoint.restore import read_checkpoint
from lenet.config.schema import Config, to_yaml
from lenet.errors import ConfigError, SystemFailure, WorkersUnavailable
from lenet.optim.averaging import Average
from lenet.parallel import process_group, shared_memory, spawn, worker
from lenet.parallel.communicator import Communicator, SingleProcess
from lenet.parallel.process_group import ProcessGroup
from lenet.train.events import Callback
from lenet.train.run import run_training

SHM = Path("/dev/shm")
ROOT = Path(__file__).resolve().parents[2]
NEEDS_SHM = pytest.mark.skipif(not SHM.is_dir(), reason="this system has no /dev/shm")


def segments() -> list[str]:
    """The names of this process's segments that are still there."""
    return [path.name for path in SHM.glob(f"lenet-{os.getpid()}-*")] if SHM.is_dir() else []


# --- What is shared -----------------------------------------------------------------------------


STEPS, RATE, BETA = 5, 0.1, 0.9


def gradient(size: int, step: int, rank: int) -> np.ndarray:
    return np.random.default_rng([size, step, rank]).normal(size=size)


def update(vectors: list[np.ndarray], gradients: np.ndarray, part: slice) -> None:
    """An optimizer of three vectors: momentum, second moment, and its maximum (AMSGrad)."""
    w, m, v, peak = (vector[part] for vector in vectors)
    g = gradients[part]
    m *= BETA
    m += (1 - BETA) * g
    v *= BETA
    v += (1 - BETA) * g * g
    np.maximum(peak, v, out=peak)
    w -= RATE * m / (np.sqrt(peak) + 1e-8)


def train_with_three_vectors(
    communicator: Communicator, arrays: dict[str, np.ndarray], size: int
) -> tuple[list[np.ndarray], np.ndarray]:
    weights = communicator.zeros(size, np.float64)
    gradients = communicator.gradient_buffer(size, np.float64)
    state = [communicator.zeros(size, np.float64) for _ in range(3)]
    average = Average(weights, 0.5, zeros=communicator.zeros)
    communicator.barrier()
    for step in range(STEPS):
        gradients[:] = gradient(size, step, communicator.rank)
        part, figures = communicator.sum_gradients(np.array([communicator.rank, 1.0]))
        assert figures.tolist() == [sum(range(communicator.size)), communicator.size]
        update([weights, *state], gradients, part)
        average.update(weights, step + 1, part)
        communicator.barrier()
    return [weights, *state], average.weights


@pytest.mark.parametrize(("workers", "size"), [(2, 1), (2, 300_001), (3, 1000)])
def test_an_optimizer_of_three_vectors_and_an_average_fit(workers, size):
    """Whatever is asked for is there, and the same as in one process."""
    with ProcessGroup(workers) as group:
        communicator = group.start(train_with_three_vectors, {}, size)
        shared, average = train_with_three_vectors(communicator, {}, size)
        found = [vector.copy() for vector in (*shared, average)]
        del shared, average
        group.finish()

    vectors = [np.zeros(size) for _ in range(4)]
    single = Average(vectors[0], 0.5)
    for step in range(STEPS):
        total = gradient(size, step, 0)
        for rank in range(1, workers):
            total = total + gradient(size, step, rank)
        update(vectors, total, slice(None))
        single.update(vectors[0], step + 1, slice(None))
    for ours, expected in zip(found, (*vectors, single.weights), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert segments() == []


def part_of(communicator: Communicator, arrays: object, uncut: list[tuple[int, int]]) -> slice:
    gradients = communicator.gradient_buffer(100, np.float64, uncut)
    gradients[:] = communicator.rank + 1
    part, _ = communicator.sum_gradients(np.zeros(1))
    assert (gradients[part] == 3).all()
    return part


@pytest.mark.parametrize(
    ("uncut", "cut"),
    [([], 50), ([(10, 50), (50, 60)], 50), ([(10, 90)], 90), ([(40, 100)], 40), ([(0, 100)], 100)],
)
def test_a_part_of_the_gradients_cuts_no_matrix(uncut, cut):
    with ProcessGroup(2) as group:
        communicator = group.start(part_of, {}, uncut)
        assert part_of(communicator, {}, uncut) == slice(0, cut)
        group.finish()


def sum_many(communicator: Communicator, arrays: object, size: int) -> None:
    figures = np.arange(size) * (communicator.rank + 1.0)
    np.testing.assert_array_equal(communicator.sum_figures(figures), 3.0 * np.arange(size))


@pytest.mark.parametrize("size", [1, 256, 1000])
def test_figures_are_summed_however_many(size):
    with ProcessGroup(2) as group:
        sum_many(group.start(sum_many, {}, size), {}, size)
        group.finish()


def see(communicator: Communicator, arrays: dict[str, np.ndarray], job: int) -> None:
    assert arrays["images"].sum() == job
    assert not isinstance(communicator, SingleProcess)
    communicator.barrier()


def test_an_array_is_shared_by_copy(tmp_path):
    images = np.arange(1000, dtype=np.uint8).reshape(10, 10, 10)
    with ProcessGroup(2) as group:
        shared, handle = group.share(images)
        assert np.array_equal(shared, images)
        assert not np.shares_memory(shared, images)
        total = int(images.sum())
        see(group.start(see, {"images": handle}, total), {"images": shared}, total)
        group.finish()
        assert segments() == []  # the names are gone as soon as all have opened them
        del shared


# --- How workers start --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, object]:
    return write_bars(tmp_path_factory.mktemp("bars"))


@pytest.fixture
def config(keys, tmp_path) -> Config:
    values = {"output.dir": str(tmp_path / "run"), "train.epochs": 1, "train.workers": 2}
    return Config().with_values({**keys, **values})


PROGRAM = """
from lenet import run_training
from lenet.config.reader import load_config
from pathlib import Path
print("once")
{before}
run_training(load_config(Path("config.yaml"), []), warn=print)
"""


def by_path(program: str, *command: str) -> tuple[list[str], None]:
    Path("program.py").write_text(program)
    return [sys.executable, *command], None


WAYS = {
    "standard input": lambda program: ([sys.executable, "-"], program),
    "a file without the guard": lambda program: by_path(program, "program.py"),
    "-m without the guard": lambda program: by_path(program, "-m", "program"),
    "runpy": lambda program: by_path(
        program, "-c", "import runpy; runpy.run_path('program.py', run_name='__main__')"
    ),
    "exec, as in a notebook": lambda program: by_path(
        program, "-c", "exec(compile(open('program.py').read(), '<cell>', 'exec'), {})"
    ),
    "a file that is gone": lambda program: by_path(
        f"import os; os.remove(__file__)\n{program}", "program.py"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_workers_start_from_any_program_and_it_runs_once(config, tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(to_yaml(config))
    command, text = WAYS[way](PROGRAM.format(before=""))
    ended = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "once\n", "")
    assert read_checkpoint(tmp_path / "run" / "last.npz").facts["workers"] == 2


def test_a_process_is_started_without_the_main_module(monkeypatch):
    seen = []
    monkeypatch.setattr(spawn.SpawnProcess, "start", lambda _: seen.append(given()))

    def given() -> dict[str, object]:
        return spawn.spawn.get_preparation_data("lenet-1")

    before = spawn.spawn.get_preparation_data
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "program.py", raising=False)
    spawn.Process().start()
    assert spawn.spawn.get_preparation_data is before
    assert "init_main_from_path" in given()
    assert seen == [{k: v for k, v in given().items() if k != "init_main_from_path"}]


@pytest.mark.parametrize("main", [None, object()], ids=["none", "without a specification"])
def test_a_program_without_a_proper_main_module(monkeypatch, main):
    """As under pdb, which empties it."""
    if main is None:
        monkeypatch.delitem(sys.modules, "__main__")
    else:
        monkeypatch.setitem(sys.modules, "__main__", main)
    described = []
    monkeypatch.setattr(
        spawn.SpawnProcess,
        "start",
        lambda _: described.append(spawn.spawn.get_preparation_data("lenet-1")),
    )
    spawn.Process().start()
    assert sys.modules.get("__main__") is main
    assert described[0]["sys_argv"] == sys.argv


OWN_LAYER = """
from pathlib import Path
from lenet import run_training
from lenet.config.reader import load_config
from lenet.models.registry import register_layer
{definition}
register_layer("head", Head)
layers = "[{{type: convolution, filters: 4, kernel: 5}}, {{type: head, units: 3}}]"
overrides = [f"model.layers={{layers}}", "model.input=[1, 32, 32]", "train.workers={workers}"]
run_training(load_config(Path("config.yaml"), overrides), warn=print)
"""
CLASS = "from lenet.nn.linear import Linear\nclass Head(Linear): pass\n"
LOCAL = (
    "from lenet.nn.linear import Linear\n"
    "def made():\n    class Head(Linear): pass\n    return Head\nHead = made()\n"
)


def own_layer(tmp_path: Path, config: Config, definition: str, workers: object):
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "heads.py").write_text(CLASS)
    program = OWN_LAYER.format(definition=definition, workers=workers)
    return subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
        timeout=60,
        check=False,
    )


def test_a_registered_layer_of_an_importable_module_is_registered_in_the_workers(config, tmp_path):
    ended = own_layer(tmp_path, config, "from heads import Head", 2)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert trained_by_two(tmp_path)


def trained_by_two(tmp_path: Path) -> bool:
    """As the checkpoint says, which cannot be read here, where its layer is unknown."""
    return b'"workers":2' in (tmp_path / "run" / "last.npz").read_bytes()


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (CLASS, "a worker cannot import what it needs: Can't get attribute 'Head'"),
        (LOCAL, "cannot be sent to a worker: Can't "),  # pickle, or get, a local object
    ],
)
def test_a_layer_of_the_main_program_trains_in_one_worker(config, tmp_path, definition, reason):
    """What workers would have to import is in no module: two are refused, auto takes one."""
    ended = own_layer(tmp_path, config, definition, 2)
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert ended.stderr.count("Traceback") < 3  # of this program, and of what caused it
    assert last.startswith(f"lenet.errors.NotImportable: train.workers: {reason}")
    assert last.endswith("move it to an importable module, or use --workers 1")
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) > 1:
        ended = own_layer(tmp_path, config, definition, "auto")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(f"training with one worker instead of 2: {reason}")


# --- What prevents them -------------------------------------------------------------------------


def no_process(monkeypatch) -> None:
    def refuse(_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(spawn.Process, "start", refuse)


def no_room(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shared_memory, "_take_room", refuse)


def no_address_space(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(shared_memory, "_take_room", refuse)


def test_no_process(monkeypatch):
    no_process(monkeypatch)
    with pytest.raises(WorkersUnavailable) as caught:
        ProcessGroup(2)
    assert str(caught.value) == (
        f"train.workers: worker 1 cannot be started: {os.strerror(errno.EAGAIN)}; check the "
        "working directory and the limit on processes, or use --workers 1"
    )


def test_the_second_process_is_refused(monkeypatch):
    """The first has been started, and is ended."""
    start, started = spawn.Process.start, []

    def sometimes(process: Process) -> None:
        if started:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        start(process)
        started.append(process)

    monkeypatch.setattr(spawn.Process, "start", sometimes)
    with pytest.raises(WorkersUnavailable, match="worker 2 cannot be started"):
        ProcessGroup(3)
    assert not started[0].is_alive()


def test_a_process_that_may_have_no_children(monkeypatch):
    monkeypatch.setitem(current_process()._config, "daemon", True)
    with pytest.raises(WorkersUnavailable, match="a daemonic process may not start others"):
        ProcessGroup(2)


@pytest.mark.parametrize("executable", [None, "", "/no/such/python"])
def test_no_python_to_start(monkeypatch, executable):
    """As in a program that embeds Python."""
    monkeypatch.setattr(spawn.spawn, "_python_exe", executable)
    with pytest.raises(WorkersUnavailable, match="there is no Python to start at '"):
        ProcessGroup(2)


@NEEDS_SHM
def test_room_that_another_run_takes_for_a_moment_is_waited_for(monkeypatch):
    full = iter([errno.ENOSPC, errno.ENOSPC, 0])

    def allocate(*_: object) -> None:
        if number := next(full):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(shared_memory.os, "posix_fallocate", allocate)
    monkeypatch.setattr(shared_memory, "MAX_PAUSE", 0.0)
    segment = shared_memory.create_segment(f"lenet-test-{os.getpid()}", 100, "the images")
    segment.close()
    shared_memory.unlink(segment)
    assert next(full, None) is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows frees shared memory by itself")
@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EROFS", "ENOSPC"])
def test_a_segment_that_cannot_be_made_is_not_registered(monkeypatch, name):
    """Otherwise Python would print a warning of it at the end of the program."""
    number, registered = getattr(errno, name), set()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(shared_memory, "SharedMemory", refuse)
    tracker = shared_memory.resource_tracker
    monkeypatch.setattr(tracker, "register", lambda segment, _: registered.add(segment))
    monkeypatch.setattr(tracker, "unregister", lambda segment, _: registered.remove(segment))
    with pytest.raises(WorkersUnavailable) as caught:
        shared_memory.create_segment("lenet-test", 100, "the images")
    assert registered == set()
    assert os.strerror(number) in caught.value.problem
    assert ("MiB are free" in caught.value.problem) == (
        name == "ENOSPC" and shared_memory.SHM.is_dir()
    )


@NEEDS_SHM
def test_no_room(monkeypatch):
    """One line with the need, what is free, the system's own reason, and the remedy."""
    no_room(monkeypatch)
    usage = shared_memory.shutil.disk_usage("/")._replace(free=8 << 20)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SystemFailure) as caught, ProcessGroup(2) as group:
        group.share(np.zeros((16, 1 << 20), np.uint8))
    assert str(caught.value) == (
        "train.workers: the images need 16 MiB of shared memory, 8 MiB are free: "
        f"{os.strerror(errno.ENOSPC)}; enlarge it (docker run --shm-size=256m) or use --workers 1"
    )
    assert segments() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes the room late")
@NEEDS_SHM
def test_room_is_taken_not_looked_at():
    """All pages of a segment are there before one of them is written."""
    segment = shared_memory.create_segment(f"lenet-{os.getpid()}-room", 3 << 20, "the workers")
    try:
        assert 512 * (SHM / segment.name).stat().st_blocks >= 3 << 20
    finally:
        segment.close()
        segment.unlink()


def test_no_address_space(monkeypatch):
    no_address_space(monkeypatch)
    with pytest.raises(MemoryError), ProcessGroup(2) as group:
        group.share(np.zeros(9, np.uint8))
    assert segments() == []


def test_numpy_that_cannot_be_imported_in_a_worker_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "lenet.parallel.shared_memory", None)
    ours, theirs = Pipe()
    monkeypatch.setattr(worker.os, "_exit", lambda code: ours.send(code))
    monkeypatch.setattr(worker, "_receive", lambda _: pytest.fail("it went on"))
    worker.run_worker(theirs)
    error = ours.recv()
    assert isinstance(error, WorkersUnavailable)
    assert error.problem.startswith("a worker cannot import NumPy: ")
    assert theirs.recv() == 1


def has_no_address_space(communicator: Communicator, arrays: object, job: object) -> None:
    if communicator.rank:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    communicator.barrier()


def test_no_address_space_in_a_worker():
    with pytest.raises(MemoryError), ProcessGroup(2) as group:
        has_no_address_space(group.start(has_no_address_space, {}, None), {}, None)


def killed(pipe: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_worker_that_is_killed_while_it_starts(monkeypatch):
    """With one worker it might have been possible: the limit on memory is of all together."""
    monkeypatch.setattr(process_group, "run_worker", killed)
    with pytest.raises(WorkersUnavailable) as caught, ProcessGroup(2) as group:
        group.start(see, {}, None)
    assert caught.value.problem.endswith(" died, killed by SIGKILL")
    assert "--workers 1" in caught.value.remedy


@NEEDS_SHM
def test_a_signal_while_a_process_group_ends_leaves_no_memory(monkeypatch):
    unlink = SharedMemory.unlink

    def interrupted(segment: SharedMemory) -> None:
        signal.raise_signal(signal.SIGINT)
        unlink(segment)

    with pytest.raises(KeyboardInterrupt), ProcessGroup(2) as group:  # noqa: PT012 - at its end
        group.share(np.zeros(9, np.uint8))
        monkeypatch.setattr(SharedMemory, "unlink", interrupted)
    assert segments() == []


class Started(Callback):
    def __init__(self) -> None:
        self.workers: list[int] = []

    def on_start(self, workers: int) -> None:
        self.workers.append(workers)


@pytest.mark.parametrize(
    ("prevent", "reason"),
    [
        (no_process, "worker 1 cannot be started: Resource temporarily unavailable"),
        (no_room, "No space left on device"),
        (no_address_space, "out of memory"),
    ],
)
def test_auto_trains_with_one_worker_where_two_cannot_be_had(config, monkeypatch, prevent, reason):
    prevent(monkeypatch)
    with pytest.raises((WorkersUnavailable, MemoryError)):
        run_training(config)  # two are demanded
    monkeypatch.setattr("lenet.parallel.launch.usable_cores", lambda: 2)
    started, warnings = Started(), []
    config = config.with_values({"train.workers": "auto"})
    result = run_training(config, callbacks=[started], warn=warnings.append)
    assert (result.workers, started.workers) == (1, [1])
    assert len(warnings) == 1
    assert warnings[0].startswith("training with one worker instead of 2: ")
    assert reason in warnings[0]
    alone = replace_output(config, "alone")
    run_training(alone.with_values({"train.workers": 1}))
    ours, expected = (read_checkpoint(Path(c.output.dir) / "last.npz") for c in (config, alone))
    for name, values in expected.parameters.items():
        np.testing.assert_array_equal(ours.parameters[name], values)


def replace_output(config: Config, name: str) -> Config:
    directory = Path(config.output.dir).with_name(name)
    return replace(config, output=replace(config.output, dir=str(directory)))


@pytest.mark.parametrize(("wanted", "count"), [(2, 2), ("auto", 2), ("auto", 1)])
def test_callbacks_receive_the_number_of_workers(config, monkeypatch, wanted, count):
    monkeypatch.setattr("lenet.parallel.launch.usable_cores", lambda: count)
    started = Started()
    run_training(config.with_values({"train.workers": wanted}), callbacks=[started])
    assert started.workers == [count]


def test_more_workers_than_images_are_refused_before_anything_starts(config, monkeypatch):
    no_process(monkeypatch)
    with pytest.raises(ConfigError, match="33 workers cannot share a batch of 32"):
        run_training(config.with_values({"train.workers": 33}))
