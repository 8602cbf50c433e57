"""A run on the terminal: a view of its storage, with no channel of its own to the workers."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from lehr.cli.following import Follower, Seen

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from lehr.launch.admission import Standing
    from lehr.plan import Plan
    from lehr.store import Store
    from lehr.worker.outcome import Outcome

LOOK_S = 0.5  # between looks into storage on this machine
LOOK_FAR_S = 2.0  # into storage elsewhere
LINE_S = 10.0  # between lines where there is no terminal
MAIN = ("train/", "validation/")  # metrics shown: what the objective says of itself


class Terminal:
    """Shows one run from before its start to after its end. A context manager.

    It writes to a copy of standard error, so that it can speak while the descriptor leads into a log.
    """

    def __init__(self, plan: Plan, run: Store) -> None:
        self._plan, self._run = plan, run
        self._follower = Follower(run)
        self._live: Live | None = None
        self._began = self._looked = self._printed = time.monotonic()
        self._period_s = LOOK_S if run.local_path("status.json") is not None else LOOK_FAR_S

    def __enter__(self) -> Terminal:
        from rich.console import Console

        self._file = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
        self._console: Console = Console(file=self._file, highlight=False, soft_wrap=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._file.close()

    def say(self, text: str) -> None:
        """Print something above the view, at once."""
        self._console.print(text, markup=False)

    def begin(self, before: Standing) -> None:
        """The run is about to start; `before` is what its folder held."""
        plan = self._plan
        self._follower = Follower(self._run, attempts=before.attempts, step=before.step)
        workers = f"{plan.workers} worker{'s' if plan.workers > 1 else ''}"
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
        print(summary(self._plan, self._run.url, self._follower.seen, outcome, took_s=took), flush=True)
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
        for name, text in details(self._plan, self._run.url, seen, now=time.time()):
            rows.add_row(name, text)
        return Group(top, rows)


def headline(plan: Plan, seen: Seen) -> str:
    """Where the run is: `step 120/400, epoch 2.5`, or what it waits for."""
    if seen.attempt == 0:
        return "starting the workers ..."
    if seen.status == "starting":
        return "loading data, building the model ..."
    if seen.status == "failed":
        return "starting all workers again ..."
    return f"step {seen.step}/{plan.steps}, epoch {seen.step / plan.steps_per_epoch:.2f}"


def pace(plan: Plan, seen: Seen) -> str:
    """How fast it goes: `8.3 steps/s, 1062 examples/s, 0:01:20 left`; empty before it is known."""
    if not seen.steps_per_s:
        return ""
    left_s = (plan.steps - seen.step) / seen.steps_per_s
    examples = seen.values.get("rate/examples_per_s", seen.steps_per_s * plan.global_batch)
    return f"{seen.steps_per_s:.3g} steps/s, {examples:.4g} examples/s, {duration(left_s)} left"


def metrics(values: dict[str, float]) -> str:
    """The objective's own numbers: `loss 0.31, accuracy 0.9; validation: loss 0.4`."""
    parts = []
    for prefix in MAIN:
        names = sorted(name for name in values if name.startswith(prefix))
        own = [f"{name.removeprefix(prefix)} {values[name]:.4g}" for name in names]
        if own:
            parts.append(("validation: " if prefix == "validation/" else "") + ", ".join(own))
    return "; ".join(parts)


def details(plan: Plan, url: str, seen: Seen, *, now: float) -> list[tuple[str, str]]:
    """The lines below the bar: name and text."""
    rows = [("metrics", metrics(seen.values) or "none yet"), ("checkpoint", checkpoint(seen, now=now))]
    if seen.restarts:
        times = "once" if seen.restarts == 1 else f"{seen.restarts} times"
        rows.append(("attempt", f"{seen.attempt}; workers failed {times}; now from step {seen.from_step}"))
    rows += [("logs", f"{url}/logs"), *_wandb(plan, url)]
    return rows


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
    return "  ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """`0:01:20`."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _wandb(plan: Plan, url: str) -> list[tuple[str, str]]:
    return []


def summary(plan: Plan, url: str, seen: Seen, outcome: Outcome, *, took_s: float) -> str:
    """What is printed at the end: how it went, where things are, what to do next."""
    step = f"step {outcome.step} of {plan.steps}"
    lines = [f"{plan.run_id}: {outcome.status} at {step}, after {duration(took_s)}"]
    if outcome.message:
        lines.append(outcome.message)
    if told := metrics({**seen.values, **outcome.metrics}):
        lines.append(f"  {told}")
    rows = [("checkpoints", f"{url}/checkpoints"), ("logs", f"{url}/logs"), *_wandb(plan, url)]
    if plan.spec.samples is not None:
        rows.insert(1, ("samples", f"{url}/samples"))
    lines += [f"  {name:<11} {text}" for name, text in rows]
    lines += [f"  {name:<11} {text}" for name, text in _next(plan, outcome)]
    return "\n".join(lines)


def _next(plan: Plan, outcome: Outcome) -> list[tuple[str, str]]:
    if outcome.status == "stopped":
        return [("go on", "give the same command again")]
    steps = [("look", f"lehr show {plan.run_id}")]
    if plan.spec.sampler is not None and outcome.status == "completed":
        steps.append(("sample", f"lehr sample {plan.run_id} --count 64 --steps 1000"))
    return steps
