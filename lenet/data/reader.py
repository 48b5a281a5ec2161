"""The result of a reader of a data format: the arrays of one split, as stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Stored:
    """Images and labels as stored in a file, of any type and layout.

    Attributes
    ----------
    images, labels
        Arrays of the same length.
    images_file, labels_file
        The files that contain them.
    images_key, labels_key
        Their names in the file, if it has several arrays.
    class_names
        One name per class, if the data contain them.
    whole
        Whether this is one set for both splits, still to be divided into training and test images.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    images_file: Path
    labels_file: Path
    images_key: str | None = None
    labels_key: str | None = None
    class_names: tuple[str, ...] = ()
    whole: bool = False
