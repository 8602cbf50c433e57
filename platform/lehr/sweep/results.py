"""What came of a sweep, one row a trial: as JSON lines and as Parquet, with equal content.

    results.jsonl, results.parquet      below the sweep's folder, written anew while it runs and at its end

Columns: trial, outcome, value, best, at, steps, segments, run, train_s, wall_s, message, and one a searched
key, by its path; null where a key did not vary in that trial. The run and the keys are those that the best
value came of: in population-based training not always the last segment's, of which outcome, value, at, steps
and message tell. A trial that diverged has no best value: it counts as the worst of all, and JSON has no word
for that.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lehr.spec.search import Range
from lehr.store import Store
from lehr.sweep.records import History, Segment, Trial

if TYPE_CHECKING:
    import pyarrow

    from lehr.sweep.program import Program

LINES, PARQUET = "results.jsonl", "results.parquet"
RUNNING = "running"  # or it did when its driver died
Row = dict[str, Any]
_COLUMNS = {
    "trial": "int64", "outcome": "string", "value": "double", "best": "double", "at": "int64",
    "steps": "int64", "segments": "int64", "run": "string", "train_s": "double", "wall_s": "double",
    "message": "string",
}  # fmt: skip


def write(program: Program, history: History, folder: Store) -> None:
    """Write both files, each whole: who reads them while the sweep runs sees the old one or the new one.

    Raises:
        StorageError: the store does not take them.
    """
    found, space = rows(program, history), ranges(program)
    folder.write(LINES, "".join(json.dumps(row, allow_nan=False) + "\n" for row in found).encode())
    folder.write(PARQUET, parquet(found, space))


def ranges(program: Program) -> Mapping[str, Range]:
    """What is searched, by path, in the order of the job file."""
    return program.search.space


def rows(program: Program, history: History) -> list[Row]:
    """One a trial, by number; every row has all columns."""
    paths = list(ranges(program))
    return [_row(history.trials[number], paths, program.search.mode) for number in sorted(history.trials)]


def _row(trial: Trial, paths: Sequence[str], mode: str) -> Row:
    segments, start = trial.segments, best_segment(trial, mode).start
    return {
        "trial": trial.number,
        "outcome": trial.last.outcome or RUNNING,
        "value": last_value(trial),
        "best": None if trial.diverged else trial.best(mode),
        "at": trial.last.at,
        "steps": trial.last.steps,
        "segments": len(segments),
        "run": start.run,
        "train_s": sum(segment.train_s for segment in segments),
        "wall_s": sum(segment.wall_s for segment in segments),
        "message": trial.last.message,
        **{path: start.parameters.get(path) for path in paths},
    }


def last_value(trial: Trial) -> float | None:
    """The newest that it reported, in whatever segment."""
    values = [report.value for report in trial.reports()]
    return values[-1] if values else None


def ranking(history: History, mode: str) -> list[Trial]:
    """Trials that have a value and did not diverge, the best first; equals by number."""
    having = {trial.number: best for trial in history.trials.values()
              if not trial.diverged and (best := trial.best(mode)) is not None}  # fmt: skip
    sign = 1 if mode == "min" else -1
    return [history.trials[number] for number in sorted(having, key=lambda one: (sign * having[one], one))]


def best_segment(trial: Trial, mode: str) -> Segment:
    """The segment that said the trial's best value: in population-based training not always its last."""
    best = trial.best(mode)
    having = [one for one in trial.sound if any(report.value == best for report in one.reports)]
    return having[0] if having else trial.last


def why(segment: Segment, longest: int) -> str:
    """Why it ended, in a line of at most so many letters."""
    last = segment.reports[-1] if segment.reports else None
    said = segment.message or (last.reason if last and last.verdict != "continue" else "")
    first = (said.splitlines() or [""])[0]
    return first if len(first) <= longest else f"{first[: longest - 3]}..."


def parquet(found: Sequence[Row], space: Mapping[str, Range]) -> bytes:
    """The rows as a Parquet file. Its columns and their types are the same however few rows there are."""
    import pyarrow
    from pyarrow import parquet as files

    types = {name: pyarrow.type_for_alias(alias) for name, alias in _COLUMNS.items()}
    types |= {path: _type(each) for path, each in space.items()}
    columns = [_column([row[name] for row in found], kind) for name, kind in types.items()]
    buffer = io.BytesIO()
    files.write_table(pyarrow.Table.from_arrays(columns, names=list(types)), buffer)
    return buffer.getvalue()


def _type(each: Range) -> pyarrow.DataType | None:
    """Of a searched key's column; None: what can be chosen has no type in common, and is kept as JSON."""
    import pyarrow

    if each.kind != "choice":
        return pyarrow.int64() if each.kind == "int" else pyarrow.float64()
    if any(_is_nested(value) for value in each.values):  # a column of mappings has every key of all of them
        return None
    try:
        return pyarrow.array(_plain(each.values)).type
    except pyarrow.ArrowException:
        return None


def _is_nested(value: Any) -> bool:
    """Whether there is a mapping in it."""
    inner = value if isinstance(value, list | tuple) else ()
    return isinstance(value, Mapping) or any(map(_is_nested, inner))


def _column(values: list[Any], kind: pyarrow.DataType | None) -> pyarrow.Array:
    import pyarrow

    if kind is None:
        texts = [None if value is None else json.dumps(_plain(value)) for value in values]
        return pyarrow.array(texts, pyarrow.string())
    return pyarrow.array([_plain(value) for value in values], kind)


def _plain(value: Any) -> Any:
    """The same in what JSON knows."""
    return json.loads(json.dumps(value))
