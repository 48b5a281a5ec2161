"""A network with its preprocessing and class names: to train, use, save, draw and export."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array
from lenet.checkpoint.checkpoint import Checkpoint, facts, save_checkpoint
from lenet.checkpoint.restore import build_network, read_checkpoint, restore_network
from lenet.config.schema import Config
from lenet.data.arrays import image_array, labelled_images
from lenet.data.dataset import Split
from lenet.data.labels import first_names
from lenet.data.loader import SLICE, Loader
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError, DataError
from lenet.evaluation.images import Images, build_preprocessing
from lenet.evaluation.loop import evaluate as evaluate_network
from lenet.evaluation.loop import predict
from lenet.evaluation.metrics import Evaluation
from lenet.models.packaged import model_options
from lenet.models.specification import (
    Entry,
    Specification,
    built_shapes,
    class_count,
    layers_from,
    specification_of,
)
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.system.files import replacing
from lenet.system.machine import one_blas_thread
from lenet.system.text import clipped
from lenet.targets.c.float32 import c_source
from lenet.targets.networks import exported_network
from lenet.targets.onnx.check import checked_model
from lenet.train.build import initialize
from lenet.train.callbacks import ChanceWarning, Display
from lenet.train.events import Callback
from lenet.train.log import JSONL, History, Recorder, read_log
from lenet.train.run import train_network
from lenet.train.training_set import TrainingSet


@dataclass(frozen=True)
class _Origin:
    """Where the weights of a model come from, as far as a checkpoint contains it."""

    config: Config | None = None
    dataset: str = "arrays"
    step: int = 0
    epoch: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    initializer: str = "he"


class Model:
    """A network with its preprocessing and class names: to train, use, save, draw and export.

    ``repr`` is the summary of the network. A model can be copied and pickled.

    Parameters
    ----------
    network
        Any network with one output for each class.
    preprocessing
        How images become its input; by default scale and shift of LeNet-5.
    class_names
        One for each class; by default their numbers.

    Attributes
    ----------
    network, preprocessing, class_names
        As given.
    history
        The last training.

    Raises
    ------
    ConfigError
        The outputs of the network are not one for each class, or the three do not fit each other.

    Examples
    --------
    >>> from lenet.data.strokes import draw
    >>> model = Model.from_layers(
    ...     [{"type": "max_pooling", "kernel": 4}, {"type": "linear", "units": 10}], (1, 28, 28))
    >>> history = model.fit(*draw(600, seed=0), epochs=4, lr=0.3)
    >>> len(history.epochs), model.evaluate(*draw(200, seed=1)).accuracy > 0.5
    (4, True)
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        C, H, W = _input_shape(network.input_shape)
        classes = class_count(network.output_shape, network.layers[-1].name)
        self.network = network
        self.preprocessing = preprocessing or Preprocessing((C, H, W))
        self.class_names = _class_names(class_names, classes)
        self.history = History()
        self._origin = _Origin()
        if self.preprocessing.input_shape != (C, H, W):
            raise ConfigError(
                f"is for inputs {self.preprocessing.input_shape}, the network takes {(C, H, W)}",
                remedy="give the same shape to both",
                key="preprocessing",
            )

    @classmethod
    def from_layers(
        cls,
        layers: Sequence[Layer | Entry],
        input_shape: Sequence[int],
        *,
        class_names: Sequence[str] | None = None,
        scale: float = Preprocessing.scale,
        shift: float = Preprocessing.shift,
        background: int = 0,
        initializer: str = "he",
        dtype: DTypeLike = "float32",
        seed: int = 0,
    ) -> Model:
        """Return a model of these layers with random weights.

        Parameters
        ----------
        layers
            Layers, or entries of a specification as under ``model.layers`` in a configuration:
            ``{"type": "linear", "units": 10}``; both may be mixed.
        input_shape
            (C,H,W). Smaller images are padded.
        class_names
            By default the numbers of the classes.
        scale, shift
            The input is pixel · scale + shift, for pixels from 0 to 255.
        background
            The pixel value around images that are smaller than the input.
        initializer
            Of weights whose layer names none.
        dtype
            float32 or float64, of parameters and arithmetic.
        seed
            Of the weights.

        Raises
        ------
        ConfigError
            A layer or an option is unknown, or does not fit; the message names the layer.
        """
        shape = _input_shape(input_shape)
        config = Config().with_values(
            {
                "seed": _plain(seed),
                "train.precision": _precision(dtype),
                "model.initializer": initializer,
                "model.scale": _plain(scale),
                "model.shift": _plain(shift),
            }
        )
        made = layers_from(layers)
        outputs = built_shapes(made, shape)
        class_count(outputs[-1], made[-1].name)
        network = Network(made, shape, config.train.precision, fused=True)
        network.initialize(np.random.default_rng(config.seed), initializer)
        preprocessing = Preprocessing(shape, float(scale), float(shift), background)
        return cls(network, preprocessing, class_names)._initialized(initializer)

    @classmethod
    def packaged(
        cls,
        name: str,
        *,
        class_names: Sequence[str] | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        **options: object,
    ) -> Model:
        """Return a packaged network with random weights.

        Parameters
        ----------
        name
            ``lenet5``, ``lenet5-1998`` or ``caffe-lenet``.
        class_names, dtype, seed
            As for :meth:`from_layers`; the number of names sets the option ``classes``.
        options
            Of the network, as under ``model`` in a configuration, such as ``channels=(12, 32)``.

        Raises
        ------
        ConfigError
            There is no such network, or it has no such option.

        Examples
        --------
        >>> Model.packaged("caffe-lenet").network.parameters.size
        431080
        """
        if isinstance(class_names, Sequence) and "classes" in model_options(name):
            options = {"classes": len(class_names), **options}
        values = {f"model.{option}": _plain(value) for option, value in options.items()}
        values |= {"seed": _plain(seed), "train.precision": _precision(dtype), "model.name": name}
        config = Config().with_values(values)
        network = build_network(config)
        initialize(network, config)
        model = cls(network, build_preprocessing(config), class_names)
        return model._initialized(config.model.specification().initializer)

    def fit(
        self,
        images: NDArray[Any],
        labels: NDArray[Any],
        *,
        epochs: int = 8,
        batch_size: int = 64,
        lr: float = 0.05,
        validation_split: float = 0.1,
        validation_data: tuple[NDArray[Any], NDArray[Any]] | None = None,
        workers: int | str = 1,
        optimizer: str = "nesterov",
        schedule: str = "cosine",
        seed: int = 0,
        settings: Mapping[str, object] | None = None,
        output: str | PathLike[str] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
    ) -> History:
        """Train on images in memory, from the weights that the network has.

        Afterwards the network has the weights of the best epoch by its validation result; without
        validation, of the last one. If Ctrl-C stops the training, they are those of the best epoch
        so far, and ``KeyboardInterrupt`` is raised.

        Parameters
        ----------
        images
            (N,H,W), (N,H,W,C) or (N,C,H,W), at most as large as the input of the network. Integers
            are pixel values from 0 (background) to 255; floats are from 0 to 1.
        labels
            (N,): class indices, or class names. If the model has no class names yet, they become
            the sorted names.
        epochs, batch_size, lr
            Passes over the images, images per step, highest learning rate.
        validation_split
            The share of the images, or their number, that is used for validation; 0 for none.
        validation_data
            Other images and labels to use for validation.
        workers
            The number of processes that share every batch; ``"auto"`` uses all cores.
        optimizer, schedule
            Names, as in a configuration.
        seed
            Seed of the order of the images and of all other random numbers of the training.
        settings
            Further keys of a configuration with their values: ``{"augment.shift": 2}``.
        output
            A directory for log and checkpoints, as ``lenet train`` writes them.
        resume, overwrite
            Resume or replace the run in ``output``.
        callbacks
            Receive the events.
        verbose
            Print a line for each epoch to stderr, with a progress bar on a terminal.

        Raises
        ------
        LenetError
            A value, the images or the labels are wrong, or training has diverged.
        """
        values: dict[str, object] = {
            "seed": seed,
            "data.name": "arrays",
            "train.epochs": epochs,
            "train.batch_size": batch_size,
            "train.workers": workers,
            "optimizer.lr": lr,
            "optimizer.name": optimizer,
            "schedule.name": schedule,
        }
        self._adopt_names(labels)
        training = self._pair(images, labels)
        validation = validation_split if validation_data is None else validation_data
        pair, values["data.validation"] = self._validation(validation, len(training[0]))
        if output is not None:
            values["output.dir"] = str(output)
        elif resume or overwrite:
            raise ConfigError(
                "is needed to resume or overwrite a run", remedy="name a directory", key="output"
            )
        config = self._config(values, settings, must_be_saved=output is not None)
        recorder = Recorder()
        opening = partial(_opening, len(training[0]))
        shown = Display(config.train.epochs, opening, metric=config.train.best_metric)
        at_chance = ChanceWarning(config, partial(warnings.warn, stacklevel=2))
        try:
            result = train_network(
                self.network,
                self.preprocessing,
                TrainingSet(training, self.class_names, pair),
                config,
                output=output is not None,
                resume=resume,
                overwrite=overwrite,
                callbacks=[recorder, *([shown] if verbose else []), at_chance, *callbacks],
            )
        finally:
            shown.close()
            self._record(recorder.history, config)
        if output is not None and resume:
            log = read_log(Path(output) / JSONL)
            history = History.of(log, result.workers, config.train.best_metric)
            self._record(history, config)
        if result.signal is not None:
            signal.raise_signal(result.signal)
        return self.history

    def train(
        self,
        images: NDArray[Any],
        labels: NDArray[Any],
        *,
        validation: float | tuple[NDArray[Any], NDArray[Any]] = 0.1,
        progress: bool = False,
        **options: Any,  # noqa: ANN401 - those of fit
    ) -> History:
        """Call :meth:`fit`, which replaces it, with a warning."""
        warnings.warn(
            "Model.train is now Model.fit, with validation_split or validation_data in place of "
            "validation, and verbose in place of progress",
            FutureWarning,
            stacklevel=2,
        )
        name = "validation_data" if isinstance(validation, tuple | list) else "validation_split"
        options |= {name: validation, "verbose": progress}
        return self.fit(images, labels, **options)

    @one_blas_thread()
    def predict(self, images: NDArray[Any]) -> Array:
        """Return the probabilities (N, classes) of images, as for :meth:`fit`.

        Raises
        ------
        DataError
            The images are of another type or shape, or do not fit the network.
        """
        images = image_array(images, self.preprocessing.input_shape)
        self.preprocessing.check(images)
        return predict(self.network, self.preprocessing, images).astype(self.network.dtype)

    @one_blas_thread()
    def evaluate(self, images: NDArray[Any], labels: NDArray[Any]) -> Evaluation:
        """Return loss, accuracy and confusion matrix on images and labels, as for :meth:`fit`.

        Raises
        ------
        DataError
            Images or labels are of another type or shape, or do not fit the network.
        """
        loader = Loader(
            *self._pair(images, labels),
            batch_size=SLICE,
            preprocessing=self.preprocessing,
            dtype=self.network.dtype,
        )
        return evaluate_network(self.network, loader)

    def specification(self) -> Specification:
        """Return the network as data.

        Raises
        ------
        ConfigError
            The class of a layer is not registered.
        """
        scale, shift = self.preprocessing.scale, self.preprocessing.shift
        return specification_of(self.network, scale, shift, self._origin.initializer)

    def checkpoint(self) -> Checkpoint:
        """Return the model as a checkpoint, as :meth:`save` writes it.

        Raises
        ------
        ConfigError
            The class of a layer is not registered.
        """
        origin, network = self._origin, self.network
        return Checkpoint(
            config=origin.config or self._config({"data.name": "arrays"}, must_be_saved=True),
            model=self.specification(),
            parameters={p.name: p.value.copy() for p in network.parameter_list},
            state={name: array.copy() for name, array in network.state_arrays().items()},
            preprocessing=self.preprocessing,
            class_names=self.class_names,
            dataset=origin.dataset,
            step=origin.step,
            epoch=origin.epoch,
            metrics=origin.metrics,
            training=None,
            facts=facts(self.history.workers),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write a checkpoint: network, weights, preprocessing and class names, for :func:`load`.

        All commands take it. To resume a training, give :meth:`fit` an ``output`` instead.

        Raises
        ------
        LenetError
            The class of a layer is not registered, a weight is not finite, or the file cannot be
            written.
        """
        save_checkpoint(path, self.checkpoint())

    def export_onnx(
        self, path: str | PathLike[str], image_size: tuple[int, int] | None = None
    ) -> float:
        """Write an ONNX file, as ``lenet export`` does; needs the extra ``onnx``.

        Its input is uint8 images (N,C,H,W) as they are stored; it scales and pads them itself.

        Parameters
        ----------
        path
            The file.
        image_size
            Height and width of the images that it takes; by default 28×28 for a grey network whose
            input is at least as large, otherwise the size of the input.

        Returns
        -------
        How far its scores are from this package's, at most, on 16 images of noise.

        Raises
        ------
        LenetError
            ONNX cannot express a layer, the extra is missing, or the file cannot be written.
        """
        model, difference = checked_model(exported_network(self.checkpoint(), image_size))
        with replacing(Path(path)) as file:
            file.write(model)
        return difference

    def export_c(
        self, directory: str | PathLike[str], image_size: tuple[int, int] | None = None
    ) -> None:
        """Write the network as C99 source that needs only the C library, as ``lenet export`` does.

        Parameters
        ----------
        directory
            For the files.
        image_size
            As for :meth:`export_onnx`.

        Raises
        ------
        LenetError
            There is no C code for a layer, or a file cannot be written.
        """
        for name, text in c_source(exported_network(self.checkpoint(), image_size)).items():
            with replacing(Path(directory) / name) as file:
                file.write(text.encode("ascii"))

    def plot(
        self,
        what: str,
        images: NDArray[np.uint8] | None = None,
        labels: NDArray[Any] | None = None,
        *,
        number: int = 0,
        layer: str | None = None,
        unit: int | None = None,
        label: str | None = None,
    ) -> Any:  # noqa: ANN401 - Matplotlib is optional
        """Return a Matplotlib figure, one of those of ``lenet inspect``; needs the extra ``viz``.

        Parameters
        ----------
        what
            ``filters``; of an image ``maps``, ``patches``, ``gradients``, ``col2im``, ``rotation``,
            ``switches``, ``deconv``, ``field`` or ``edges``; of many images ``embedding`` and
            ``reliability``, which need labels.
        images, labels
            Images (N,H,W) or (N,C,H,W); by default the test images of the data set that the network
            was trained on.
        number
            Which of the images.
        layer, unit
            A layer's name and the number of one of its units, in place of those that the plot
            chooses.
        label
            The class for which the gradient is computed; by default the most probable wrong one.

        Raises
        ------
        LenetError
            There is no such plot, image, layer or unit, or the extra is missing.
        """
        from lenet.inspect.inspection import inspect  # imports SciPy

        test = None
        if images is not None:
            if labels is None and what in ("embedding", "reliability"):
                raise DataError(f"are needed for {what}", remedy="give them too", key="labels")
            if labels is None:
                labels = np.empty(0, np.uint8)
                images = image_array(images, self.preprocessing.input_shape)
                self.preprocessing.check(images)
            else:
                images, labels = self._pair(images, labels)
            test = Split(images, labels, self.class_names)
        draw = inspect(
            self.checkpoint(), what, number=number, layer=layer, unit=unit, label=label, test=test
        )
        return draw()

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Model:
        """Return the model in a checkpoint, or the one named ``pretrained``.

        Raises
        ------
        CheckpointError
            The file is missing, damaged or not a checkpoint.
        """
        stored = read_checkpoint(path)
        model = cls(restore_network(stored), stored.preprocessing, stored.class_names)
        model._origin = _Origin(
            stored.config,
            stored.dataset,
            stored.step,
            stored.epoch,
            stored.metrics,
            stored.model.initializer,
        )
        return model

    def summary(self) -> None:
        """Print the layers, shapes, weights and multiply-adds."""
        print(self)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.network.input_shape))
        names = ", ".join(self.class_names[:10]) + (", …" if len(self.class_names) > 10 else "")
        return f"{shape} images, {len(self.class_names)} classes: {names}\n{self.network!r}"

    def _initialized(self, initializer: str) -> Model:
        """Return this model, whose weights were drawn by ``initializer``."""
        self._origin = replace(self._origin, initializer=initializer)
        return self

    def _adopt_names(self, labels: object) -> None:
        """Take the class names from labels that are names, if the model has none."""
        found = _names_in(labels)
        numbers = _class_names(None, len(self.class_names))
        if found and self.class_names == numbers and not set(found) <= set(numbers):
            self.class_names = _class_names(found, len(numbers))

    def _pair(self, images: object, labels: object) -> Images:
        """Return images and labels, or refuse what does not fit the network or each other."""
        if found := _names_in(labels):
            unknown = [name for name in found if name not in self.class_names]
            if unknown:
                raise DataError(
                    f"{clipped(unknown[0])} is not a class of the model",
                    remedy=f"its classes are {first_names(self.class_names)}",
                    key="labels",
                )
            labels = [self.class_names.index(str(name)) for name in np.asarray(labels)]
        return labelled_images(images, labels, self.preprocessing, len(self.class_names))

    def _validation(
        self, validation: float | tuple[NDArray[np.uint8], NDArray[Any]], count: int
    ) -> tuple[Images | None, int]:
        """Return the validation images, if they are given, and their number."""
        if isinstance(validation, tuple | list) and len(validation) == 2:
            pair = self._pair(*validation)
            return pair, len(pair[0])
        if isinstance(validation, float | np.floating) and 0 <= validation < 1:
            return None, round(float(validation) * count)
        if isinstance(validation, int | np.integer) and not isinstance(validation, bool):
            return None, int(validation)
        raise ConfigError(
            f"must be a fraction below 1 or a number of images, is {clipped(repr(validation))}",
            remedy="write validation_split=0.1, or validation_data=(images, labels)",
            key="validation_split",
        )

    def _config(
        self,
        values: Mapping[str, object],
        settings: Mapping[str, object] | None = None,
        *,
        must_be_saved: bool,
    ) -> Config:
        """Return the configuration that describes network and training.

        A network with a layer that is not registered is left out, unless ``must_be_saved``.
        """
        if not isinstance(settings, Mapping | None):
            raise ConfigError(
                "must be keys with values", remedy='write {"augment.shift": 2}', key="settings"
            )
        precision = {"train.precision": self.network.dtype.name}
        for key in map(str, settings or {}):
            if key in {**values, **precision} or (key.startswith("model.") and key != "model.fuse"):
                raise ConfigError(
                    "is not one of the settings",
                    remedy="use the argument of fit, or build the network with it",
                    key=key,
                )
        try:
            made = self.specification()
        except ConfigError:
            if must_be_saved:
                raise
            network = {}
        else:
            network = {
                "model.layers": made.layers,
                "model.input": made.input_shape,
                "model.scale": made.scale,
                "model.shift": made.shift,
                "model.initializer": made.initializer,
            }
        given = {**values, **precision, **network, **(settings or {})}
        return Config().with_values({str(key): _plain(value) for key, value in given.items()})

    def _record(self, history: History, config: Config) -> None:
        """Remember a training, unless it ended before its first epoch did."""
        self.history = history
        if history.best is not None:
            best = history.best
            metrics = {
                "train_loss": best.train_loss,
                "train_accuracy": best.train_accuracy,
                "val_loss": best.val_loss,
                "val_accuracy": best.val_accuracy,
            }
            self._origin = _Origin(
                config, "arrays", best.step, best.epoch, metrics, self._origin.initializer
            )


load = Model.load


# --- Arguments ------------------------------------------------------------------------------------


def _input_shape(shape: object) -> tuple[int, int, int]:
    match shape:
        case [int(C), int(H), int(W)] if min(C, H, W) > 0:
            return C, H, W
    raise ConfigError(
        f"must be three integers (C,H,W), is {shape}",
        remedy="write (1, 28, 28) for grey images of 28×28 pixels",
        key="input_shape",
    )


def _precision(dtype: DTypeLike) -> object:
    """Return the name of a NumPy type; anything else as it is, for the configuration to reject."""
    try:
        return np.dtype(dtype).name
    except TypeError:
        return dtype


def _plain(value: object) -> object:
    """Return a NumPy number as Python's, which is what a configuration accepts."""
    return value.item() if isinstance(value, np.generic) else value


def _class_names(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    found = range(classes) if names is None else names
    are_strings = isinstance(names, Sequence) and all(isinstance(n, str) and n for n in names)
    if names is not None and not (are_strings and len(names) == classes):
        raise ConfigError(
            f"must be {classes} strings, one for each output of the network, is "
            f"{clipped(repr(names))}",
            remedy="give one name for each class, or leave them out",
            key="class_names",
        )
    return tuple(map(str, found))


def _names_in(labels: object) -> list[str]:
    """Return the sorted names in labels that are strings; none if the labels are numbers."""
    try:
        array = np.asarray(labels)
    except ValueError:  # rows of different lengths, which labelled_images refuses
        return []
    strings = array.ndim == 1 and (
        array.dtype.kind == "U" or all(isinstance(label, str) for label in array)
    )
    return sorted({str(label) for label in array}) if strings else []


def _opening(count: int, workers: int) -> str:
    return f"training on {count:,} images with {workers} worker{'s'[: workers != 1]}"
