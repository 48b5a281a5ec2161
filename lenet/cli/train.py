"""Train a network; without --config, on built-in digits.

The built-in digits need no download. Writes config.yaml, log.jsonl, log.csv, last.npz and best.npz
to the output directory; best.npz is the epoch with the best validation result.

\b
    lenet train --config mnist --set train.epochs=3 --output runs/short
    lenet eval runs/short/best.npz
    lenet train --data pictures/ --output runs/pictures
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet.cli.options import (
    CONFIG,
    DATA,
    DATA_DIR,
    JSON,
    LABELS,
    SET,
    VALIDATION,
    data_overrides,
    warn,
)
from lenet.config.reader import is_packaged, load_config
from lenet.config.schema import Config
from lenet.parallel.launch import mpi_rank_and_size, use_mpi

if TYPE_CHECKING:
    from lenet.train.events import Callback, EpochEvent
    from lenet.train.run import TrainingResult


@click.command(help=__doc__)
@CONFIG
@SET
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run directory (output.dir).",
)
@click.option("--resume", is_flag=True, help="Resume the run in the output directory.")
@click.option("--overwrite", is_flag=True, help="Replace the run in the output directory.")
@click.option(
    "--from",
    "start",
    metavar="CHECKPOINT",
    help="Train from the weights of a checkpoint, or pretrained: fine-tuning (train.start).",
)
@DATA
@VALIDATION
@LABELS
@DATA_DIR
@click.option(
    "--seed", type=int, help="Seed for initial weights, shuffling and augmentation (seed)."
)
@click.option(
    "--workers",
    metavar="N|auto|mpi",
    help="Number of processes that share each batch; mpi: the ranks of mpiexec (train.workers).",
)
@click.option(
    "--tensorboard", is_flag=True, help="Write scalars to tensorboard/ in the run directory."
)
@click.option("--quiet", is_flag=True, help="Show no progress during training.")
@JSON
def command(
    file: Path | None,
    overrides: tuple[str, ...],
    output: Path | None,
    resume: bool,
    overwrite: bool,
    start: str | None,
    data: str | None,
    validation: str | None,
    labels: str | None,
    data_dir: Path | None,
    seed: int | None,
    workers: str | None,
    tensorboard: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    _, ranks = mpi_rank_and_size() or (0, 1)
    if workers == "mpi" and _followed(ranks):
        return
    if resume and file is None and output is not None and (output / "config.yaml").exists():
        file = output / "config.yaml"
    keys = {"validation_path": validation, "labels": labels}
    overrides = data_overrides(data, data_dir, overrides, **keys)
    base = None
    if start is not None:
        from lenet.config.rules import as_yaml

        overrides = (f"train.start={as_yaml(start)}", *overrides)
        if data is None and file is None and not resume:  # the same images once more
            from lenet.checkpoint.restore import read_checkpoint

            base = read_checkpoint(start).config
    config = _resolved(load_config(file, overrides, base), output, seed, workers)
    if config.train.workers == "mpi":
        if workers != "mpi" and _followed(ranks):
            return
    elif ranks > 1:
        warn(
            f"mpiexec or srun started {ranks} processes: each trains alone; --workers mpi makes "
            "them train one network"
        )

    from lenet.train.callbacks import ChanceWarning, Display
    from lenet.train.run import run_training

    epochs, metric = config.train.epochs, config.train.best_metric
    callbacks: list[Callback] = []
    if not quiet:
        callbacks.append(Display(epochs, partial(_opening, config), metric=metric))
    callbacks.append(ChanceWarning(config, warn))
    if tensorboard:
        from lenet.train.callbacks import TensorBoard

        callbacks.append(TensorBoard(Path(config.output.dir) / "tensorboard"))
    outcome = run_training(
        config,
        directory=data_dir and str(data_dir),
        resume=resume,
        overwrite=overwrite,
        fit_outputs=is_packaged(file),
        callbacks=callbacks,
        warn=warn,
    )
    _conclude(config, outcome, as_json)


def _followed(ranks: int) -> bool:
    """Join the MPI job; return False on rank 0 at once, and True on the others after the job."""
    use_mpi()
    if ranks == 1:
        return False
    from lenet.parallel.mpi import MPIGroup

    job = MPIGroup()
    if job.rank:
        job.run_worker()
    return bool(job.rank)


def _resolved(config: Config, output: Path | None, seed: int | None, workers: str | None) -> Config:
    values: dict[str, object] = {}
    if output is not None:
        values["output.dir"] = str(output)
    if seed is not None:
        values["seed"] = seed
    if workers is not None:
        values["train.workers"] = int(workers) if workers.lstrip("-").isdigit() else workers
    return config.with_values(values) if values else config


def _opening(config: Config, workers: int) -> str:
    """Return the line that is printed before the first epoch."""
    from lenet.nn.gemm import DEFAULT_BLOCK

    block = DEFAULT_BLOCK if config.train.block == "auto" else config.train.block
    return (
        f"training on {config.data.title} with {workers} worker{'s'[: workers != 1]}, products of "
        f"at most {block:,} multiply-adds, into {config.output.dir}"
    )


def _best_result(config: Config, best: EpochEvent) -> str:
    if best.val_accuracy is None or best.val_score is None:
        return f"training accuracy {best.train_accuracy:.2%}, no validation"
    metric = config.train.best_metric
    accuracy = f"validation accuracy {best.val_accuracy:.2%}"
    if metric == "accuracy":
        return accuracy
    value = f"{best.val_score:.4f}" if metric == "loss" else f"{best.val_score:.2%}"
    return f"validation {metric.replace('_', ' ')} {value}, {accuracy}"


def _conclude(config: Config, outcome: TrainingResult, as_json: bool) -> None:
    """Print the result of the run; exit with 128 + N if signal N stopped it."""
    best, last = outcome.best, outcome.last
    directory = Path(config.output.dir)
    if as_json:
        import json
        from dataclasses import asdict

        result: dict[str, Any] = {
            "schema_version": 1,
            "directory": str(directory),
            "checkpoint": str(directory / "best.npz"),
            "workers": outcome.workers,
            "stopped_by_signal": outcome.signal,
            "best": best and asdict(best),
            "last": last and asdict(last),
        }
        click.echo(json.dumps(result))
    elif best is not None and last is not None:
        click.echo(f"best epoch {best.epoch} of {last.epoch}: {_best_result(config, best)}")
        click.echo(
            f"{directory / 'best.npz'}: evaluate it with lenet eval {directory / 'best.npz'}"
        )
    elif outcome.signal is None:
        click.echo(f"{directory}: this run is already complete, nothing to train")
    if outcome.signal is not None:
        click.echo(
            f"lenet: stopped by signal {outcome.signal}; resume with lenet train --resume "
            f"--output {directory}",
            err=True,
        )
        raise SystemExit(128 + outcome.signal)
