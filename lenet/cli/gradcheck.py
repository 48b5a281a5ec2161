"""``lenet gradcheck``: backward passes against central differences, and the identities."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import CONFIG, JSON, SET
from lenet.config.reader import load_config

if TYPE_CHECKING:
    from lenet.training.gradcheck import Gradient, Identity


@click.command()
@CONFIG
@SET
@click.option("--layer", metavar="NAME", help="Check only the layer with this name, e.g. C1.")
@JSON
def gradcheck(
    file: Path | None, overrides: tuple[str, ...], layer: str | None, as_json: bool
) -> None:
    """Check the gradients of a network numerically. Needs no data and no training.

    Compares each layer, the fused layers, the loss and the whole network with central differences
    in float64; kinks are skipped. A second table checks the identities of the derivation: im2col
    and col2im are adjoint, the data gradient is a convolution with the rotated kernel, and the
    fused layer equals the plain layers. Exits with code 5 if a check fails.

    \b
        lenet gradcheck
        lenet gradcheck --config configs/mnist.yaml --layer C3
    """  # noqa: D301 - click's mark for lines to leave as they are
    from lenet.system.errors import GateFailed
    from lenet.training.gradcheck import (
        ROUNDING,
        TOLERANCE,
        check_gradients,
        check_identities,
        to_dict,
    )

    config = load_config(file, overrides)
    gradients, identities = check_gradients(config, layer), check_identities(config, layer)
    checks: list[Gradient | Identity] = [*gradients, *identities]
    failed = [check for check in checks if not check.passed]
    if as_json:
        facts = {
            "schema_version": 1,
            "tolerance": TOLERANCE,
            "gradients": [to_dict(check) for check in gradients],
            "rounding": ROUNDING,
            "identities": [to_dict(check) for check in identities],
            "passed": not failed,
        }
        click.echo(json.dumps(facts))
    else:
        click.echo("\n".join(_gradient_table(gradients, TOLERANCE)))
        if identities:
            click.echo("\n" + "\n".join(_identity_table(identities, ROUNDING)))
    if failed:
        raise GateFailed(
            f"{len(failed)} of {len(checks)} checks failed, the first with "
            f"an error of {failed[0].error:.1e}",
            remedy="its forward and backward pass disagree: correct the one that is wrong",
            key=f"layer {failed[0].layer}",
        )


def _gradient_table(gradients: Iterable[Gradient], tolerance: float) -> Iterable[str]:
    yield f"gradients against central differences, float64, tolerance {tolerance:.0e}"
    yield f"{'layer':14}  {'kind':19}  {'checked':>7}  {'kinks':>5}  {'largest error':>13}  in"
    for check in gradients:
        yield (
            f"{check.layer:14}  {check.kind:19}  {check.checked:7}  {check.kinks:5}  "
            f"{check.error:13.1e}  {check.array}{'' if check.passed else '  FAILED'}"
        )


def _identity_table(identities: Iterable[Identity], tolerance: float) -> Iterable[str]:
    yield f"identities, float64, tolerance {tolerance:.0e}"
    yield f"{'identity':14}  {'layer':36}  {'largest error':>13}"
    for check in identities:
        yield (
            f"{check.name:14}  {check.layer:36}  {check.error:13.1e}"
            f"{'' if check.passed else '  FAILED'}"
        )
