"""Export a network to ONNX, C or PyTorch, for use without lenet.

ONNX and C take raw images with levels from 0 to 255, channels first; in greyscale, 0 is
background and 255 ink. Scaling and padding are included. Levels from 0 to 1 are taken for a blank
image, for which no class is certain. The ONNX model takes batches of any size. Before it is
written, it is validated by ONNX's checker and its output is compared with this package's. The C
code needs only the C library. A .safetensors file contains the weights as PyTorch names them and
the classes of torch.nn that make the network; the configuration is written beside it.

\b
    lenet export runs/mnist/best.npz --onnx lenet.onnx
    lenet export pretrained --c firmware/
    lenet export net.npz --c firmware/ --int8 --prefix digits
    lenet export net.npz --safetensors net.safetensors
    lenet export --check lenet.onnx
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click

from lenet.cli.options import DATA, DATA_DIR, refuse_inputs, warn


def _size(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Return ``N`` or ``HxW`` as height and width."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size, such as 28 or 32x24")
    return int(found[1]), int(found[2] or found[1])


@click.command(help=__doc__)
@click.argument(
    "checkpoint",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT|pretrained",
    required=False,
)
@click.option(
    "--onnx",
    "onnx_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an ONNX model (needs the extra onnx).",
)
@click.option(
    "--c",
    "c_directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write lenet.c and lenet.h to this directory.",
)
@click.option(
    "--safetensors",
    "weights_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the weights for PyTorch (needs the extra safetensors), and FILE.yaml.",
)
@click.option(
    "--image-size",
    metavar="N|HxW",
    callback=_size,
    help="Height and width of the raw images.  [default: 28 for greyscale, else the input's]",
)
@click.option(
    "--input",
    "input_type",
    type=click.Choice(["bytes", "float"]),
    default="bytes",
    show_default=True,
    help="The ONNX model's input: levels from 0 to 255 as uint8 or as float32.",
)
@click.option(
    "--opset",
    type=int,
    metavar="N",
    help="The version of ONNX's operators, from 11 to 17.  [default: 11]",
)
@click.option(
    "--int8",
    is_flag=True,
    help="With --c: weights and activations in 8 bits, integer arithmetic only; the ranges are "
    "those of 1,000 drawn digits, or training images (--data, or a network of something else).",
)
@click.option(
    "--prefix",
    default="lenet",
    show_default=True,
    metavar="NAME",
    help="With --c: begins the names of the files and of all that they define, so that one program "
    "can contain several networks.",
)
@DATA
@DATA_DIR
@click.option(
    "--check",
    "check",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run an exported ONNX file on the test image in it.",
)
def command(
    checkpoint: Path | None,
    onnx_file: Path | None,
    c_directory: Path | None,
    weights_file: Path | None,
    image_size: tuple[int, int] | None,
    input_type: Literal["bytes", "float"],
    opset: int | None,
    int8: bool,
    prefix: str,
    data: str | None,
    data_dir: Path | None,
    check: Path | None,
) -> None:
    if onnx_file is None and c_directory is None and weights_file is None and check is None:
        raise click.UsageError("give --onnx FILE, --c DIR or --safetensors FILE, or --check FILE")
    if checkpoint is None and (onnx_file or c_directory or weights_file):
        raise click.UsageError("Missing argument 'CHECKPOINT|pretrained'.")
    if c_directory is None and (int8 or prefix != "lenet"):
        raise click.UsageError(f"{'--int8' if int8 else '--prefix'} needs --c DIR")
    weights_yaml = weights_file and weights_file.with_suffix(".yaml")
    outputs = {
        "--onnx": onnx_file,
        "--safetensors": weights_file,
        "--safetensors' .yaml": weights_yaml,
    }
    refuse_inputs(outputs, {"CHECKPOINT": checkpoint, "--data": data})
    if checkpoint is not None and onnx_file is not None:
        _export_onnx(checkpoint, onnx_file, image_size, input_type, opset)
    if checkpoint is not None and c_directory is not None and int8:
        _export_int8(checkpoint, c_directory, image_size, prefix, data, data_dir)
    elif checkpoint is not None and c_directory is not None:
        _export_c(checkpoint, c_directory, image_size, prefix)
    if checkpoint is not None and weights_file is not None:
        _export_weights(checkpoint, weights_file)
    if check is not None:
        from lenet.targets.onnx.check import check_file

        found = check_file(check)
        click.echo(
            f"{check}: the answer is {found.answer}, its scores within {found.difference:.1e} of "
            f"those stored, in {found.runtime}"
        )


def _export_weights(checkpoint: Path, weights_file: Path) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.targets.torch.state_dict import save_state_dict

    reason = save_state_dict(weights_file, read_checkpoint(checkpoint))
    if reason:
        warn(f"{reason}: {weights_file} contains the weights only")
    beside = weights_file.with_suffix(".yaml")
    click.echo(f"{weights_file}: weights for PyTorch (docs/export.md); its configuration: {beside}")


def _export_onnx(
    checkpoint: Path,
    onnx_file: Path,
    image_size: tuple[int, int] | None,
    input_type: Literal["bytes", "float"],
    opset: int | None,
) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.system.files import replacing
    from lenet.targets.networks import exported_network
    from lenet.targets.onnx.check import checked_model
    from lenet.targets.onnx.export import OPSET

    exported = exported_network(read_checkpoint(checkpoint), image_size)
    model, difference = checked_model(exported, input_type, OPSET if opset is None else opset)
    with replacing(onnx_file) as file:
        file.write(model)
    click.echo(f"{onnx_file}: its scores are within {difference:.1e} of lenet's")


def _export_c(
    checkpoint: Path, c_directory: Path, image_size: tuple[int, int] | None, prefix: str
) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.targets.c.float32 import c_source
    from lenet.targets.networks import exported_network

    exported = exported_network(read_checkpoint(checkpoint), image_size)
    _write_c(c_directory, c_source(exported, prefix))
    click.echo(f"{c_directory / prefix}.c: compile with cc -std=c99 -O2, link with -lm")


def _export_int8(
    checkpoint: Path,
    c_directory: Path,
    image_size: tuple[int, int] | None,
    prefix: str,
    data: str | None,
    data_dir: Path | None,
) -> None:
    from lenet.checkpoint.restore import read_checkpoint
    from lenet.data.strokes import draw
    from lenet.evaluation.images import load_split, with_data
    from lenet.targets.c.int8 import CALIBRATION, int8_source, quantized
    from lenet.targets.networks import exported_network

    stored = read_checkpoint(checkpoint)
    exported = exported_network(stored, image_size)
    if data is None and exported.is_of_digits:
        images = draw(CALIBRATION, seed=0)[0]
    else:
        images = load_split(with_data(stored.config, data, data_dir), "train", data_dir).images
    _write_c(c_directory, int8_source(quantized(exported, images), prefix))
    click.echo(f"{c_directory / prefix}.c: compile with cc -std=c99 -O2")


def _write_c(c_directory: Path, sources: Mapping[str, str]) -> None:
    from lenet.system.files import replacing

    for name, text in sources.items():
        with replacing(c_directory / name) as file:
            file.write(text.encode("ascii"))
