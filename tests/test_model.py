"""``lenet.Model``: training, prediction, saving, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import signal
import threading

import numpy as np
import pytest

import lenet
from lenet.checkpoint.restore import read_checkpoint
from lenet.config.sections import NAMED
from lenet.data.catalogue import ROLES
from lenet.data.formats.idx import write_idx
from lenet.data.preprocessing import Preprocessing
from lenet.data.splits import held_out
from lenet.data.strokes import draw
from lenet.errors import ConfigError, DataError, GateFailed
from lenet.models.registry import LAYERS as REGISTRY
from lenet.nn.convolution import Convolution
from lenet.nn.linear import Linear
from lenet.nn.pooling import MaxPooling
from lenet.train.events import Callback

pytestmark = pytest.mark.filterwarnings("ignore:accuracy is .* which is chance")

LAYERS = [
    {"type": "convolution", "filters": 3, "kernel": 5, "stride": 2, "activation": "relu"},
    {"type": "max_pooling"},
    {"type": "linear", "units": 10},
]


class Own(Linear):
    """A layer class of a user; not registered."""


@pytest.fixture(scope="module")
def digits():
    return draw(300, seed=0)


def grey_model(**options: object) -> lenet.Model:
    return lenet.Model.from_layers(LAYERS, (1, 28, 28), **options)


def colour_set(count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Images of 3×12×10 whose class is their brightest channel."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 100, (count, 3, 12, 10), dtype=np.uint8)
    images[np.arange(count), labels] += 100
    return images, labels


def test_training_gives_the_bits_of_a_run_from_files(tmp_path):
    images, labels = draw(200, seed=0)
    for split in ("train", "test"):
        write_idx(tmp_path / f"{split}-images", images)
        write_idx(tmp_path / f"{split}-labels", labels)
    config = lenet.Config().with_values(
        {
            **NAMED,  # nothing is chosen for the images
            "model.scale": Preprocessing.scale,
            "model.shift": Preprocessing.shift,
            "seed": 5,
            "data.name": "idx",
            **{f"data.{role}": str(tmp_path / role.replace("_", "-")) for role in ROLES},
            "data.validation": 50,
            "model.channels": [3, 4],
            "model.units": [6, 5],
            "train.epochs": 2,
            "train.batch_size": 30,
            "train.workers": 1,
            "augment.shift": 1.0,
            "output.dir": str(tmp_path / "run"),
        }
    )
    result = lenet.run_training(config)
    model = lenet.Model.packaged("lenet5", channels=(3, 4), units=(6, 5), seed=5)
    history = model.fit(
        images,
        labels,
        epochs=2,
        batch_size=30,
        validation_split=50,
        seed=5,
        settings={"augment.shift": 1.0},
    )
    stored = lenet.load(tmp_path / "run" / "best.npz")
    np.testing.assert_array_equal(model.network.parameters, stored.network.parameters)
    assert history.best.val_loss == result.best.val_loss


def test_workers_train_an_uneven_batch_with_dropout_as_one(digits):
    layers = [*LAYERS[:-1], {"type": "dropout"}, LAYERS[-1]]
    models = [
        lenet.Model.from_layers(layers, (1, 28, 28), dtype=np.float64),
        lenet.Model.from_layers(layers, (1, 28, 28), dtype=np.float64),
    ]
    for workers, model in enumerate(models, start=1):
        history = model.fit(*digits, epochs=2, batch_size=37, workers=workers)
        assert history.workers == workers
    one, two = (model.network.parameters for model in models)
    np.testing.assert_allclose(two, one, rtol=1e-9, atol=1e-12)


def test_training_ends_with_the_weights_of_the_best_epoch(digits):
    """With this learning rate the last epoch is not the best."""
    model = grey_model()
    history = model.fit(*digits, epochs=6, lr=0.6, schedule="constant", optimizer="sgd")
    best = min(history.epochs, key=lambda e: (-e.val_accuracy, e.val_loss))
    assert history.best == best
    assert best != history.epochs[-1]
    chosen = held_out(300, 30, seed=0)
    result = model.evaluate(digits[0][chosen], digits[1][chosen])
    assert (result.accuracy, result.loss) == (best.val_accuracy, pytest.approx(best.val_loss))


def test_training_continues_from_the_weights_that_there_are(digits):
    model = grey_model()
    first = model.fit(*digits, epochs=3)
    second = model.fit(*digits, epochs=1, lr=1e-6)
    assert second.epochs[0].train_loss < 1.1 * first.epochs[-1].train_loss
    assert model.history is second


def test_validation_images_of_their_own(digits):
    images, labels = digits
    model, other = grey_model(), grey_model()
    history = model.fit(images[:250], labels[:250], validation_data=(images[250:], labels[250:]))
    result = model.evaluate(images[250:], labels[250:])
    assert history.best.val_loss == pytest.approx(result.loss, rel=1e-5)
    without = other.fit(images[:250], labels[:250], validation_split=0)
    assert without.best == without.epochs[-1]
    assert [e.train_loss for e in without.epochs] == [e.train_loss for e in history.epochs]


def test_the_validation_images_are_shared_by_the_workers(digits):
    images, labels = digits
    pair = (images[250:], labels[250:])
    one = grey_model().fit(images, labels, epochs=1, validation_data=pair)
    two = grey_model().fit(images, labels, epochs=1, validation_data=pair, workers=2)
    assert two.best.val_loss == pytest.approx(one.best.val_loss, rel=1e-4)


def test_a_run_directory_and_its_continuation(digits, tmp_path):
    """Two epochs, then two more, are four: the same weights, log and history."""
    layers = [LAYERS[0], {"type": "batch_normalization"}, *LAYERS[1:]]

    class Stop(Callback):
        def on_epoch(self, event, best, snapshot):
            if event.epoch == 2:
                signal.raise_signal(signal.SIGINT)

    def train(output, **options):
        model = lenet.Model.from_layers(layers, (1, 28, 28))
        try:
            model.fit(*digits, epochs=4, output=tmp_path / output, **options)
        except KeyboardInterrupt:
            assert options["callbacks"]
        return model

    through = train("through")
    train("stopped", callbacks=[Stop()])
    resumed = train("stopped", resume=True)
    assert len(resumed.history.epochs) == 4
    np.testing.assert_array_equal(resumed.network.parameters, through.network.parameters)
    assert resumed.history.best.val_loss == through.history.best.val_loss
    best = lenet.load(tmp_path / "stopped" / "best.npz")
    np.testing.assert_array_equal(best.predict(digits[0]), through.predict(digits[0]))
    with pytest.raises(ConfigError, match="already contains a run"):
        train("stopped")
    train("stopped", overwrite=True)


def test_ctrl_c_leaves_the_best_weights_and_interrupts(digits):
    class Stop(Callback):
        def on_step(self, event, snapshot):
            if event.step == 7:
                signal.raise_signal(signal.SIGINT)

    model, whole = grey_model(), grey_model()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*digits, schedule="constant", callbacks=[Stop()])
    whole.fit(*digits, schedule="constant", epochs=1)
    assert len(model.history.epochs) == 1
    np.testing.assert_array_equal(model.network.parameters, whole.network.parameters)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_in_a_thread(digits):
    model, other = grey_model(), grey_model()
    thread = threading.Thread(target=model.fit, args=digits, kwargs={"epochs": 1})
    thread.start()
    other.fit(*digits, epochs=1)
    thread.join()
    np.testing.assert_array_equal(model.network.parameters, other.network.parameters)


def test_progress_is_a_line_for_each_epoch(digits, capsys):
    grey_model().fit(*digits, epochs=2, verbose=True)
    out, err = capsys.readouterr()
    first, *epochs = err.splitlines()
    assert (out, first) == ("", "training on 300 images with 1 worker")
    assert [line.split()[:2] for line in epochs] == [["epoch", "1/2"], ["epoch", "2/2"]]


def test_a_colour_model_is_saved_with_all_it_needs(tmp_path):
    images, labels = colour_set()
    model = lenet.Model.from_layers(
        [{"type": "batch_normalization"}, {"type": "linear", "units": 3}],
        (3, 14, 11),
        class_names=["red", "green", "blue"],
        scale=0.01,
        shift=-0.5,
        initializer="glorot",
    )
    model.fit(images, labels, epochs=5, batch_size=20)
    model.save(tmp_path / "colour.npz")
    loaded = lenet.load(tmp_path / "colour.npz")
    np.testing.assert_array_equal(loaded.predict(images), model.predict(images))
    assert loaded.evaluate(images, labels).accuracy > 0.9
    assert loaded.class_names == ("red", "green", "blue")
    assert loaded.preprocessing == Preprocessing((3, 14, 11), 0.01, -0.5)
    assert loaded.specification() == model.specification()
    assert loaded.specification().initializer == "glorot"
    loaded.save(tmp_path / "again.npz")
    again, first = (read_checkpoint(tmp_path / f"{name}.npz") for name in ("again", "colour"))
    assert (again.config, again.metrics, again.epoch) == (first.config, first.metrics, first.epoch)
    assert first.epoch == model.history.best.epoch
    np.testing.assert_array_equal(lenet.load(tmp_path / "again.npz").predict(images),
                                  model.predict(images))  # fmt: skip


def test_a_network_built_by_hand_can_be_saved(tmp_path):
    network = lenet.lenet5(classes=2, dtype=np.float64, channels=(2, 3), units=(4, 4))
    network.initialize(np.random.default_rng(0))
    model = lenet.Model(network, class_names=["no", "yes"])
    model.save(tmp_path / "model.npz")
    loaded = lenet.load(tmp_path / "model.npz")
    images = draw(5, seed=0)[0]
    np.testing.assert_array_equal(loaded.predict(images), model.predict(images))
    assert loaded.network.dtype == np.float64


def test_data_of_a_model_trained_on_arrays_must_be_named(digits, tmp_path, request):
    lenet_program = request.getfixturevalue("lenet")
    model = grey_model()
    model.fit(*digits, epochs=1)
    model.save(tmp_path / "model.npz")
    with pytest.raises(ConfigError, match="images given in Python, which are not stored"):
        lenet.evaluate(tmp_path / "model.npz")
    ended = lenet_program("eval", tmp_path / "model.npz")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    ended = lenet_program("summary", tmp_path / "model.npz")
    assert ended.code == 0


def test_copies_are_models_of_their_own(digits):
    model = grey_model()
    model.fit(*digits, epochs=1)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(digits[0]), model.predict(digits[0]))
        before = model.network.parameters.copy()
        other.fit(*digits, epochs=1)
        np.testing.assert_array_equal(model.network.parameters, before)
        assert not np.array_equal(other.network.parameters, before)


def test_export(digits, tmp_path):
    model = grey_model()
    model.fit(*digits, epochs=1)
    model.export_c(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"lenet.c", "lenet.h"}
    pytest.importorskip("onnx")
    assert model.export_onnx(tmp_path / "model.onnx", image_size=(28, 28)) < 1e-4
    with pytest.raises(ConfigError, match="larger than the network's input"):
        model.export_onnx(tmp_path / "model.onnx", image_size=(40, 40))


@pytest.mark.parametrize("what", ["filters", "maps", "patches", "deconv", "field", "edges"])
def test_figures_of_given_images(digits, what):
    pytest.importorskip("matplotlib")
    figure = grey_model().plot(what, digits[0], number=3)
    assert figure.axes
    if what != "filters":
        assert "test image 3 of the given arrays" in figure.get_suptitle()


def test_the_figure_of_many_images_needs_labels(digits):
    pytest.importorskip("matplotlib")
    for what in ("embedding", "reliability"):
        assert grey_model().plot(what, *digits).axes
        with pytest.raises(DataError, match=f"labels: are needed for {what}"):
            grey_model().plot(what, digits[0])


def test_layers_and_entries_may_be_mixed():
    pooling = MaxPooling("P", 2)
    entries = [
        Convolution("C", 4, kernel=3, stride=2),
        {"type": "relu"},
        pooling,
        Own("own", 8),
        {"type": "linear", "units": 3},
    ]
    model = lenet.Model.from_layers(entries, (2, 16, 16))
    assert [layer.name for layer in model.network.layers] == [
        "C", "C.activation", "P", "own", "F3",
    ]  # fmt: skip
    assert model.network.layers[0].stride == (2, 2)
    assert type(model.network.layers[3]) is Own


def test_a_layer_that_is_not_registered_trains_but_is_not_saved(digits, tmp_path):
    model = lenet.Model.from_layers([{"type": "max_pooling"}, Own("own", 10)], (1, 28, 28))
    history = model.fit(*digits, epochs=1)
    assert history.best is not None
    problem = "^layer own: its class Own is not registered; register it with lenet.register_layer$"
    for use in (
        lambda: model.save(tmp_path / "model.npz"),
        lambda: model.fit(*digits, output=tmp_path / "run"),
        lambda: model.export_c(tmp_path),
        model.specification,
    ):
        with pytest.raises(ConfigError, match=problem):
            use()
    assert list(tmp_path.iterdir()) == []


def test_a_registered_layer_is_saved(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "own", REGISTRY["linear"])  # removed again after the test
    lenet.register_layer("own", Own)
    model = lenet.Model.from_layers([{"type": "max_pooling"}, Own("own", 10)], (1, 28, 28))
    model.fit(*digits, epochs=1)
    model.save(tmp_path / "model.npz")
    loaded = lenet.load(tmp_path / "model.npz")
    assert loaded.specification().layers[1] == {"type": "own", "name": "own", "units": 10}
    np.testing.assert_array_equal(loaded.predict(digits[0]), model.predict(digits[0]))


def test_packaged_networks_and_their_options():
    assert lenet.Model.packaged("lenet5-1998").network.parameters.size == 60_000
    letters = lenet.Model.packaged("caffe-lenet", class_names=["a", "b", "c"])
    assert letters.network.output_shape == (3,)
    assert letters.preprocessing == Preprocessing((1, 28, 28), 1 / 256, 0.0)
    assert letters.specification().initializer == "lecun_uniform"
    assert repr(letters).splitlines()[0] == "1×28×28 images, 3 classes: a, b, c"


HEAD = [{"type": "linear", "units": 10}]
BAD_NETWORKS = {
    "model.name: must be auto, .* did you mean lenet5": lambda: lenet.Model.packaged("lenet6"),
    "model.chanels: unknown key; did you mean model.channels": lambda: lenet.Model.packaged(
        "lenet5", chanels=(3, 4)
    ),
    "model.channels: is not an option of caffe-lenet": lambda: lenet.Model.packaged(
        "caffe-lenet", channels=(3, 4)
    ),
    "model.classes: must be null or an integer": lambda: lenet.Model.packaged(
        "lenet5", classes="x"
    ),
    "class_names: must be 10 strings": lambda: lenet.Model.packaged(
        "lenet5-1998", class_names=["a"]
    ),
    r"model.layers\[1\]: type: .* did you mean linear": lambda: lenet.Model.from_layers(
        [{"type": "linearr"}], (1, 28, 28)
    ),
    "model.layers: must be a list of layers": lambda: lenet.Model.from_layers("abc", (1, 2, 2)),
    "input_shape: must be three integers": lambda: lenet.Model.from_layers(HEAD, (28, 28)),
    "layer activation: has outputs of the shape 1×2×2": lambda: lenet.Model.from_layers(
        [{"type": "relu"}], (1, 2, 2)
    ),
    "model.initializer: .* did you mean he": lambda: grey_model(initializer="hee"),
    "train.precision: must be float32 or float64": lambda: grey_model(dtype="float16"),
    "seed: must be an integer": lambda: grey_model(seed=-1),
    "model.scale: must be": lambda: grey_model(scale="x"),
    "class_names: must be 10 strings, .* is 3": lambda: grey_model(class_names=3),
    "preprocessing: is for inputs": lambda: lenet.Model(lenet.lenet5(), Preprocessing((1, 28, 28))),
    "layer F1: makes a network of more than": lambda: lenet.Model.from_layers(
        [{"type": "linear", "units": 10**12}], (1, 28, 28)
    ),
}


@pytest.mark.parametrize("problem", BAD_NETWORKS)
def test_a_network_that_cannot_be_built_is_one_line(problem):
    with pytest.raises(ConfigError, match=f"^{problem}") as caught:
        BAD_NETWORKS[problem]()
    assert "\n" not in str(caught.value)


BAD_TRAINING = {
    "optimizer.name: .* did you mean nesterov": {"optimizer": "nestrov"},
    "schedule.name: .* did you mean cosine": {"schedule": "cosin"},
    "optimizer.lr: must be": {"lr": "fast"},
    "train.epochs: must be": {"epochs": 0},
    "train.batch_size: is 1000, but there are 270": {"batch_size": 1000},
    "train.workers: is mpi": {"workers": "mpi"},
    "train.workers: must be": {"workers": 0},
    "data.validation: 300 of 300": {"validation_split": 300},
    "data.validation: must be null or an integer": {"validation_split": -1},
    "validation_split: must be a fraction": {"validation_split": 1.5},
    "validation_split: must be a fraction .* is True": {"validation_split": True},
    "augment.shif: unknown key; did you mean": {"settings": {"augment.shif": 1}},
    "model.classes: is not one of the settings": {"settings": {"model.classes": 3}},
    "train.epochs: is not one of the settings": {"settings": {"train.epochs": 3}},
    "settings: must be keys with values": {"settings": 3},
    "train.patience: needs validation": {"validation_split": 0, "settings": {"train.patience": 2}},
    "output: is needed": {"resume": True},
}


@pytest.mark.parametrize("problem", BAD_TRAINING)
def test_an_argument_of_the_training_that_is_wrong_is_one_line(digits, problem):
    model = grey_model()
    before = model.network.parameters.copy()
    with pytest.raises(ConfigError, match=f"^{problem}") as caught:
        model.fit(*digits, **BAD_TRAINING[problem])
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(model.network.parameters, before)


IMAGES, LABELS = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8)
TOO_LIGHT = np.arange(4 * 784).reshape(4, 28, 28) % 301
BAD_DATA = {
    "images: floats must be from 0 to 1, are from 7 to 7": (IMAGES + 7.0, LABELS),
    "images: floats must be from 0 to 1, are from nan": (IMAGES + np.nan, LABELS),
    "images: integers must be from 0 to 255, are from 0 to 300": (
        np.arange(4 * 784).reshape(4, 28, 28) % 301,
        LABELS,
    ),
    "images: is an array of 4, not of": (LABELS, IMAGES),
    "images: must be numbers, are object": (None, None),
    "images: is an array of 0×28×28": (IMAGES[:0], LABELS[:0]),
    "images: images of 56×28": (IMAGES.repeat(2, axis=1), LABELS),
    "images: images with 3 channels": (IMAGES[:, None].repeat(3, axis=1), LABELS),
    "labels: contains 3 labels for 4 images": (IMAGES, LABELS[:3]),
    "labels: label 0 is 10": (IMAGES, LABELS + 10),
    "labels: label 0 is -1": (IMAGES, LABELS.astype(int) - 1),
    "labels: contains float64 of shape": (IMAGES, np.zeros((4, 3))),
    "labels: is not a rectangular array": (IMAGES, [[1], [2, 3]]),
}


@pytest.mark.parametrize("problem", BAD_DATA)
def test_images_and_labels_that_do_not_fit_are_one_line(problem):
    for use in (grey_model().fit, grey_model().evaluate):
        with pytest.raises(DataError, match=f"^{problem}") as caught:
            use(*BAD_DATA[problem])
        assert "\n" not in str(caught.value)


def test_a_run_that_diverges_is_one_line(digits):
    with pytest.raises(GateFailed, match="training has diverged"):
        grey_model().fit(*digits, lr=999, optimizer="sgd", schedule="constant", epochs=50)


def test_model_pads_and_scales_as_in_training():
    network = lenet.lenet5()
    network.initialize(np.random.default_rng(0))
    grey = np.random.default_rng(1).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    by_hand = np.full((3, 1, 32, 32), -0.1)
    by_hand[:, 0, 2:30, 2:30] = grey / 255 * 1.275 - 0.1
    model = lenet.Model(network, Preprocessing(), tuple("0123456789"))
    np.testing.assert_allclose(model.predict(grey), network.predict(by_hand), rtol=1e-5)
    np.testing.assert_allclose(model.predict(grey).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "images",
    [np.full((2, 28, 28), 2.0), np.zeros((28, 28, 2), np.uint8), np.zeros((1, 40, 40), np.uint8)],
)
def test_model_refuses_what_are_no_grey_images(images):
    model = lenet.Model(lenet.lenet5(), Preprocessing(), tuple("0123456789"))
    with pytest.raises(DataError):
        model.predict(images)


@pytest.mark.parametrize("C", [1, 2, 3])
@pytest.mark.parametrize("shape", [(10, 10, 9), (9, 10, 9), (1, 10, 3), (7, 3, 4)])
def test_images_are_not_mistaken_for_another_layout(C, shape):
    """As many images as rows, or as few rows as channels; also where they are padded."""
    N, H, W = shape
    images = np.random.default_rng(0).integers(0, 256, (N, C, H, W), np.uint8)
    images = images[:, 0] if C == 1 else images
    for input_shape in ((C, H, W), (C, H + 1, W + 2)):
        model = lenet.Model.from_layers([{"type": "linear", "units": 2}], input_shape)
        x = model.preprocessing.prepare(images).transpose(3, 0, 1, 2)
        labels = np.zeros(N, int)
        assert model.evaluate(images, labels).count == N
        if C > 1 or input_shape[1:] == (H, W):
            np.testing.assert_allclose(model.predict(images), model.network.predict(x), rtol=1e-6)


# --- Keras' words -------------------------------------------------------------------------------


def test_train_is_the_old_name_of_fit(digits):
    old, new = grey_model(), grey_model()
    with pytest.warns(FutureWarning, match="Model.train is now Model.fit"):
        old.train(*digits, epochs=1, validation=30, progress=False)
    new.fit(*digits, epochs=1, validation_split=30)
    np.testing.assert_array_equal(old.network.parameters, new.network.parameters)
    with pytest.warns(FutureWarning):
        old.train(*digits, epochs=1, validation=digits)
    new.fit(*digits, epochs=1, validation_data=digits)
    np.testing.assert_array_equal(old.network.parameters, new.network.parameters)


def test_floats_from_0_to_1_and_integers_are_the_same_images(digits):
    images = digits[0]
    model = grey_model()
    expected = model.predict(images)
    for same in (images / 255, images / np.float32(255), images.astype(int), images[:, None]):
        np.testing.assert_array_equal(model.predict(same), expected)
    np.testing.assert_array_equal(model.predict(images[..., None]), expected)


def test_labels_that_are_names_become_the_class_names(tmp_path):
    images, labels = colour_set()
    names = np.array(["red", "green", "blue"])[labels]
    model = lenet.Model.from_layers([{"type": "linear", "units": 3}], (3, 12, 10))
    model.fit(images, names, epochs=8, batch_size=20)
    assert model.class_names == ("blue", "green", "red")
    assert model.evaluate(images, names.tolist()).accuracy > 0.9
    assert model.evaluate(images, names.astype(object)).accuracy > 0.9
    with pytest.raises(DataError, match="labels: pink is not a class of the model; its classes"):
        model.evaluate(images, np.where(names == "red", "pink", names))
    by_number = lenet.Model.from_layers(
        [{"type": "linear", "units": 3}], (3, 12, 10), class_names=model.class_names
    )
    by_number.fit(images, 2 - np.array([0, 1, 2])[labels], epochs=8, batch_size=20)
    np.testing.assert_array_equal(by_number.network.parameters, model.network.parameters)


def test_too_many_names_are_refused():
    images, labels = colour_set()
    model = lenet.Model.from_layers([{"type": "linear", "units": 2}], (3, 12, 10))
    with pytest.raises(ConfigError, match="class_names: must be 2 strings"):
        model.fit(images, np.array(["a", "b", "c"])[labels])


def test_chance_is_warned_of():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 8, 8), np.uint8)
    model = lenet.Model.from_layers([{"type": "linear", "units": 10}], (1, 8, 8))
    with pytest.warns(UserWarning, match="which is chance"):
        model.fit(images, np.arange(300) % 10, epochs=2, lr=1e-9)


def test_summary_prints_and_load_is_a_method(capsys, tmp_path):
    model = grey_model()
    assert model.summary() is None
    assert capsys.readouterr().out == f"{model!r}\n"
    model.save(tmp_path / "a.npz")
    assert repr(lenet.Model.load(tmp_path / "a.npz")) == repr(model)
