"""Networks that PyTorch has trained and written: as ONNX by both exporters, and as weights.

The oracle is PyTorch.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from scripted import load_script

from lenet.checkpoint.restore import plain_network, read_checkpoint
from lenet.cli import cli
from lenet.data.formats.idx import write_idx
from lenet.data.strokes import draw
from lenet.targets.networks import exported_network
from lenet.targets.onnx.importer import import_onnx
from lenet.targets.torch.state_dict import import_state_dict

torch = pytest.importorskip("torch", reason="PyTorch is not here to train a network")
nn, functional = torch.nn, torch.nn.functional

EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "dynamo"])
OLD = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:Constant folding:UserWarning"
)


class Net(nn.Module):
    """PyTorch's example for MNIST, with fewer filters and units."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(2304, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        x = self.dropout1(functional.max_pool2d(x, 2))
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return functional.log_softmax(self.fc2(self.dropout2(x)), dim=1)


def tensor(images):
    return torch.tensor(images[:, None] / np.float32(255))


@pytest.fixture(scope="module")
def trained():
    """The example, trained for some steps."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net, (images, labels) = Net(), draw(1200, seed=0)
    x, y = tensor(images), torch.tensor(labels.astype(np.int64))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(40):
        rows = slice(step * 60 % 1200, step * 60 % 1200 + 60)
        loss = functional.nll_loss(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def exported(net, path, *, dynamo, shape=(1, 28, 28)):
    pytest.importorskip("onnx")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not here, which PyTorch exports by")
        sizes = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "verbose": False}
    else:
        sizes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}}
    torch.onnx.export(net, (torch.zeros(2, *shape),), path, dynamo=dynamo, **sizes)
    return path


def run(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.exception
    return result.stdout


@OLD
@EXPORTERS
def test_from_training_to_a_microcontroller(trained, tmp_path, dynamo):
    """Exported by PyTorch; imported, evaluated, inspected, exported as C, and played here."""
    images, labels = draw(300, seed=1)
    log_probabilities = trained(tensor(images)).detach().numpy()
    expected = log_probabilities.argmax(axis=1)
    right = int(np.sum(expected == labels))
    assert right > 150
    net = tmp_path / "net.npz"
    report = run("import", exported(trained, tmp_path / "n.onnx", dynamo=dynamo), "--out", net)
    assert "from pytorch 2" in report

    write_idx(tmp_path / "t10k-images-idx3-ubyte", images)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels)
    evaluation = json.loads(run("eval", net, "--data", tmp_path, "--json"))
    assert round(evaluation["accuracy"] * len(labels)) == right

    pytest.importorskip("matplotlib")
    run("inspect", net, "filters", "--out", tmp_path / "filters.svg")
    assert (tmp_path / "filters.svg").stat().st_size > 1000

    run("play", net, "--out", tmp_path / "play.html")
    if shutil.which("node"):
        page = load_script("trial-export").play_form(
            exported_network(read_checkpoint(net)), tmp_path
        )
        assert_array_equal(page.scores(images[:50, None]).argmax(axis=1), expected[:50])

    run("export", net, "--c", tmp_path / "c")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    source, library = tmp_path / "c" / "lenet.c", tmp_path / "c" / "lenet.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", source, "-o", library, "-lm"], check=True)
    predict = ctypes.CDLL(str(library)).lenet_predict
    assert_array_equal([predict(image.tobytes()) for image in images], expected)


def normalized():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.ZeroPad2d(1),
        nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.BatchNorm2d(8), nn.Sigmoid(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Softmax(dim=1),
    )  # fmt: skip
    for _ in range(3):
        net(torch.rand(8, 3, 12, 12))
    return net


def perceptron():
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(432, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Linear(20, 4)
    )
    for _ in range(3):
        net(torch.rand(8, 3, 12, 12))
    return net


@OLD
@EXPORTERS
@pytest.mark.parametrize("made", [normalized, perceptron])
def test_other_networks(tmp_path, made, dynamo):
    torch.manual_seed(0)
    net = made().eval()
    imported = import_onnx(exported(net, tmp_path / "n.onnx", dynamo=dynamo, shape=(3, 12, 12)))
    assert imported.difference < 1e-5


MODEL = """\
model:
  input: [1, 28, 28]
  layers:
    - {type: convolution, filters: 8, kernel: 3, activation: relu}
    - {type: convolution, filters: 16, kernel: 3, activation: relu}
    - {type: max_pooling}
    - {type: linear, units: 32, activation: relu}
    - {type: linear, units: 10}
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_without_a_network(trained, tmp_path, precision):
    library = pytest.importorskip("safetensors.torch")
    state = {name: t.to(getattr(torch, precision)) for name, t in trained.state_dict().items()}
    library.save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "net.yaml").write_text(MODEL)
    checkpoint, _ = import_state_dict(tmp_path / "w.safetensors", tmp_path / "net.yaml")
    images, _ = draw(50, seed=2)
    net = Net().eval()
    net.load_state_dict({name: t.float() for name, t in state.items()})
    z = plain_network(checkpoint).forward(checkpoint.preprocessing.prepare(images)).T
    log_probabilities = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    assert_allclose(log_probabilities, net(tensor(images)).detach().numpy(), atol=1e-4)
