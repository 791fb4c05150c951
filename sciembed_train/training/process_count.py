"""Whether a run can continue on another number of processes, and the message about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.plan import StepPlan


def processes(count: int) -> str:
    """A number of processes in words."""
    return "1 process" if count == 1 else f"{count} processes"


def process_count_line(
    path: Path, content: Mapping[str, Any], method: Method, data: TrainingData, now: int
) -> str | None:
    """The message for a run that continues on another number of processes; None if it does not.

    Args:
        path: of the checkpoint, for messages.
        content: the checkpoint, which fits the method and the data.
        method: what is trained.
        data: what it is trained on.
        now: processes of the run as it is now.

    Raises:
        UserError: the steps of so many processes are not those of the checkpoint's run.
    """
    then = (content["sciembed"].get("training") or {}).get("processes")
    if then is None or then == now:
        return None
    here = f"{path}: is of a run on {processes(then)}, and this is one on {processes(now)}"
    anew = (
        "or start anew with another --run (--model.encoder.backbone RUN/export goes on from its "
        "weights)."
    )
    why = method.depends_on_processes
    if why is not None:
        raise UserError(f"{here}; {why}. Continue it on {processes(then)}, {anew}")
    step = content["global_step"]
    if not _same_step(data.plan(then), data.plan(now), step):
        fitting = ", ".join(map(str, _fitting(data, then, step)))
        raise UserError(
            f"{here}, where steps of data.batch_size={data.settings.batch_size} have other "
            "examples (of tasks, every process has equally many of each). Numbers of processes "
            f"with the same steps: {fitting}. Continue it on one of them, {anew}"
        )
    return (
        f"continued on {processes(now)}, where the checkpoint's run had {then}: the steps are the "
        "same but for rounding, and for dropout, which every process draws for itself."
    )


def _same_step(one: StepPlan, other: StepPlan, step: int) -> bool:
    """Whether a step has the same examples in two plans, shared among ranks in whatever way."""
    here, there = np.sort(one.indices(step)), np.sort(other.indices(step))
    return one.steps_per_epoch == other.steps_per_epoch and np.array_equal(here, there)


def _fitting(data: TrainingData, then: int, step: int) -> list[int]:
    """The numbers of processes whose steps are those of ``then`` processes."""
    found = []
    for count in range(1, data.settings.batch_size + 1):
        try:
            plan = data.plan(count)
        except UserError:  # so many cannot share a step
            continue
        if _same_step(data.plan(then), plan, step):
            found.append(count)
    return found
