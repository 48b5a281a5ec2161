"""In a Jupyter kernel: training with workers and a progress bar, figures in the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_bars

from lenet.config.schema import Config, to_yaml
from lenet.system.machine import usable_cores

ROOT = Path(__file__).resolve().parents[2]

CELLS = [
    """
from pathlib import Path
from lenet import run_training
from lenet.config.reader import load_config
from lenet.train.callbacks import Display

print("once")
config = load_config(Path("config.yaml"), [])
display = Display(config.train.epochs, lambda workers: f"training with {workers} workers")
result = run_training(config, callbacks=[display])
result.workers, result.last.epoch
""",
    """
%matplotlib inline
from lenet.inspect import plots
from lenet.checkpoint.restore import read_checkpoint, restore_network
network = restore_network(read_checkpoint(Path("run") / "best.npz"))
plots.filters(network, ["C5"])
""",
    """
from lenet import register_layer
from lenet.nn.linear import Linear

class Head(Linear):
    pass

register_layer("head", Head)
layers = [{"type": "convolution", "filters": 2, "kernel": 5}, {"type": "head", "F": 3}]
keys = {"model.layers": layers, "train.workers": "auto", "output.dir": "own"}
run_training(config.with_values(keys), warn=print).workers
""",
]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Run cells in a kernel; return each one's outputs."""
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.chdir(tmp_path)

    def run(cells: list[str]) -> list[list[dict[str, object]]]:
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(
            page, timeout=120, kernel_name="python3", resources={"metadata": {"path": "."}}
        ).execute()
        return [cell.outputs for cell in page.cells]

    return run


def text(outputs: list[dict[str, object]], stream: str) -> str:
    return "".join(str(o["text"]) for o in outputs if o.get("name") == stream)


@pytest.mark.filterwarnings("ignore")  # of the kernel's client, not of this package
def test_a_notebook_trains_with_two_workers_and_shows_figures(notebook, tmp_path):
    values = write_bars(tmp_path) | {"output.dir": "run", "train.workers": 2}
    Path("config.yaml").write_text(to_yaml(Config().with_values(values)))
    trained, drawn, own = notebook(CELLS)
    assert text(trained, "stdout") == "once\n"
    lines = text(trained, "stderr")
    assert lines.startswith("training with 2 workers\n")
    assert "epoch 1/2: " in lines  # the bar, drawn anew in its place
    assert "\r" in lines
    assert "epoch 2/2  lr" in lines
    assert trained[-1]["data"]["text/plain"] == "(2, 2)"
    assert drawn[-1]["data"]["image/png"]
    # Workers cannot import a class that is defined in the notebook.
    assert own[-1]["data"]["text/plain"] == "1"
    if usable_cores() > 1:
        assert "training with one worker instead of 2: a worker cannot import" in text(
            own, "stdout"
        )
