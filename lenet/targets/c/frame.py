"""What exported C files have in common: their frame, and the calls and constants in it.

A network becomes ``lenet.h`` and ``lenet.c``. A layer becomes calls of functions in a file beside
this one, of which the C file contains those that are called. Activations are in two buffers on the
stack, so that any number of threads can run the code. Images are planar: channels, then rows, then
columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

from lenet.errors import ConfigError
from lenet.targets.networks import ExportedNetwork, sample_image
from lenet.version import __version__

SIZES: Final = {"float": 4, "int8_t": 1, "int32_t": 4}  # bytes


@dataclass(frozen=True)
class Step:
    """A call of a function on a buffer; ``count`` numbers go to another, or None: in place."""

    function: str
    arguments: tuple[object, ...]
    count: int | None


@dataclass
class Code:
    """The calls and constants of a C file, in the order of the layers; functions of activations."""

    steps: list[Step] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    functions: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    nbytes: int = 0

    def call(self, function: str, count: int, *arguments: object) -> None:
        """Append a call that writes ``count`` numbers to another buffer."""
        self.steps.append(Step(function, arguments, count))

    def in_place(self, function: str, *arguments: object) -> None:
        """Append a call that changes the numbers of its buffer."""
        self.steps.append(Step(function, arguments, None))

    def pointwise(self, name: str, value: str) -> str:
        """Define a function that sets every ``x[i]`` to a value, and return its name in C."""
        name = f"apply_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        while True:
            text = (
                f"static void {name}(float *x, int count)\n{{\n"
                f"    for (int i = 0; i < count; i++)\n        x[i] = {value};\n}}"
            )
            if self.functions.setdefault(name, text) == text:
                return name
            name += "_"

    def array(self, name: str, kind: str, numbers: Sequence[str], note: str = "") -> str:
        """Declare an array of the type ``kind`` and return its name in C."""
        name = self._unique(name)
        start = f"static const {kind} {name}[{len(numbers)}] = {{{note and f' /* {note} */'}\n"
        self.constants.append(f"{start}{c_rows(numbers)}\n}};")
        self.nbytes += SIZES[kind] * len(numbers)
        return name

    def structure(self, name: str, kind: str, numbers: Iterable[int]) -> str:
        """Declare a structure of integers and return its address in C."""
        name, numbers = self._unique(name), list(numbers)
        inside = ", ".join(map(str, numbers))
        self.constants.append(f"static const struct {kind} {name} = {{\n    {inside}\n}};")
        self.nbytes += SIZES["int32_t"] * len(numbers)
        return f"&{name}"

    def calls(self, count: int) -> tuple[list[str], dict[str, int]]:
        """Return the calls that take an image in buffer a to the scores, and the buffers' sizes.

        ``count`` is the number of numbers of an image.
        """
        last = max(k for k, step in enumerate(self.steps) if step.count is not None)
        sizes, here, there = {"a": count}, "a", "b"
        calls = []
        for k, step in enumerate(self.steps):
            arguments = [here, *map(str, step.arguments)]
            if step.count is not None:
                here, there = ("scores" if k == last else there), here
                arguments.append(here)
                if k < last:
                    sizes[here] = max(sizes.get(here, 0), step.count)
            calls.append(f"{step.function}({', '.join(arguments)})")
        return calls, sizes

    def _unique(self, name: str) -> str:
        """Return a C identifier that no other constant has: layers may have any names."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        name = f"layer_{name}" if not name[0].isalpha() else name
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def c_files(
    exported: ExportedNetwork,
    code: Code,
    file: str,
    used: set[str],
    form: Mapping[str, object],
    prefix: str,
) -> dict[str, str]:
    """Return the two files by name, such as ``lenet.h`` and ``lenet.c``.

    ``file`` contains the functions, of which those in ``used`` are copied, and parts of the frame
    for numbers of its type, to which ``form`` belongs: ``SCORE``, the type of the scores, and so
    on. ``prefix`` begins the names of the files and of all that they define.
    """
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", prefix):
        raise ConfigError(
            f"{prefix!r} cannot begin the names of C",
            remedy="give a letter, then letters, digits and _",
            key="--prefix",
        )
    C, H, W = exported.network.input_shape
    _, height, width = exported.image_shape
    top, left, _, _ = exported.padding
    calls, sizes = code.calls(C * H * W)
    image, parts = sample_image(exported), _sections(file)
    functions = [text for name, text in parts.items() if name in used]
    form = {name.upper(): text for name, text in parts.items()} | dict(form)
    form["DECLARATIONS"] = str(form["DECLARATIONS"]).replace("@UNIT@", str(form.get("UNIT")))
    values = {
        "ORIGIN": re.sub(r"[^A-Za-z0-9 ,.-]", "?", exported.origin),
        "VERSION": __version__,
        "PLACEMENT": exported.placement.replace("fit ", "fit\n * "),
        "BLACK": " (background)" if C == 1 else "",
        "WHITE": " (ink)" if C == 1 else "",
        "CHANNELS": C,
        "HEIGHT": height,
        "WIDTH": width,
        "PIXELS": C * height * width,
        "CLASSES": len(exported.class_names),
        "CONSTANTBYTES": code.nbytes + image.size + 4 * len(exported.class_names),
        "MEMORY": sum(sizes.values()) * SIZES[str(form["NUMBER"])],
        "NAMES": "\n".join(f"    {c_string(name)}," for name in exported.class_names),
        "FUNCTIONS": "\n\n".join([*functions, *code.functions.values()]),
        "CONSTANTS": "\n\n".join(code.constants),
        "TESTIMAGE": c_rows([str(level) for level in image.ravel()]),
        "H": H,
        "W": W,
        "TOP": top,
        "LEFT": left,
        "BUFFERS": ", ".join(f"{name}[{count}]" for name, count in sizes.items()),
        "CALLS": "\n".join(f"    {call};" for call in calls),
        **form,
    }
    named = {k: _named(str(v), prefix) if k in form else v for k, v in values.items()}
    return {
        f"{prefix}.h": _filled(_named(_text("frame.h"), prefix), named),
        f"{prefix}.c": _filled(_named(_text("frame.c"), prefix), named),
    }


def _named(text: str, prefix: str) -> str:
    """Return a part of the frame with another prefix."""
    text = re.sub(r"\blenet(?=_|\.[ch]\b)", prefix, text)
    return re.sub(r"\bLENET(?=_)", prefix.upper(), text)


def _sections(file: str) -> dict[str, str]:
    """Return the parts of a file of this folder that begin with a line ``/* [name] */``."""
    _, *parts = re.split(r"^/\* \[(\w+)\] \*/\n", _text(file), flags=re.MULTILINE)
    return dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))


def _text(file: str) -> str:
    return files("lenet.targets.c").joinpath(file).read_text(encoding="ascii")


def c_rows(numbers: Sequence[str]) -> str:
    """Return the inside of an array's braces, in lines of at most 16 numbers."""
    count = 16 if max(map(len, numbers), default=0) < 5 else 6
    rows = [", ".join(numbers[i : i + count]) for i in range(0, len(numbers), count)]
    return ",\n".join(f"    {row}" for row in rows)


def c_string(text: str) -> str:
    """Return a C string of the UTF-8 bytes: letters, digits and spaces as they are."""
    return f'"{re.sub(rb"[^A-Za-z0-9 ]", _octal, text.encode()).decode()}"'


def _octal(byte: re.Match[bytes]) -> bytes:
    return b"\\%03o" % byte[0][0]


def _filled(template: str, values: Mapping[str, object]) -> str:
    """Return the template with every @NAME@ replaced by its value."""
    return re.sub("@([A-Z]+)@", lambda found: str(values[found[1]]), template)
