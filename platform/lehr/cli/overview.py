"""Everything that `lehr show` and `lehr status` say of a run, as lines of text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from lehr import journal
from lehr.checkpoint import reader
from lehr.checkpoint.manifest import Listed, Manifest, address, listing, read_manifest
from lehr.cli import columns, stored
from lehr.cli.stored import Run
from lehr.errors import LehrError
from lehr.evaluations import records
from lehr.journal import Entry
from lehr.store import Store
from lehr.tracking import place

EVENTS_SHOWN = 20
CHECKPOINT_HEAD = ("checkpoint", "step", "attempt", "size", "workers", "metrics", "state")
_ABOUT = {"queued": "queued", "stopped": "why"}  # what a message is about, where it is not the storage
UNENDED = "no last word"  # of an attempt that was killed
_TOLD = ("validation/", "samples/")  # of an evaluation's numbers
_KNOWN = ("type", "time", "attempt", "step", "event")


def lines(run: Run) -> Iterator[str]:
    """All sections that have something to say."""
    for section in _SWEEP if run.is_sweep else _RUN:
        yield from section(run)


def status_lines(run: Run) -> Iterator[str]:
    """What `lehr status` says: a few lines, the newest things only."""
    yield _standing(run)
    now, told = time.time(), run.status
    entries = journal.tail(run.folder, run.attempts[-1]) if run.attempts else []
    rows = []
    if told:
        heard = f"{columns.duration(now - told.time)} ago, {columns.moment(told.time)}"
        rows += [("attempt", str(told.attempt)), ("last heard of", heard)]
    if rate := _rate(entries):
        rows.append(("rate", rate))
    if (metric := stored.telling_metric(run)) != stored.NOTHING:
        rows.append(("metric", metric))
    rows.append(("trials", _pointer(run)) if run.is_sweep else ("checkpoint", _newest(run, now)))
    if told and told.waiting:
        some = "checkpoint is" if told.waiting == 1 else "checkpoints are"
        rows.append(("waiting", f"{told.waiting} {some} made and not yet in the store"))
    if told and told.message:
        kind = "failure" if told.status in stored.AMISS else _ABOUT.get(told.status, "storage")
        rows.append((kind, _below(run, told.message).splitlines()[0]))
    if wandb := _wandb(run, entries):
        rows.append(("W&B", wandb))
    yield from columns.aligned([*rows, ("folder", run.folder.url)], indent="  ")


def _standing(run: Run) -> str:
    if run.is_sweep:
        return f"sweep {run.name}: {stored.state(run)}, {stored.progress(run)} over"
    return f"run {run.name}: {stored.state(run)}, step {stored.progress(run)}"


def _pointer(run: Run) -> str:
    """Where a sweep's trials are told."""
    return f"lehr sweep show {run.name}; one of them: lehr show {run.name}-0001"


def _below(run: Run, text: str) -> str:
    """A text in which what lies in the run's folder is named from there."""
    return text.replace(f"{run.folder.url}/", "")


def _rate(entries: list[Entry]) -> str:
    """Examples and steps a second, by the newest entries of the journal."""
    metrics = [entry for entry in entries if entry["type"] == "metrics"]
    values = {name: value for entry in metrics for name, value in entry["values"].items()}
    told = []
    if (examples := values.get("rate/examples_per_s")) is not None:
        told.append(f"{columns.number(examples)} examples/s")
    if step_s := values.get("time/step_s"):
        told.append(f"{columns.number(1 / step_s)} steps/s")
    return ", ".join(told)


def _newest(run: Run, now: float) -> str:
    """The newest checkpoint: its age, and how many steps were made since."""
    name = stored.newest_checkpoint(run)
    found = address(name)
    if found is None:
        return "none yet"
    since = f", {max(0, run.status.step - found[0])} steps ago" if run.status else ""
    try:
        made = read_manifest(run.folder, *found).time
    except LehrError as error:
        return f"{name}{since}; it cannot be read: {str(error).splitlines()[0]}"
    return f"{name}, {columns.duration(now - made)} old{since}"


def _wandb(run: Run, entries: list[Entry]) -> str:
    """Which run of W&B it is, and what W&B's tracker said last."""
    found = place.find(run.folder)
    told = [entry.get("message", "") for entry in entries if entry.get("event") == "tracking"]
    where = f"{found.entity or '(default entity)'}/{found.project}/{found.id}" if found else ""
    return "; ".join(text for text in (where, *told[-1:]) if text)


def checkpoint_row(folder: Store, item: Listed, *, verify: bool) -> tuple[str, ...]:
    """The cells under CHECKPOINT_HEAD; the state of a broken one begins with "bad"."""
    named = (item.name, str(item.step), str(item.attempt))
    if item.manifest is None:
        return (*named, *[stored.NOTHING] * 3, f"{'bad' if item.committed else 'incomplete'}: {item.problem}")
    size, workers = columns.size(item.manifest.size_bytes), str(item.manifest.workers)
    return (*named, size, workers, _told(item.manifest.metrics), _state(folder, item.manifest, verify=verify))


def _state(folder: Store, manifest: Manifest, *, verify: bool) -> str:
    if not verify:
        return "complete"
    problems = reader.verify(folder, manifest)
    return f"bad: {'; '.join(problems)}" if problems else "verified"


def _told(metrics: Mapping[str, float]) -> str:
    """The first metric of training and the first of validation, as an objective orders them."""
    kinds = [[name for name in metrics if name.startswith(kind)] for kind in ("train/", "validation/")]
    names = [of_kind[0] for of_kind in kinds if of_kind]
    return "  ".join(f"{name} {columns.number(metrics[name])}" for name in names) or stored.NOTHING


def _head(run: Run) -> Iterator[str]:
    yield _standing(run)
    if run.status:
        heard, ago = columns.moment(run.status.time), columns.duration(time.time() - run.status.time)
        yield f"  last heard of {heard} ({ago} ago), in attempt {run.status.attempt}"
        if run.status.message:
            yield "  " + _below(run, run.status.message).replace("\n", "\n  ")
    yield f"  {run.folder.url}"


def _job(run: Run) -> Iterator[str]:
    spec, plan = run.plan.get("spec"), run.plan
    if not isinstance(spec, dict):
        return
    train = spec.get("train", {})
    optimizer = dict(train.get("optimizer", {}))
    kind = optimizer.pop("kind", None)
    kinds = {
        name: (spec.get(name) or {}).get("kind")
        for name in ("model", "data", "objective", "sampler", "strategy")
    }
    rows = [(name, str(kind)) for name, kind in kinds.items() if kind]
    rows += [
        ("workers", f"{_workers(plan)} x {plan.get('devices_per_worker')} devices"),
        ("batch", str(plan.get("global_batch"))),
        ("steps", f"{plan.get('steps')}, {plan.get('steps_per_epoch')} an epoch"),
        ("optimizer", ", ".join([str(kind), *(f"{name} {value}" for name, value in optimizer.items())])),
        ("seed", str(train.get("seed"))),
        ("spec hash", str(plan.get("spec_hash"))[:16]),
    ]
    yield f"job {spec.get('name')} (all of it: {run.folder.url}/spec.yaml)"
    yield from columns.aligned(rows, indent="  ")


def _search(run: Run) -> Iterator[str]:
    """Of a sweep: what it searches, and where its trials are told."""
    spec = run.sweep.get("spec")
    search = spec.get("search") if isinstance(spec, dict) else None
    if isinstance(search, dict):
        names = ("algorithm", "scheduler", "metric", "mode", "trials", "seed")
        asked = search | {"trials": run.steps or search.get("trials")}  # `sweep extend` changes no job file
        rows = [(name, str(asked.get(name))) for name in names]
        yield f"search (all of it: {run.folder.url}/spec.yaml)"
        yield from columns.aligned([*rows, ("space", ", ".join(search.get("space", {})))], indent="  ")
    yield f"trials: {_pointer(run)}"


def _workers(plan: Mapping[str, Any]) -> str:
    asked = (plan["spec"].get("strategy") or {}).get("workers")
    return f"{asked[0]} to {asked[-1]}" if isinstance(asked, list | tuple) else str(plan.get("workers"))


def _attempts(run: Run) -> Iterator[str]:
    if run.attempts:
        head = ("attempt", "workers", "from step", "to step", "began", "took", "end")
        yield "attempts"
        rows = [_attempt(number, journal.read_attempt(run.folder, number)) for number in run.attempts]
        if rows[-1][-1] == UNENDED and stored.is_alive(run):
            rows[-1] = (*rows[-1][:-1], "goes on")
        yield from columns.aligned([head, *rows], indent="  ")


def _attempt(number: int, entries: list[Entry]) -> tuple[str, ...]:
    if not entries:
        return (str(number), *[stored.NOTHING] * 5, "said nothing")
    first, last = entries[0], entries[-1]
    start = next((entry for entry in entries if entry["type"] == "start"), {})
    workers, begins = (str(start.get(name, stored.NOTHING)) for name in ("workers", "from_step"))
    reached = max((entry["step"] for entry in entries if entry["step"] is not None), default=stored.NOTHING)
    took = columns.duration(last["time"] - first["time"])
    return (str(number), workers, begins, str(reached), columns.moment(first["time"]), took,
            last.get("outcome", UNENDED))  # fmt: skip


def _events(run: Run) -> Iterator[str]:
    all_entries = (entry for number in run.attempts for entry in journal.read_attempt(run.folder, number))
    events = [entry for entry in all_entries if entry["type"] == "event" and entry["event"] != "samples"]
    if not events:
        return
    shown = events[-EVENTS_SHOWN:]
    hidden = len(events) - len(shown)
    yield "events" + (f" (the last {len(shown)}; {hidden} more in the journal)" if hidden else "")
    lines = columns.aligned([_event(entry) for entry in shown], indent="  ")
    yield from (_below(run, line) for line in lines)


def _event(entry: Entry) -> tuple[str, ...]:
    told = {
        name: value for name, value in entry.items() if name not in _KNOWN and value not in ([], "", None)
    }
    fields = (f"{_label(name, entry)}{_short(name, value)}" for name, value in told.items())
    step = "" if entry["step"] is None else f"step {entry['step']}"
    moment = columns.moment(entry["time"])
    return (moment, f"a{entry['attempt']}", step, entry["event"], ", ".join(fields))


def _label(name: str, entry: Entry) -> str:
    """A field's name, unless the event says it already, or the value does."""
    return "" if name in (entry["event"], "bytes") else f"{name} "


def _short(name: str, value: object) -> str:
    if name == "bytes" and isinstance(value, int):
        return columns.size(value)
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


def _evaluations(run: Run) -> Iterator[str]:
    """What `lehr evaluate` found; the numbers of baselines are in the journal."""
    found = records.read(run.folder)
    if found:
        yield "evaluations"
        yield from columns.aligned([_evaluation(entry) for entry in found], indent="  ")


def _evaluation(entry: Entry) -> tuple[str, ...]:
    counts, features = entry.get("counts", {}), entry.get("features")
    judged = f"{counts['samples']:,} samples by LeNet {features['sha256'][:12]}" if features else ""
    shown = {name: value for name, value in entry["values"].items() if name.startswith(_TOLD)}
    values = ", ".join(f"{name} {columns.number(value)}" for name, value in shown.items())
    return (columns.moment(entry["time"]), entry["checkpoint"]["name"], judged, values)


def _samples(run: Run) -> Iterator[str]:
    names = [key for key in run.folder.list("samples") if key.endswith(".png")]
    if names:
        yield "samples"
        yield from (f"  {run.folder.url}/{name}" for name in names)


_RUN = (_head, _job, _attempts, _events, _metrics, _checkpoints, _evaluations, _samples)
_SWEEP = (_head, _search, _attempts)
