"""The wish that a run end: through whom it is told, and what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lehr import status
from lehr.cli import stored
from lehr.errors import LehrError, StorageError
from lehr.launch import ending as endings
from lehr.launch import stopping

if TYPE_CHECKING:
    from lehr.cli.known import Known
    from lehr.cli.stored import Run
    from lehr.launch.jobs import Job, Jobs

LOOK_S = 1.0
UNHEARD_S = 75.0  # after which a run that says nothing has none who hears
STALE_S = 15.0  # that the last sign of life of a run may be behind its driver's end
RESTART_S = 30.0  # that a run whose attempt failed may take to begin the next one
AGAIN_S = 4.0  # between two tellings of a wish


def is_over(found: Known) -> bool:
    """Whether the run has ended, and nobody is about to begin it."""
    job, run = found.job, found.run
    if job is None:
        return run is not None and _has_ended(run)
    return not job.alive and not (run is not None and stored.is_alive(run) and _outlives(run, job))


def _outlives(run: Run, job: Job) -> bool:
    """Whether the run gave signs of life after its job had ended: then another driver has it."""
    return run.status is not None and run.status.time > (job.ended or job.started) + STALE_S


def _has_ended(run: Run) -> bool:
    told = run.status
    if told is None or told.status in status.ALIVE:
        return False
    return told.status != "failed" or time.time() - told.time > RESTART_S


def ending(found: Known) -> str:
    """How a run stands, in a few words."""
    run, job = found.run, found.job
    if run is None or not (run.status or run.attempts):
        if job is None:
            return "it was planned, and has not begun"
        if job.alive:
            return f"job {job.id} is {job.status.lower()}"
        first = (job.message.splitlines() or [""])[0].rstrip(":")
        return f"job {job.id} {job.status.lower()} before there was a step" + (f" ({first})" if first else "")
    checkpoint = stored.newest_checkpoint(run)
    if run.is_sweep:
        return f"{stored.state(run)}, {stored.progress(run)} over"
    told = f"{stored.state(run)} at step {stored.progress(run)}"
    told += f", checkpoint {checkpoint}" if checkpoint != stored.NOTHING else ", no checkpoint"
    if job is not None and not job.alive and stored.is_alive(run):
        return f"its driver has ended (job {job.id} {job.status.lower()}); last seen {told}"
    return told


class Wish:
    """That one run end.

    Args:
        found: the run as it is.
        there: the cluster, if one is named.
        now: at once, without a checkpoint.
    """

    def __init__(self, found: Known, there: Jobs | None, *, now: bool) -> None:
        self.found = found
        self._there, self._now = there, now
        self._told_at = 0.0

    @property
    def _on_cluster(self) -> bool:
        return self.found.job is not None and self.found.job.alive

    def ask(self, say: Callable[[str], None]) -> None:
        """Tell whoever hears it. A driver that Ray asks needs no storage to hear it, but to be killed."""
        run, job = self.found.run, self.found.job
        if self._there is not None and job is not None and job.alive:
            self._there.stop(job.id)
        if run is not None and (self._now or not self._on_cluster):
            endings.ask_now(run.folder) if self._now else stopping.ask(run.folder)
        self._told_at = time.monotonic()
        told = "end at once" if self._now else "finish its step, make a checkpoint and end"
        if run is not None and run.is_sweep and not self._now:
            told = "let its trials make a checkpoint, and end"
        if self._now and run is None:
            say("its storage is not seen here, through which it could be killed: Ray asks its driver to end")
            told = "end"
        say(f"asked run {self.found.name} to {told}; waiting for its end (Ctrl-C does not take that back)")

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time; of one that nobody drives any more, False sooner."""
        until, unheard = time.monotonic() + seconds, time.monotonic() + UNHEARD_S
        while not self._look():
            run, now = self.found.run, time.monotonic()
            if now > until or (now > unheard and not self._on_cluster and not (run and stored.is_alive(run))):
                return False
            time.sleep(LOOK_S)
        return True

    def _look(self) -> bool:
        """Whether it is over. Who does not answer is asked again."""
        with contextlib.suppress(LehrError):
            self._refresh()
            run = self.found.run
            if is_over(self.found) or (self._now and run is not None and endings.is_done(run.folder)):
                self._settle()
                return True
            if time.monotonic() - self._told_at > AGAIN_S:
                self._repeat()
        return False

    def _refresh(self) -> None:
        """What cluster and storage say now."""
        jobs, run = self.found.jobs, self.found.run
        if self._there is not None and self._on_cluster:
            newest = self._there.get(jobs[-1].id)
            jobs = (*jobs[:-1], newest) if newest else jobs[:-1]
        with contextlib.suppress(StorageError):
            run = stored.read(run.folder) if run is not None else None
        self.found = dataclasses.replace(self.found, jobs=jobs, run=run)

    def _repeat(self) -> None:
        """Tell it again: a job may have been too new to hear Ray, and a driver that starts forgets wishes."""
        run, job = self.found.run, self.found.job
        if self._there is not None and job is not None and job.alive:
            self._there.stop(job.id)
        if run is not None and self._now:
            endings.ask_now(run.folder)  # a driver that Ray asks puts its own wish there
        elif run is not None and not self._on_cluster and run.folder.size(stopping.KEY) is None:
            stopping.ask(run.folder)
        self._told_at = time.monotonic()

    def _settle(self) -> None:
        """After a kill nobody else says that the run has stopped."""
        run = self.found.run
        if not self._now or run is None or run.status is None or run.status.status not in status.ALIVE:
            return
        with contextlib.suppress(StorageError):
            told = dataclasses.replace(run.status, status="stopped", message="killed by lehr stop --now")
            self.found = dataclasses.replace(
                self.found, run=dataclasses.replace(run, status=status.write(run.folder, told), summary=None)
            )
