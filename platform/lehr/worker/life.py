"""One attempt at a run, on one worker: builds, resumes, trains, and does what is due between steps."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from lehr import index, journal, samples, status
from lehr.checkpoint import Manifest, State
from lehr.checkpoint.manifest import address, name
from lehr.checkpoint.saver import Saver
from lehr.checkpoint.shares import Patience
from lehr.errors import DivergenceError, StorageError, letter
from lehr.fence import Fence, Fenced
from lehr.loop.meter import Meter, Stopwatch
from lehr.loop.train import Due, Parts, score, train
from lehr.plan import Plan
from lehr.samples import Meta
from lehr.status import Status
from lehr.store import Store
from lehr.store.patient import Patient
from lehr.strategies.guard import Guard, share
from lehr.strategies.strategy import Strategy
from lehr.tracking import tracker as trackers
from lehr.vitals import OURS
from lehr.worker import divergence, sampling
from lehr.worker.build import build
from lehr.worker.clock import LEAVE, STOP, Clock, Ear, StopRequest
from lehr.worker.divergence import Detour
from lehr.worker.outage import Outage
from lehr.worker.outbox import Item, Outbox
from lehr.worker.outcome import Outcome
from lehr.worker.outcome import Status as Ending
from lehr.worker.pulse import Pulse
from lehr.worker.report import Report
from lehr.worker.resume import initialise, loaded
from lehr.worker.sampling import Drawer, Wanted

QUIET = frozenset({"checkpoint_part", "initialised", "initialised_from", "weights"})  # in others' logs
SETTLE_S = 60.0  # for what waits to be written beside a checkpoint
END_S = 60.0  # for the last words of a good end, where the storage fails; then they are lost
FAIL_S = 10.0  # for those of a failure: others wait for this worker's end
SAMPLES_S = 30.0  # that one set of samples is tried before the whole of it is tried again


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


class Life:
    """The loop's attendant. Rank 0 reports; every rank saves its part.

    Args:
        plan: of the run.
        storage: where runs live.
        strategy: of this worker.
        attempt: this life of the run, as claimed in its journal.
        request: somebody's wish to stop.
        detour: what it does otherwise than the plan says, because the run diverged;
            None: what its newest checkpoint says.
    """

    def __init__(
        self, plan: Plan, storage: Store, strategy: Strategy, attempt: int, request: StopRequest,
        detour: Detour | None = None,
    ) -> None:  # fmt: skip
        run = storage.below(plan.run_id)
        self._plan, self._run, self._strategy, self._attempt = plan, run, strategy, attempt
        self._request, self._detour, self._met = request, detour or divergence.NONE, detour is not None
        self._own: DivergenceError | None = None
        OURS.begin(strategy.rank, self._event)
        self._step, self._resumed = 0, ""
        self._leaves = False  # rather than stops
        self._report: Report | None = None
        self._pulse: Pulse | None = None
        self._drawer: Drawer | None = None
        self._fence = Fence(run, attempt)
        recovery = plan.spec.recovery
        patience_s = 60.0 * recovery.max_unsaved_minutes
        self._patient = Patient(Fenced(run, self._fence), patience_s=patience_s, tell=trackers.say)
        if strategy.rank == 0:
            self._report = Report(plan, run, attempt, self._fence)
            report = self._report
            self._outbox = Outbox(lambda: bool(report.problem), patience_s=patience_s)
            self._samples = Patient(Fenced(run, self._fence), patience_s=SAMPLES_S)
        self._saver = Saver(
            run,
            rank=strategy.rank,
            workers=strategy.workers,
            attempt=attempt,
            spec_hash=plan.spec_hash,
            versions=versions(),
            keep=plan.spec.checkpoint,
            on_event=self._event,
            patience=Patience(timeout_s=patience_s),
            spool_bytes=int(recovery.spool_gib * 2**30),
            fence=self._fence,
            before_commit=self._settle if strategy.rank == 0 else None,
        )
        self._outage = Outage(self._saver, recovery, where=run.url, asked=Ear(request, run), tell=self._heard)
        if strategy.rank == 0:
            self._index = index.Writer(storage, plan.run_id)
            self._pulse = Pulse(
                run,
                Status("starting", 0, plan.steps, attempt),
                request,
                fence=self._fence,
                saving=self._saving,
                told=self._list,
            )

    def train(self) -> Outcome:
        """Build, resume, train."""
        plan, strategy = self._plan, self._strategy
        early: list[tuple[str, dict[str, Any]]] = []
        began = time.perf_counter()
        found = loaded(plan, self._patient, strategy, lambda e, **f: early.append((e, f)))
        restore_s = time.perf_counter() - began
        if found is not None and not self._met:
            self._detour = divergence.known(found[1].progress)
        built = self._built = build(divergence.changed(plan, self._detour), strategy)
        self._meter, self._watch = Meter(built.objective.metrics), Stopwatch()
        began = time.perf_counter()
        if found is None:
            initialise(plan, built, lambda e, **f: early.append((e, f)))
        else:
            self._resume(*found)
        divergence.slow(built.variables, plan, self._detour)
        if self._met:
            rule = plan.spec.recovery.on_divergence
            early.append(("turned_back", {"rule": rule, **asdict(self._detour)}))
        OURS.step = self._step
        self._begin(early, restore_s=restore_s + time.perf_counter() - began)
        self._guard = Guard(strategy, built.variables)
        self._guard.check_sum()
        self._guard.check_parameters(self._step)
        self._clock = Clock(plan, rank=strategy.rank, stop=self._request, start=self._step)
        batches = built.feed.batches(self._step + self._detour.passed)
        parts = Parts(built.update, batches, built.memory, strategy.local_replicas, self._meter, self._watch)
        try:
            self._step = train(parts, self, start=self._step, steps=plan.steps)
        finally:
            batches.close()
        return self.end(self._ending())

    def _resume(self, manifest: Manifest, state: State) -> None:
        self._built.snapshot.put(state)
        self._step, self._resumed = manifest.step, manifest.name
        self._meter.restore(state.progress["meter"])
        self._saver.resumed_from(manifest)

    def _ending(self) -> Ending:
        if self._step >= self._plan.steps:
            return "completed"
        return "left" if self._leaves else "stopped"

    def _begin(self, early: list[tuple[str, dict[str, Any]]], *, restore_s: float) -> None:
        strategy = self._strategy
        processes = [row[0] for row in share(strategy, [os.getpid()])]
        if self._report is not None:
            self._report.start(
                self._step,
                sealed=journal.sizes(self._patient, before=self._attempt),
                spec_hash=self._plan.spec_hash,
                versions=versions(),
                workers=strategy.workers,
                replicas=strategy.replicas,
                processes=processes,
                restore_s=round(restore_s, 3),
            )
        for event, fields in early:
            self._event(event, step=self._step, **fields)
        self._leave_assets()
        self._tell("running")

    def _leave_assets(self) -> None:
        """What samples need without the data; the same at every attempt."""
        if self._report is not None:
            for name, data in self._built.feed.assets.items():
                self._patient.write(f"{sampling.ASSETS}/{name}", data)

    # --- what the loop asks for -------------------------------------------------------------------

    def signals(self) -> np.ndarray:
        return self._clock.signals()

    def due(self, step: int, signals: np.ndarray) -> Due:
        self._step = step
        OURS.arrive(step)
        self._tell("running")
        self._leaves = bool(signals[LEAVE] > 0 and not signals[STOP] > 0)
        if (
            signals[STOP] > 0 or self._leaves
        ):  # whoever heard of it: nobody pauses any more, or waits for ever
            self._request.set()
        self._outage.look(step)
        return self._clock.due(step, signals)

    def check(self, step: int, metrics: np.ndarray) -> None:
        if not np.isfinite(metrics).all():
            values = dict(zip(self._built.objective.metrics, metrics.tolist(), strict=True))
            raise self._diverged(step, f"training diverged: {values}")

    def _diverged(self, step: int, came: str) -> DivergenceError:
        self._step = step
        self._own = DivergenceError(
            letter(
                f"step {step}",
                came,
                do="lower train.optimizer.learning_rate (or sampler.step_size) and train under another "
                "--run id, or let it go back: recovery.on_divergence; the last checkpoint is from before it",
            )
        )
        return self._own

    def entry(self, step: int) -> None:
        means, steps, examples = self._meter.take("entry")
        times = self._watch.lap(steps=steps, examples=examples)
        OURS.rates(times)
        epoch = {"epoch": step / self._plan.steps_per_epoch}
        self._values(step, {f"train/{k}": v for k, v in means.items()} | epoch | times)

    def validate(self, step: int) -> None:
        OURS.enter("validation")
        means, _, _ = self._meter.take("epoch")
        objective = self._built.objective
        assert self._built.held_out is not None, "validation without held-out examples"
        with self._built.averaged(), self._built.held_out.validation_batches() as batches:
            held_out = score(
                self._built.validate, batches, objective.validation_metrics,
                self._strategy.local_replicas, getattr(objective, "per", "count"),
            )  # fmt: skip
        self._values(
            step,
            {f"validation/{k}": v for k, v in held_out.items()}
            | {f"epoch/{k}": v for k, v in means.items()}
            | {"epoch": step / self._plan.steps_per_epoch},
        )

    def sample(self, step: int) -> None:
        if self._report is None:
            return
        OURS.enter("samples")
        node = self._plan.spec.samples
        assert node is not None, "samples are due and the job asks for none"
        if self._drawer is None:
            self._drawer = sampling.drawer(self._plan, self._built.model, self._built.feed.assets)
        wanted = Wanted.of(self._plan)
        with self._built.averaged():
            drawn = self._drawer.draw(wanted)
        settings = wanted.settings(self._plan)
        meta = Meta.of(self._plan, step=step, attempt=self._attempt, seed=wanted.seed, settings=settings)
        folder = samples.at_step(step)

        def send() -> None:
            samples.write(self._samples, folder, drawn, meta)
            self._event("samples", step=step, folder=folder, pictures=list(drawn.pictures))

        def failed(reason: str) -> None:
            self._event("samples_failed", step=step, folder=folder, reason=reason)

        self._outbox.add(Item(send, failed))

    def save(self, step: int) -> None:
        if not divergence.finite(self._built.variables):
            raise self._diverged(step, "weights are no numbers")
        self._guard.check_parameters(step)
        state = self._built.snapshot.take(
            {"step": step, "meter": self._meter.state(), **self._detour.progress()}, rank=self._strategy.rank
        )
        self._saver.save(step, state, self._report.metrics if self._report else {})

    def _settle(self) -> None:
        """What a checkpoint's step brought must be stored before it counts: nobody redoes those steps.

        Raises:
            StorageError: it is not.
        """
        assert self._report is not None, "rank 0 alone commits"
        if not (self._outbox.empty(SETTLE_S) and self._report.stored()):
            raise StorageError(self._report.problem or "samples are still being written")

    # --- how it ends ------------------------------------------------------------------------------

    def end(self, outcome: Ending, *, message: str = "") -> Outcome:
        """Wait for the last checkpoint, write the last words."""
        OURS.enter("end")
        # Who leaves comes again: where the storage fails, from the checkpoint before.
        self._outage.finish(self._step, insist=outcome not in ("diverged", "left"))
        OURS.enter("end")  # it may have been a pause
        self._saver.close()
        if self._report is not None:
            self._outbox.close(SETTLE_S)
            if message:
                self._event(outcome, step=self._step, message=message)
            self._report.close(self._step, outcome, patience_s=END_S)
        if self._pulse is not None:
            self._pulse.close(status.ENDINGS.get(outcome, outcome), self._step, message)
        return Outcome(outcome, self._step, self._report.metrics if self._report else {}, message)

    def turn_back(self, error: DivergenceError) -> Detour | None:
        """What another attempt does otherwise, from the newest checkpoint; None: the run ends here.

        If there is to be one, this attempt is over: what it had to say is said, what it saved is stored.
        """
        if self._plan.spec.recovery.on_divergence == "stop" or error is not self._own:
            return None  # a sweep that watches has its own idea of divergence, and ends the trial
        self._outage.finish(self._step, insist=False)
        step = self._step
        detour = divergence.next_one(self._patient, self._plan, self._strategy, self._detour, step=step)
        if detour is None:
            return None
        self._saver.close()
        if self._pulse is not None:
            self._pulse.close("starting", step, str(error))
        if self._report is not None:
            self._outbox.close(SETTLE_S)
            self._event("diverged", step=step, message=str(error))
            self._report.close(step, "failed", patience_s=END_S)
        return detour

    def fail(self, error: BaseException) -> None:
        """Leave what can be left: the launcher may start another attempt.

        The status comes first: a launcher kills who takes long, and a tracker may.
        """
        OURS.enter("end")
        message = str(error) or type(error).__name__
        self._saver.close()
        if self._pulse is not None:
            self._pulse.close("failed", self._step, message, patience_s=FAIL_S)
        if self._report is not None:
            self._outbox.close(0.0)
            self._event("failed", step=self._step, message=message)
            self._report.close(self._step, "failed", patience_s=FAIL_S)

    # --- rank 0 tells -----------------------------------------------------------------------------

    def _tell(self, state: str) -> None:
        if self._pulse is not None:
            self._pulse.tell(state, self._step)

    def _saving(self) -> dict[str, Any]:
        late = {"status": "paused"} if self._outage.announce(self._step) else {}
        return {"message": self._saver.problem, "waiting": self._saver.waiting, **late}

    def _list(self, said: Status) -> None:
        """Keep the run's entry in the index of the storage fresh."""
        assert self._report is not None, "only rank 0 has a pulse"
        step, best = self._saver.committed, self._plan.spec.checkpoint.keep_best
        newest = self._resumed  # until there is a newer one
        if step is not None and (not newest or step > (address(newest) or (0, 0))[0]):
            newest = name(step, self._attempt)
        metric = index.telling(self._report.metrics, best.metric if best else None)
        self._index.tell(said, checkpoint=newest or None, metric=metric)

    def _heard(self, event: str, **fields: Any) -> None:
        """The outage's own events also show in the status."""
        if event == "paused":
            OURS.enter("pause")
            self._tell("paused")
        self._event(event, **fields)

    def _values(self, step: int, values: dict[str, float]) -> None:
        if self._report is not None:
            self._report.values(step, values)

    def _event(self, event: str, *, step: int | None = None, **fields: Any) -> None:
        if self._report is not None:
            self._report.event(event, step=step, **fields)
        elif event not in QUIET:  # other ranks have no journal, but a log
            trackers.say(f"{event} at step {step}: {fields}")
