"""Import a network that another program has trained.

FILE is an ONNX file (needs the extra onnx) or PyTorch's weights, a state_dict, in a .safetensors
file. The network of an ONNX file must be a chain of layers, as PyTorch, Keras (by tf2onnx) and
scikit-learn (by skl2onnx) write them. Its scores are compared with those of ONNX's reference
evaluator before the checkpoint is written.

\b
    lenet import net.onnx --out net.npz
    lenet import mnist.onnx --scale 0.012728 --shift -0.42421 --out mnist.npz
    lenet import weights.safetensors --model net.yaml --out net.npz
"""

from __future__ import annotations

from pathlib import Path

import click

from lenet.cli.options import refuse_inputs, warn


@click.command(help=__doc__)
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The checkpoint to write.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME|FILE.yaml",
    help="For a .safetensors file, which contains no network: a packaged network, or a "
    "configuration with model.layers.",
)
@click.option(
    "--scale",
    type=float,
    help="The network's input is scale × level + shift.  [default: 1 if an ONNX file takes levels, "
    "that of --model if it states one, else 1/255]",
)
@click.option("--shift", type=float, help="See --scale.  [default: that of --model, else 0]")
@click.option("--classes", metavar="A,B,…", help="The names of the classes.  [default: 0,1,…]")
def command(
    source: Path,
    out: Path,
    model: Path | None,
    scale: float | None,
    shift: float | None,
    classes: str | None,
) -> None:
    from lenet.checkpoint.checkpoint import save_checkpoint

    refuse_inputs({"--out": out}, {"FILE": source, "--model": model})
    names = tuple(classes.split(",")) if classes is not None else None
    if model is None and source.suffix == ".safetensors":
        raise click.UsageError(
            "a .safetensors file contains no network: add --model NAME|FILE.yaml"
        )
    if model is None:
        from lenet.targets.onnx.importer import import_onnx

        imported = import_onnx(source, scale, shift, names)
        checkpoint = imported.checkpoint
        types = ", ".join(entry["type"] for entry in checkpoint.model.layers)
        left_out = f" ({imported.left_out} at the end left out)" if imported.left_out else ""
        report = (
            f"{types}{left_out}; from {imported.origin}; scores within {imported.difference:.1e} "
            f"of ONNX's; its input is {imported.scale} (--scale and --shift give another)"
        )
        if imported.warning:
            warn(imported.warning)
    else:
        from lenet.targets.torch.state_dict import import_state_dict

        checkpoint, modules = import_state_dict(source, model, scale, shift, names)
        pairs = ", ".join(f"{layer} from {module}" for layer, module in modules.items())
        stored = checkpoint.preprocessing
        report = f"{pairs}; its input is {stored.scale:.6g} × level + {stored.shift:.6g}"
    save_checkpoint(out, checkpoint)
    click.echo(f"{out}: {report}")
