"""The results of the runs: a summary in sentences, and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import median

from lenet.evaluation.metrics import Evaluation
from lenet.report.parts import note, percent, table
from lenet.report.run_summary import RunSummary
from lenet.train.events import EpochEvent


def summary(runs: Sequence[RunSummary]) -> str:
    """Return a few sentences that sum the runs up."""
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


def _of_one(run: RunSummary) -> str:
    trained = f"The best of {len(run.log)} epochs is epoch {run.checkpoint.epoch}"
    seconds = sum(epoch.seconds for epoch in run.log)
    ended = f"{trained}; training took {_duration(seconds)}."
    if run.test is None:
        best = _best(run)
        score = f"Validation accuracy {percent(best.val_accuracy)}. " if best.val_accuracy else ""
        return f"{score}{ended}"
    evaluation = run.test.evaluation
    first = (
        f"Test accuracy {percent(evaluation.accuracy)}: {evaluation.mistakes:,} mistakes in "
        f"{evaluation.count:,} test images of {run.data}."
    )
    pairs = evaluation.worst_pairs()
    if not pairs:
        return f"{first} {ended}"
    true, given, count = pairs[0]
    times = "once" if count == 1 else f"{count:,} times"
    most = f"Most often, {run.classes[true]} is predicted as {run.classes[given]}: {times}."
    return f"{first} {most} {ended}"


def _of_several(runs: Sequence[RunSummary]) -> str:
    """Compare the two runs with the fewest mistakes, if they have the same test images."""
    tested = [(run, run.test.evaluation) for run in runs if run.test]
    if len(tested) < len(runs):
        return f"{len(runs)} runs; not all could be evaluated on test images."
    if len({(run.data, evaluation.count) for run, evaluation in tested}) > 1:
        return f"{len(runs)} runs with different test images: their results cannot be compared."
    (best, first), (next_best, second), *_ = sorted(tested, key=lambda pair: pair[1].mistakes)
    fewer = second.mistakes - first.mistakes
    if not fewer:
        return (
            f"{best.name} and {next_best.name} have the fewest mistakes: {first.mistakes:,} of "
            f"{first.count:,} each."
        )
    spread = 2 * sqrt(first.mistakes + second.mistakes)
    verdict = "less than" if fewer < spread else "more than"
    chance = ", so it may be chance" if fewer < spread else ""
    return (
        f"{best.name} has the fewest mistakes: {first.mistakes:,} of {first.count:,}, {fewer:,} "
        f"fewer than {next_best.name}. The difference is {verdict} two standard errors "
        f"({spread:.0f}){chance}."
    )


def results(runs: Sequence[RunSummary]) -> str:
    """Return the table of results, and why test images are missing."""

    def of_test(show: Callable[[Evaluation], str]) -> list[str]:
        return [show(run.test.evaluation) if run.test else "–" for run in runs]

    def of_best(show: Callable[[EpochEvent], str]) -> list[str]:
        return [show(_best(run)) for run in runs]

    seconds = [sum(epoch.seconds for epoch in run.log) for run in runs]
    speed = [median(epoch.images_per_second for epoch in run.log) for run in runs]
    rows = [
        ("Test accuracy", of_test(lambda e: percent(e.accuracy)), "first"),
        ("Mistakes", of_test(lambda e: f"{e.mistakes:,} of {e.count:,}"), ""),
        ("Test loss", of_test(lambda e: f"{e.loss:.4f}"), ""),
        ("Validation accuracy", of_best(lambda e: percent(e.val_accuracy)), ""),
        ("Training accuracy", of_best(lambda e: percent(e.train_accuracy)), ""),
        ("Best epoch", [f"{run.checkpoint.epoch} of {len(run.log)}" for run in runs], ""),
        ("Training time", [_duration(s) for s in seconds], ""),
        ("Training speed", [f"{s:,.0f} images/s" for s in speed], ""),
    ]
    missing = "".join(note(f"{run.name}: {run.problem}") for run in runs if run.problem)
    return f'<div class="card fit">{table(runs, rows)}</div>{missing}'


def _best(run: RunSummary) -> EpochEvent:
    return run.log[min(run.checkpoint.epoch, len(run.log)) - 1]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
