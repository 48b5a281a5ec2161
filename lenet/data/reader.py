"""What every reader of a data format returns: the arrays of one split, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Stored:
    """Images and labels as a file has them, of any type and layout.

    Attributes
    ----------
    images, labels
        Arrays of as many items each.
    images_file, labels_file
        Where they are from.
    images_key, labels_key
        Their names in the file, if it has several arrays.
    class_names
        One a class, if the data name them.
    whole
        There is one set for both splits, still to be divided into training and test images.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    images_file: Path
    labels_file: Path
    images_key: str | None = None
    labels_key: str | None = None
    class_names: tuple[str, ...] = ()
    whole: bool = False
