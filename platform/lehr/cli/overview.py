"""Everything that `lehr show` says of a run, section by section, as lines of text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from lehr import journal
from lehr.checkpoint import reader
from lehr.checkpoint.manifest import Listed, Manifest, listing
from lehr.cli import columns, stored
from lehr.cli.stored import Run
from lehr.journal import Entry
from lehr.store import Store

EVENTS_SHOWN = 20
CHECKPOINT_HEAD = ("checkpoint", "step", "attempt", "size", "workers", "metrics", "state")
_KNOWN = ("type", "time", "attempt", "step", "event")


def lines(run: Run) -> Iterator[str]:
    """All sections that have something to say."""
    for section in (_head, _job, _attempts, _events, _metrics, _checkpoints, _samples):
        yield from section(run)


def checkpoint_row(folder: Store, item: Listed, *, verify: bool) -> tuple[str, ...]:
    """The cells under CHECKPOINT_HEAD; the state of a broken one begins with "bad"."""
    place = (item.name, str(item.step), str(item.attempt))
    if item.manifest is None:
        return (*place, *[stored.NOTHING] * 3, f"{'bad' if item.committed else 'incomplete'}: {item.problem}")
    size, workers = columns.size(item.manifest.size_bytes), str(item.manifest.workers)
    return (*place, size, workers, _told(item.manifest.metrics), _state(folder, item.manifest, verify=verify))


def _state(folder: Store, manifest: Manifest, *, verify: bool) -> str:
    if not verify:
        return "complete"
    problems = reader.verify(folder, manifest)
    return f"bad: {'; '.join(problems)}" if problems else "verified"


def _told(metrics: Mapping[str, float]) -> str:
    names = [name for name in metrics if name.startswith(("train/", "validation/"))]
    return "  ".join(f"{name} {columns.number(metrics[name])}" for name in names) or stored.NOTHING


def _head(run: Run) -> Iterator[str]:
    yield f"run {run.name}: {stored.state(run)}, step {stored.progress(run)}"
    if run.status:
        heard, ago = columns.moment(run.status.time), columns.duration(time.time() - run.status.time)
        yield f"  last heard of {heard} ({ago} ago), in attempt {run.status.attempt}"
        if run.status.message:
            yield "  " + run.status.message.replace("\n", "\n  ")
    yield f"  {run.folder.url}"


def _job(run: Run) -> Iterator[str]:
    spec, plan = run.plan.get("spec"), run.plan
    if not isinstance(spec, dict):
        return
    train = spec.get("train", {})
    optimizer = train.get("optimizer", {})
    kinds = {
        name: (spec.get(name) or {}).get("kind")
        for name in ("model", "data", "objective", "sampler", "strategy")
    }
    rows = [(name, str(kind)) for name, kind in kinds.items() if kind]
    rows += [
        ("workers", f"{plan.get('workers')} x {plan.get('devices_per_worker')} devices"),
        ("batch", str(plan.get("global_batch"))),
        ("steps", f"{plan.get('steps')}, {plan.get('steps_per_epoch')} an epoch"),
        ("optimizer", ", ".join(f"{name} {value}" for name, value in optimizer.items())),
        ("seed", str(train.get("seed"))),
        ("spec hash", str(plan.get("spec_hash"))[:16]),
    ]
    yield f"job {spec.get('name')} (all of it: {run.folder.url}/spec.yaml)"
    yield from columns.aligned(rows, indent="  ")


def _attempts(run: Run) -> Iterator[str]:
    if run.attempts:
        head = ("attempt", "from step", "to step", "began", "took", "end")
        yield "attempts"
        rows = [_attempt(number, journal.read_attempt(run.folder, number)) for number in run.attempts]
        yield from columns.aligned([head, *rows], indent="  ")


def _attempt(number: int, entries: list[Entry]) -> tuple[str, ...]:
    if not entries:
        return (str(number), *[stored.NOTHING] * 4, "said nothing")
    first, last = entries[0], entries[-1]
    begins = next((entry["from_step"] for entry in entries if entry["type"] == "start"), stored.NOTHING)
    reached = max((entry["step"] for entry in entries if entry["step"] is not None), default=stored.NOTHING)
    took = columns.duration(last["time"] - first["time"])
    return (str(number), str(begins), str(reached), columns.moment(first["time"]), took,
            last.get("outcome", "no last word"))  # fmt: skip


def _events(run: Run) -> Iterator[str]:
    all_entries = (entry for number in run.attempts for entry in journal.read_attempt(run.folder, number))
    events = [entry for entry in all_entries if entry["type"] == "event" and entry["event"] != "samples"]
    if not events:
        return
    shown = events[-EVENTS_SHOWN:]
    hidden = len(events) - len(shown)
    yield "events" + (f" (the last {len(shown)}; {hidden} more in the journal)" if hidden else "")
    yield from columns.aligned([_event(entry) for entry in shown], indent="  ")


def _event(entry: Entry) -> tuple[str, ...]:
    told = {
        name: value for name, value in entry.items() if name not in _KNOWN and value not in ([], "", None)
    }
    fields = (f"{name} {_short(value)}" for name, value in told.items())
    step = "" if entry["step"] is None else f"step {entry['step']}"
    moment = columns.moment(entry["time"])
    return (moment, f"a{entry['attempt']}", step, entry["event"], ", ".join(fields))


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value).splitlines()[0]


def _metrics(run: Run) -> Iterator[str]:
    values = stored.last_values(run)
    if values:
        yield "metrics, newest of each"
        yield from columns.aligned(
            [(name, columns.number(value)) for name, value in sorted(values.items())], indent="  "
        )


def _checkpoints(run: Run) -> Iterator[str]:
    rows = [checkpoint_row(run.folder, item, verify=False) for item in listing(run.folder)]
    if rows:
        yield f"checkpoints in {run.folder.url}/checkpoints"
        yield from columns.aligned([CHECKPOINT_HEAD, *rows], indent="  ")


def _samples(run: Run) -> Iterator[str]:
    names = [key for key in run.folder.list("samples") if key.endswith(".png")]
    if names:
        yield "samples"
        yield from (f"  {run.folder.url}/{name}" for name in names)
