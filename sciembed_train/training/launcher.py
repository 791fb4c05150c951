"""Starts the other ranks of this machine, as Lightning's launcher does, and watches them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning import Trainer
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.strategies.strategy import Strategy

from sciembed_train.training.rank_watch import RankWatch

POLL = 0.5  # seconds


class RunLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, but for what it does when a rank ends before its time.

    Lightning kills every process then, this one too (SIGKILL), before any can say which rank it
    was and what is safe. Here the watch is told, and this process ends itself.
    """

    def __init__(self, like: _SubprocessScriptLauncher, watch: RankWatch) -> None:
        super().__init__(like.cluster_environment, like.num_processes, like.num_nodes)
        self.watch = watch

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start the other ranks, unless another launcher has, and call the function."""
        self.cluster_environment.validate_settings(self.num_processes, self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            watching = threading.Thread(
                target=wait_for_children, args=(self.procs, self.watch), daemon=True
            )
            watching.start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


def wait_for_children(children: Sequence[subprocess.Popen[Any]], watch: RankWatch) -> None:
    """Return when all have ended as they should; tell the watch of the first that has not."""
    while True:
        codes = [child.poll() for child in children]
        for rank, code in enumerate(codes, start=1):
            if code:
                watch.child_ended(rank, code)
                return
        if None not in codes:
            return
        time.sleep(POLL)


def watch_children(strategy: Strategy, watch: RankWatch) -> None:
    """Have a strategy start its processes by `RunLauncher`, if it starts any."""
    launcher = strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        strategy._launcher = RunLauncher(launcher, watch)
