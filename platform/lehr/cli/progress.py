"""A run on the terminal: a view of its storage, with no channel of its own to the workers."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from lehr.cli.columns import duration
from lehr.cli.following import Follower, Seen
from lehr.errors import StorageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from lehr.launch.admission import Standing
    from lehr.plan import Plan
    from lehr.store import Store
    from lehr.sweep.program import Program
    from lehr.worker.outcome import Outcome

LOOK_S = 0.5  # between looks into storage on this machine
LOOK_FAR_S = 2.0  # into storage elsewhere
LINE_S = 10.0  # between lines where there is no terminal
MAIN = ("train/", "validation/")  # metrics shown: what the objective says of itself


def console() -> Console:
    """A console on a copy of standard error, so that it can speak while the descriptor leads into a log."""
    from rich.console import Console

    file = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
    return Console(file=file, highlight=False, soft_wrap=True)


class Terminal:
    """Shows one run from before its start to after its end. A context manager."""

    def __init__(self, plan: Plan, run: Store) -> None:
        self._plan, self._run = plan, run
        self._dashboards = dashboards(plan, run)
        self._follower = Follower(run)
        self._live: Live | None = None
        self._began = self._looked = self._printed = time.monotonic()
        self._period_s = LOOK_S if run.local_path("status.json") is not None else LOOK_FAR_S

    def __enter__(self) -> Terminal:
        self._console: Console = console()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._console.file.close()

    def say(self, text: str) -> None:
        """Print something above the view, at once."""
        self._console.print(text, markup=False)

    def begin(self, before: Standing) -> None:
        """The run is about to start; `before` is what its folder held."""
        plan = self._plan
        kept = plan.spec.checkpoint.keep_best
        self._follower = Follower(self._run, attempts=before.attempts, step=before.step, best=kept)
        workers = sizes(plan)
        start = "" if before.step is None else f", going on from step {before.step}"
        self.say(f"{plan.run_id}: {plan.spec.strategy.kind}, {workers}, {plan.steps} steps{start}")
        self.say(f"  folder {self._run.url}")
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(self._view(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def tick(self) -> None:
        """Look into storage and show what is new, if it is time."""
        now = time.monotonic()
        if now - self._looked < self._period_s:
            return
        self._looked = now
        self._show(self._follower.look())
        if self._live is not None:
            self._live.update(self._view(), refresh=True)
        elif now - self._printed >= LINE_S:
            self._printed = now
            self.say(line(self._plan, self._follower.seen))

    def end(self, outcome: Outcome, signal: int | None) -> int:
        """Say how it ended and where things are; the exit code."""
        self._show(self._follower.look())
        self._stop()
        took = time.monotonic() - self._began
        places = [*best(self._plan, self._follower.seen), *self._dashboards]
        said = summary(self._plan, self._run.url, outcome, places=places, took_s=took)
        print(said, flush=True)
        if outcome.status == "diverged":
            return 1
        return 128 + signal if outcome.status == "stopped" and signal is not None else 0

    def _show(self, notes: list[str]) -> None:
        for note in notes:
            self.say(note)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        seen = self._follower.seen
        top = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._plan.steps, completed=seen.step, width=30)
        top.add_row(headline(self._plan, seen), bar, pace(self._plan, seen))
        rows = Table.grid(padding=(0, 2))
        logs = ("logs", f"{self._run.url}/logs")
        for name, text in [*details(seen, now=time.time()), logs, *self._dashboards]:
            rows.add_row(name, text)
        return Group(top, rows)


def sizes(plan: Plan) -> str:
    """How many workers: `2 workers`, or `1, 2 or 4 workers`."""
    from lehr.cli.table import either

    return f"{either(plan.sizes)} worker{'s' if plan.sizes[-1] > 1 else ''}"


def headline(plan: Plan, seen: Seen) -> str:
    """Where the run is: `step 120/400, epoch 2.5`, or what it waits for."""
    if seen.waits:
        return f"queued: {seen.waits}"
    if seen.attempt == 0:
        return "starting the workers ..."
    if seen.status == "starting":
        return "loading data, building the model ..."
    if seen.status in ("failed", "queued"):
        return "starting all workers again ..."
    return f"step {seen.step}/{plan.steps}, epoch {seen.step / plan.steps_per_epoch:.2f}"


def pace(plan: Plan, seen: Seen) -> str:
    """How fast it goes: `8.3 steps/s, 1062 examples/s, 0:01:20 left`; empty before it is known."""
    if not seen.steps_per_s:
        return ""
    left_s = (plan.steps - seen.step) / seen.steps_per_s
    examples = seen.values.get("rate/examples_per_s", seen.steps_per_s * plan.global_batch)
    return f"{seen.steps_per_s:.3g} steps/s, {examples:.4g} examples/s, {clock(left_s)} left"


def metrics(values: dict[str, float]) -> str:
    """The objective's own numbers: `loss 0.31, accuracy 0.9; validation: loss 0.4`."""
    parts = []
    for prefix in MAIN:
        names = sorted(name for name in values if name.startswith(prefix))
        own = [f"{name.removeprefix(prefix)} {values[name]:.4g}" for name in names]
        if own:
            parts.append(("validation: " if prefix == "validation/" else "") + ", ".join(own))
    return "; ".join(parts)


def details(seen: Seen, *, now: float) -> list[tuple[str, str]]:
    """What is said of the training below the bar: name and text."""
    rows = [("metrics", metrics(seen.values) or "none yet"), ("checkpoint", checkpoint(seen, now=now))]
    if seen.restarts:
        counts = (("failed", seen.restarts - seen.left), ("left", seen.left))
        why = " and ".join(f"{verb} {_times(count)}" for verb, count in counts if count > 0)
        rows.append(("attempt", f"{seen.attempt}; workers {why}; now from step {seen.from_step}"))
    if waits := unsaved(seen):
        rows.append(("storage", waits))
    return rows


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def checkpoint(seen: Seen, *, now: float) -> str:
    """The last checkpoint and its age."""
    if seen.checkpoint_step is None:
        return "none yet"
    age = "" if seen.checkpoint_time is None else f", {duration(now - seen.checkpoint_time)} ago"
    return f"step {seen.checkpoint_step}{age}"


def line(plan: Plan, seen: Seen) -> str:
    """All of it in one line, for where there is no terminal."""
    parts = [headline(plan, seen), pace(plan, seen), metrics(seen.values)]
    if seen.checkpoint_step is not None:
        parts.append(f"checkpoint {seen.checkpoint_step}")
    parts.append(unsaved(seen))
    return "  ".join(part for part in parts if part)


def unsaved(seen: Seen) -> str:
    """What waits for a storage that fails; "" while all is well."""
    if not (seen.unsaved and seen.trouble):
        return ""
    state = "paused: " if seen.status == "paused" else ""
    many = "1 checkpoint waits" if seen.unsaved == 1 else f"{seen.unsaved} checkpoints wait"
    return f"{state}{many} for the storage: {' '.join(seen.trouble.split())}"


def clock(seconds: float) -> str:
    """`0:01:20`."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def best(plan: Plan, seen: Seen) -> list[tuple[str, str]]:
    """The best value of the metric by which a checkpoint is kept."""
    kept = plan.spec.checkpoint.keep_best
    if kept is None or seen.best is None:
        return []
    return [("best", f"{kept.metric} {seen.best[0]:.4g} at step {seen.best[1]}")]


def dashboards(plan: Plan, run: Store) -> list[tuple[str, str]]:
    """Where W&B has the run, or how to send it there."""
    from lehr.tracking import wandb

    node = plan.spec.tracking.wandb
    if node is None or (how := wandb.mode(node)) == "disabled":
        return []
    if how == "online":
        owner = f"{node.entity}/" if node.entity else ""
        return [("W&B", f"project {owner}{node.project}, run {_id(plan, run)}")]
    return [("W&B", f"offline; to send it: lehr track sync {called(plan, run.url)}")]


def _id(plan: Plan, run: Store) -> str:
    """What W&B calls the run, if storage can tell now."""
    from lehr.tracking import place

    try:
        found = place.find(run)
    except StorageError:
        found = None
    return found.id if found else plan.run_id


def summary(plan: Plan, url: str, outcome: Outcome, *, places: list[tuple[str, str]], took_s: float) -> str:
    """What is printed at the end: how it went, where things are, what to do next.

    Args:
        plan: the plan.
        url: of the run's folder.
        outcome: how it ended.
        places: what else is to be said, by name.
        took_s: since the command was given.
    """
    lines = [f"{plan.run_id}: {outcome.status} at step {outcome.step} of {plan.steps}, after {clock(took_s)}"]
    if outcome.message:
        lines.append(outcome.message)
    if told := metrics(outcome.metrics):
        lines.append(f"  {told}")
    samples = [] if plan.spec.samples is None else [("samples", f"{url}/samples")]
    rows = [("checkpoints", f"{url}/checkpoints"), *samples, ("logs", f"{url}/logs"), *places]
    return "\n".join(
        [*lines, *(f"  {name:<11} {text}" for name, text in [*rows, *_next(plan, url, outcome)])]
    )


def called(plan: Plan | Program, url: str) -> str:
    """How other commands are to name the run: its id where they look for it by themselves, else its URL."""
    return plan.run_id if plan.spec.storage == "runs" else url


def _next(plan: Plan, url: str, outcome: Outcome) -> list[tuple[str, str]]:
    if outcome.status == "stopped":
        return [("go on", "give the same command again")]
    steps = [("look", f"lehr show {called(plan, url)}")]
    if plan.spec.draws and outcome.status == "completed":
        steps.append(("sample", f"lehr sample {called(plan, url)}"))
    return steps
