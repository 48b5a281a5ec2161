"""A second implementation of the checkpoint format, by docs/checkpoint.md, zipfile and json alone.

It makes valid and broken files, also broken ones with a correct checksum, for the tests and for
scripts/trial-fuzz: the writer under test is no oracle for its own reader.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from lenet.checkpoint.checkpoint import Checkpoint


class Canary:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path(self.path),)


def npy(array: np.ndarray) -> bytes:
    """The .npy form, with the header padded to 128 bytes."""
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode().ljust(117) + b"\n" + array.tobytes()


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system, info.external_attr = 3, 0o644 << 16
            info.compress_type = compression
            archive.writestr(info, content)
    return stream.getvalue()


def with_checksum(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """SHA-256 over every byte before the header of the last member."""
    plain = zipped([*members, ("sha256.npy", b"")])
    before = plain[: plain.index(b"PK\x01\x02")][: -30 - len("sha256.npy")]
    digest = np.frombuffer(hashlib.sha256(before).digest(), np.uint8)
    return [*members, ("sha256.npy", npy(digest))]


def forge(members: list[tuple[str, bytes]], **how: int) -> bytes:
    return zipped(with_checksum(members), **how)


def meta_of(checkpoint: Checkpoint) -> dict:
    training = checkpoint.training
    return {
        "format": 2,
        "needs": "0.2.0",
        "config": checkpoint.config.to_dict(),
        "model": {
            "input": list(checkpoint.model.input_shape),
            "layers": list(checkpoint.model.layers),
            "initializer": checkpoint.model.initializer,
        },
        "preprocessing": {
            name: getattr(checkpoint.preprocessing, name)
            for name in ("scale", "shift", "background")
        },
        "class_names": list(checkpoint.class_names),
        "dataset": checkpoint.dataset,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "training": training
        and {
            "optimizer": list(training.optimizer),
            "average": list(training.average),
            "progress": training.progress,
        },
        "facts": dict(checkpoint.facts),
    }


def format_1(meta: dict) -> dict:
    """The same in format 1, which stored no specification, no state, and knew one channel only."""
    _, size, _ = meta["model"]["input"]
    old = {name: value for name, value in meta.items() if name != "model"}
    kept = {name: meta["preprocessing"][name] for name in ("scale", "shift")}
    return old | {"format": 1, "needs": "0.1.0", "preprocessing": kept | {"input_size": size}}


def text_of(meta: object) -> bytes:
    return json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()


def members_of(checkpoint: Checkpoint, text: bytes | None = None) -> list[tuple[str, bytes]]:
    text = text_of(meta_of(checkpoint)) if text is None else text
    arrays = {f"parameters/{n}": a for n, a in checkpoint.parameters.items()}
    arrays |= {f"state/{n}": a for n, a in checkpoint.state.items()}
    if training := checkpoint.training:
        arrays["training/parameters"] = training.parameters
        arrays |= {f"training/optimizer/{n}": a for n, a in training.optimizer.items()}
        arrays |= {f"training/average/{n}": a for n, a in training.average.items()}
    first = ("meta.npy", npy(np.frombuffer(text, np.uint8)))
    return [first, *((f"{name}.npy", npy(array)) for name, array in arrays.items())]
