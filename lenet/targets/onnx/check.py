"""Running exported ONNX: before it is written, and later on the test image in its own metadata.

The latter uses onnxruntime if it is installed, otherwise ONNX's reference evaluator.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lenet.arrays import Array
from lenet.errors import DataError, GateFailed, LenetError, SystemFailure
from lenet.system.extras import require
from lenet.targets.networks import ExportedNetwork
from lenet.targets.onnx.export import DTYPES, OPSET, TOLERANCE, Input, onnx_model
from lenet.targets.onnx.graph import read_onnx


def checked_model(
    exported: ExportedNetwork, input_type: Input = "bytes", opset: int = OPSET
) -> tuple[bytes, float]:
    """Return the ONNX file, and how far its scores are from this package's on images of noise."""
    model = onnx_model(exported, input_type, opset)
    noise = np.random.default_rng(0).integers(256, size=(16, *exported.image_shape))
    return model, compare(model, exported, noise.astype(np.uint8))


def compare(model: bytes, exported: ExportedNetwork, images: Array) -> float:
    """Return the largest difference of ONNX's reference evaluator from this package's scores."""
    reference = require("onnx.reference", extra="onnx")
    onnx = require("onnx", extra="onnx")
    read = onnx.load_from_string(model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(read.graph.input[0].type.tensor_type.elem_type)
    try:
        (scores,) = reference.ReferenceEvaluator(read).run(
            ["scores"], {"images": images.astype(dtype)}
        )
    except Exception as error:  # it raises errors of many classes
        raise GateFailed(
            f"the exported network cannot be run by the evaluator of onnx {onnx.__version__}",
            remedy="pip install --upgrade onnx",
            key="scores",
        ) from error
    own = exported.scores(images)
    difference = float(np.max(np.abs(scores - own)))
    if not difference <= TOLERANCE * max(1, float(np.max(np.abs(own)))):
        raise GateFailed(
            f"the exported network's scores are off by {difference:.1e}",
            remedy="do not use it, and report this with the versions of onnx and NumPy",
            key="scores",
        )
    return difference


@dataclass(frozen=True)
class Check:
    """What a file answered, and which program ran it."""

    answer: str
    difference: float
    runtime: str


def check_file(path: Path) -> Check:
    """Run the file on its test image and compare its scores with the stored ones."""
    try:
        return _check(path)
    except LenetError as error:
        error.file = error.file or str(path)
        raise


def _check(path: Path) -> Check:
    model = read_onnx(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
        stored = base64.b64decode(metadata["test_image"], validate=True)
        expected = np.array(json.loads(metadata["test_scores"]), np.float64)
        answer = metadata["test_answer"]
        dtype = DTYPES["float" if metadata["input"].startswith("images, float32") else "bytes"]
        if len(stored) != prod(shape) or not np.isfinite(expected).all():
            raise ValueError("another size")
        image = np.frombuffer(stored, np.uint8).reshape(1, *shape).astype(dtype)
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        raise DataError(
            "has no test image in its metadata",
            remedy="give a file that lenet export has written",
        ) from None
    runtime, scores = _run(model, image)
    if scores.shape != expected.shape:
        raise _failed(f"gives scores of the shape {scores.shape}, not {expected.shape}")
    difference = float(np.abs(scores - expected).max(initial=0))
    if not difference <= TOLERANCE * max(1, float(np.abs(expected).max(initial=0))):
        raise _failed(f"its scores are off by {difference:.1e} in {runtime}")
    return Check(answer, difference, runtime)


def _run(model: Any, image: Array) -> tuple[str, Array]:  # noqa: ANN401 - protobuf's own type
    """Return the name of the program that ran the model, and the scores of the image."""
    content = model.SerializeToString()
    try:
        try:
            runtime = require("onnxruntime", extra="onnx")
        except SystemFailure:
            onnx, reference = require("onnx", extra="onnx"), require("onnx.reference", extra="onnx")
            name = f"the reference evaluator of onnx {onnx.__version__}"
            run = reference.ReferenceEvaluator(model).run
        else:
            name = f"onnxruntime {runtime.__version__}"
            run = runtime.InferenceSession(content, providers=["CPUExecutionProvider"]).run
        return name, np.asarray(run(["scores"], {"images": image})[0][0], np.float64)
    except Exception as error:  # runtimes raise errors of many classes
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _failed(f"cannot be run: {reason[0][:200]}") from error


def _failed(problem: str) -> GateFailed:
    return GateFailed(problem, remedy="do not use the file; export the network again", key="scores")
