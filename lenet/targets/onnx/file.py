"""Reading ONNX files, which need not come from a trusted source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from lenet.errors import DataError
from lenet.system.extras import require
from lenet.system.files import open_regular, reading

MAX_BYTES: Final = 1 << 30


def read_onnx(path: Path, remedy: str = "export the network to ONNX again") -> Any:  # noqa: ANN401 - protobuf's own type
    """Return an ONNX file of at most 1 GiB; other files to which it refers are not read.

    ``remedy`` is that for what is no ONNX file.

    Raises
    ------
    DataError
        There is no such file, or it is no ONNX file.
    SystemFailure
        The extra ``onnx`` is not installed, or the file cannot be read.
    """
    onnx = require("onnx", extra="onnx")
    message = require("google.protobuf.message", extra="onnx")
    with (
        reading(path, DataError),
        open_regular(path, DataError, remedy="name an ONNX file") as file,
    ):
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise DataError("is larger than 1 GiB", remedy="give a smaller network")
        content = file.read()
    try:
        model = onnx.ModelProto.FromString(content)
    except (message.DecodeError, ValueError, RecursionError):
        model = None
    if model is None or not model.graph.node or not model.opset_import:
        raise DataError("is no ONNX file", remedy=remedy)
    return model
