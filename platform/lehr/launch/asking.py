"""What Ray Tune asks us: what runs next, and what becomes of what runs. Loaded only where Ray is.

Tune's loop calls all of it from one thread. It has no other state than which of its trials is which run.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from lehr.launch import embedded, train
from lehr.launch.floor import NOW, OVER, Floor
from lehr.launch.segment import WORD, Segment, task
from lehr.plan import Plan

__all__ = ["TuneError", "loop", "task"]

TAIL_BYTES = 20_000  # of what Tune writes down when a process dies


def loop(floor: Floor, *, task: Callable[[Plan], Mapping[str, Any]], beat: Callable[[], None]) -> None:
    """Run Tune until the desk has nothing more for it.

    Args:
        floor: what runs.
        task: what travels to the process of a segment.
        beat: called several times a second.
    """
    folder = embedded.folder(Path(tempfile.gettempdir()))  # Tune insists on one
    try:
        tune.run(
            Segment,
            name="sweep",
            storage_path=str(folder),
            search_alg=Asker(floor, task, beat),
            scheduler=Judge(floor, beat),
            num_samples=-1,
            reuse_actors=True,
            max_failures=-1,  # the floor counts
            raise_on_failed_trial=False,
            verbose=0,
            trial_name_creator=_run,
            trial_dirname_creator=_run,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(trial: Trial) -> str:
    run: str = trial.config["run"]
    return run


class Asker(Searcher):
    """Asks the floor for the next segment. Tune's trials have no other parameters than where to find it."""

    def __init__(
        self, floor: Floor, task: Callable[[Plan], Mapping[str, Any]], beat: Callable[[], None]
    ) -> None:
        super().__init__()
        self._floor, self._task, self._beat = floor, task, beat
        self._runs: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        """A segment's task; None: nothing now.

        While nothing has a place, Tune asks this for minutes and nothing else: room that comes is seen here.
        """
        self._beat()
        found = self._floor.suggest()
        if found == NOW:
            return None
        if found == OVER:
            return Searcher.FINISHED
        start, plan = found
        self._runs[trial_id] = start.run
        return self._task(plan)

    def on_trial_complete(self, trial_id: str, result: Any = None, *, error: bool = False) -> None:
        """The floor told the desk already. What Tune gave up by itself goes on as another trial of Tune's: it
        gives no other process to one whose process died idle, or while it was made ready for it."""
        run = self._runs.pop(trial_id)
        if error:
            self._floor.lost(run)

    def save_to_dir(self, *args: Any, **settings: Any) -> None:
        """Nothing is kept: the sweep's journal has it all."""


class Judge(FIFOScheduler):
    """Passes on what segments say, and what the floor wishes of them."""

    def __init__(self, floor: Floor, beat: Callable[[], None]) -> None:
        super().__init__()
        self._floor, self._beat = floor, beat
        self._trials: dict[str, Trial] = {}
        self._new: list[Trial] = []

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A segment is new, or its process died and it gets another one."""
        self._trials[_run(trial)] = trial
        self._new.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next that has no process yet; called at every turn of Tune's loop, ten times a second at least.

        Those for which a process is being started are left alone: Tune would give them the next process that
        is free, and throw the new one away.
        """
        self._beat()
        self._tell()
        self._sweep_up(tune_controller)
        while self._new:
            trial = self._new.pop(0)
            if trial.status == Trial.PENDING:
                return trial
        return None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """A process said something."""
        goes_on = self._floor.said(_run(trial), json.loads(result[WORD]))
        self._tell()
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A process died or raised; Tune gives the segment another one, if it is still to run then.

        Of one that died while it was made ready Tune tells twice: for the process, which takes it from the
        trial, and for its task. That is one failure.
        """
        if trial.status == Trial.PENDING and trial.temporary_state.ray_actor is None:
            return
        self._floor.fell(_run(trial), train.reason(_last(trial)))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """Tune has stopped it, as it was told."""
        self._trials.pop(_run(trial), None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """The same for one that had no process."""
        self._trials.pop(_run(trial), None)

    def _tell(self) -> None:
        """Tell processes that they shall end; a segment that waits for its process needs none any more."""
        for run, word, why in self._floor.wishes():
            actor = self._trials[run].temporary_state.ray_actor
            if actor is None:
                self._floor.cut(run)
            else:
                actor.wish.remote(word, why)
        for run in self._floor.overdue():
            actor = self._trials[run].temporary_state.ray_actor
            self._floor.cut(run)
            if actor is not None:
                ray.kill(actor)

    def _sweep_up(self, tune_controller: Any) -> None:
        """Take from Tune what is over and would get another process."""
        for run, trial in list(self._trials.items()):
            if run not in self._floor.places and trial.temporary_state.ray_actor is None:
                tune_controller.stop_trial(trial)


def _last(trial: Trial) -> str:
    """The last that Tune wrote down of a trial's failures: its scheduler is not told why."""
    with contextlib.suppress(OSError, TypeError):
        text = Path(trial.error_file).read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        return text.rpartition("Failure # ")[2].partition("\n")[2]
    return ""
