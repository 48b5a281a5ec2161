"""Check gradients numerically, and the derivation's identities.

Compares each layer, the fused layers, the loss and the whole network with central differences in
float64; kinks are skipped. A second table checks the identities of the derivation: im2col and
col2im are adjoint, the data gradient is a convolution with the rotated kernel, and the fused layer
equals the plain layers. Exits with code 5 if a check fails.

\b
    lenet gradcheck
    lenet gradcheck --config mnist --layer C3
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.cli.options import CONFIG, JSON, SET
from lenet.config.reader import load_config

if TYPE_CHECKING:
    from lenet.nn.gradcheck import GradientCheck, IdentityCheck


@click.command(help=__doc__)
@CONFIG
@SET
@click.option("--layer", metavar="NAME", help="Check only the layer with this name, e.g. C1.")
@JSON
def command(
    file: Path | None, overrides: tuple[str, ...], layer: str | None, as_json: bool
) -> None:
    from lenet.checkpoint.restore import build_network
    from lenet.errors import GateFailed
    from lenet.nn.gradcheck import (
        ROUNDING,
        TOLERANCE,
        check_gradients,
        check_identities,
        to_dict,
        to_table,
    )
    from lenet.train.build import build_loss, initialize

    config = load_config(file, overrides).for_named_data()
    network = build_network(config)
    initialize(network, config)
    loss = build_loss(network, config)
    gradients = check_gradients(network, loss, seed=config.seed, layer=layer)
    identities = check_identities(network, seed=config.seed, layer=layer)
    checks: list[GradientCheck | IdentityCheck] = [*gradients, *identities]
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
        click.echo(to_table(gradients, identities))
    if failed:
        raise GateFailed(
            f"{len(failed)} of {len(checks)} checks failed, the first with "
            f"an error of {failed[0].error:.1e}",
            remedy="its forward and backward pass disagree: correct the one that is wrong",
            key=f"layer {failed[0].layer}",
        )
