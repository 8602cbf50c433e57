"""One attempt at a run, on one worker: builds, resumes, trains, and does what is due between steps."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import numpy as np

from lehr import figures, samples
from lehr.checkpoint.saver import Saver
from lehr.errors import CheckpointError, DivergenceError, StorageError, letter
from lehr.journal import Journal
from lehr.loop.meter import Meter, Stopwatch
from lehr.loop.train import Due, Parts, score, train
from lehr.plan import Plan
from lehr.samples import Meta
from lehr.store import Store
from lehr.strategies.guard import Guard, share
from lehr.strategies.strategy import Strategy
from lehr.tracking import tracker as trackers
from lehr.worker.build import build
from lehr.worker.clock import Clock, StopRequest
from lehr.worker.outcome import Outcome, Status
from lehr.worker.report import Pulse, Report
from lehr.worker.resume import initialise, resume
from lehr.worker.sampling import Sampler


def versions() -> dict[str, str]:
    """What made a checkpoint: names and versions of the packages that decide its numbers."""
    names = ["lehr", "tensorflow", "keras", "numpy", "horovod", "ray"]
    found = {name: _version(name) for name in names}
    return {"python": platform.python_version(), **{k: v for k, v in found.items() if v}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def insist(saver: Saver, *, minutes: float, where: str) -> None:
    """Raise CheckpointError when what is trained is not kept: a save has failed, and none has succeeded for
    `minutes` since; or a later attempt has begun, and this one may keep nothing any more."""
    if saver.fenced:
        raise CheckpointError(
            letter(where, f"attempt {saver.attempt} is over: a later attempt at this run has begun")
        )
    failed_s = 0.0 if saver.failed_since is None else saver.patience.now() - saver.failed_since
    if saver.failed_since is not None and failed_s >= 60.0 * minutes:
        raise CheckpointError(
            letter(
                where,
                f"no checkpoint could be saved; the last one is of step {saver.committed or 0} "
                "(see the journal's checkpoint_failed events)",
                do="mend the storage and give the same command again: it goes on from that checkpoint",
            )
        )


class Life:
    """The loop's attendant. Rank 0 reports; every rank saves its part."""

    def __init__(
        self, plan: Plan, run: Store, strategy: Strategy, attempt: int, request: StopRequest
    ) -> None:
        self._plan, self._run, self._strategy, self._attempt = plan, run, strategy, attempt
        self._request = request
        self._step = 0
        self._report: Report | None = None
        self._pulse: Pulse | None = None
        self._sampler: Sampler | None = None
        if strategy.rank == 0:
            self._pulse = Pulse(run, plan, attempt, request)
            journal = Journal(run, attempt)
            tracker = trackers.make(plan, run, tell=lambda text: journal.event("tracking", message=text))
            self._report = Report(plan, journal, tracker)
        self._saver = Saver(
            run,
            rank=strategy.rank,
            workers=strategy.workers,
            attempt=attempt,
            spec_hash=plan.spec_hash,
            versions=versions(),
            keep=plan.spec.checkpoint,
            on_event=self._event,
        )

    def train(self) -> Outcome:
        """Build, resume, train."""
        plan, strategy = self._plan, self._strategy
        built = self._built = build(plan, strategy)
        self._meter, self._watch = Meter(built.objective.metrics), Stopwatch()
        early: list[tuple[str, dict[str, Any]]] = []
        manifest, progress = resume(plan, self._run, strategy, built, lambda e, **f: early.append((e, f)))
        if manifest is None:
            initialise(plan, built, lambda e, **f: early.append((e, f)))
        else:
            self._step = manifest.step
            self._meter.restore(progress["meter"])
            self._saver.resumed_from(manifest)
        self._begin(early)
        self._guard = Guard(strategy, built.variables)
        self._guard.check_sum()
        self._guard.check_parameters(self._step)
        self._clock = Clock(plan, rank=strategy.rank, stop=self._request, start=self._step)
        batches = built.feed.batches(self._step)
        parts = Parts(built.update, batches, built.memory, strategy.local_replicas, self._meter, self._watch)
        try:
            self._step = train(parts, self, start=self._step, steps=plan.steps)
        finally:
            batches.close()
        return self.end("completed" if self._step >= plan.steps else "stopped")

    def _begin(self, early: list[tuple[str, dict[str, Any]]]) -> None:
        strategy = self._strategy
        processes = [row[0] for row in share(strategy, [os.getpid()])]
        if self._report is not None:
            self._report.start(
                self._attempt,
                self._step,
                spec_hash=self._plan.spec_hash,
                versions=versions(),
                workers=strategy.workers,
                replicas=strategy.replicas,
                processes=processes,
            )
        for event, fields in early:
            self._event(event, step=self._step, **fields)
        self._tell("running")

    # --- what the loop asks for -------------------------------------------------------------------

    def signals(self) -> np.ndarray:
        return self._clock.signals()

    def due(self, step: int, signals: np.ndarray) -> Due:
        self._step = step
        self._tell("running")
        return self._clock.due(step, signals)

    def check(self, step: int, metrics: np.ndarray) -> None:
        if not np.isfinite(metrics).all():
            values = dict(zip(self._built.objective.metrics, metrics.tolist(), strict=True))
            raise DivergenceError(
                letter(
                    f"step {step}",
                    f"training diverged: {values}",
                    do="lower train.optimizer.learning_rate (or sampler.step_size) and train under another "
                    "--run id; the last checkpoint is from before it",
                )
            )

    def entry(self, step: int) -> None:
        means, steps, examples = self._meter.take("entry")
        times = self._watch.lap(steps=steps, examples=examples)
        epoch = {"epoch": step / self._plan.steps_per_epoch}
        self._values(step, {f"train/{k}": v for k, v in means.items()} | epoch | times)

    def validate(self, step: int) -> None:
        means, _, _ = self._meter.take("epoch")
        objective = self._built.objective
        assert self._built.held_out is not None, "validation without held-out examples"
        with self._built.held_out.validation_batches() as batches:
            held_out = score(
                self._built.validate, batches, objective.validation_metrics, self._strategy.local_replicas
            )
        self._values(
            step,
            {f"validation/{k}": v for k, v in held_out.items()}
            | {f"epoch/{k}": v for k, v in means.items()}
            | {"epoch": step / self._plan.steps_per_epoch},
        )

    def sample(self, step: int) -> None:
        if self._report is None:
            return
        node = self._plan.spec.samples
        assert node is not None, "samples are due and the job asks for none"
        if self._sampler is None:
            self._sampler = Sampler(self._plan, self._built.model)
        drawn = self._sampler.draw(count=node.count, steps=node.steps)
        pictures = figures.pictures(drawn.images, drawn.frames, drawn.frame_steps, drawn.energies)
        folder = samples.at_step(step)
        try:
            meta = Meta.of(self._plan, step=step, attempt=self._attempt)
            samples.write(self._run, folder, drawn, pictures, meta)
        except StorageError as error:
            self._event("samples_failed", step=step, reason=str(error))  # training goes on
            return
        for name, png in pictures.items():
            self._report.image(f"samples/{name}", step, png)
        self._event("samples", step=step, folder=folder)

    def save(self, step: int) -> None:
        self._guard.check_parameters(step)
        state = self._built.snapshot.take(
            {"step": step, "meter": self._meter.state()}, rank=self._strategy.rank
        )
        self._saver.save(step, state, self._report.metrics if self._report else {})
        insist(self._saver, minutes=self._plan.spec.recovery.max_unsaved_minutes, where=self._run.url)

    # --- how it ends ------------------------------------------------------------------------------

    def end(self, outcome: Status, *, message: str = "") -> Outcome:
        """Wait for the last checkpoint, write the last words."""
        self._saver.wait()
        if outcome != "diverged":
            insist(self._saver, minutes=0.0, where=self._run.url)
        if self._report is not None:
            if message:
                self._event(outcome, step=self._step, message=message)
            self._report.close(self._step, outcome)
        if self._pulse is not None:
            self._pulse.close(outcome, self._step, message)
        return Outcome(outcome, self._step, self._report.metrics if self._report else {}, message)

    def fail(self, error: BaseException) -> None:
        """Leave what can be left: the launcher may start another attempt."""
        message = str(error) or type(error).__name__
        if self._report is not None:
            self._event("failed", step=self._step, message=message)
            self._report.close(self._step, "failed")
        if self._pulse is not None:
            self._pulse.close("failed", self._step, message)

    # --- rank 0 tells -----------------------------------------------------------------------------

    def _tell(self, state: str) -> None:
        if self._pulse is not None:
            self._pulse.tell(state, self._step)

    def _values(self, step: int, values: dict[str, float]) -> None:
        if self._report is not None:
            self._report.values(step, values)

    def _event(self, event: str, *, step: int | None = None, **fields: Any) -> None:
        if self._report is not None:
            self._report.event(event, step=step, **fields)
