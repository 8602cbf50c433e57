"""The best trial of a sweep as a job of its own: told, written as a job file, or trained."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lehr.cli import columns
from lehr.cli.trials import called
from lehr.errors import UserError, letter
from lehr.sweep import results
from lehr.sweep.program import words
from lehr.sweep.records import Segment, Trial

if TYPE_CHECKING:
    from lehr.cli.trials import Found
    from lehr.spec import Spec

EDITORS = "# yaml-language-server: $schema=schema.json"


def trial(found: Found) -> Trial:
    """The best.

    Raises:
        UserError: no trial has a value.
    """
    ranked = results.ranking(found.history, found.mode)
    if not ranked:
        came = f"no trial of {found.run.name} has a value yet"
        raise UserError(letter("RUN", came, do=f"see how they are: lehr sweep show {found.run.name}"))
    return ranked[0]


def segment(found: Found) -> Segment:
    """The best trial's, with which it was best.

    Raises:
        UserError: no trial has a value.
    """
    return results.best_segment(trial(found), found.mode)


def job(found: Found, sets: Sequence[str] = ()) -> Spec:
    """The job that the best trial was, changed by `--set` texts: named after the sweep, and none itself.

    Raises:
        UserError: no trial has a value, or the changes cannot be accepted.
    """
    from lehr import spec as specs

    return specs.parse(specs.text(_job(found)), source=f"the best of {found.run.name}", sets=sets)


def _job(found: Found) -> Spec:
    from lehr.cli.sweeping import placed

    sweep = placed(found)
    made = found.program.plan(segment(found).start).spec
    # What a trial has otherwise for the sweep's sake is the job's own again.
    own = {"tracking": sweep.tracking, "checkpoint": sweep.checkpoint, "storage": sweep.storage}
    return made.model_copy(update={"name": f"{found.run.name}-best", **own})


def lines(found: Found, written: str | None) -> Iterator[str]:
    """What `lehr sweep best` says."""
    start, best = segment(found).start, trial(found)
    yield f"trial {best.number} of {found.run.name}: {_value(found)} (run {start.run})"
    yield from columns.aligned(
        [(path, words(value)) for path, value in start.parameters.items()], indent="  "
    )
    if written is None:
        yield f"as a job file: lehr sweep best {called(found)} --write FILE"
    else:
        yield f"wrote {written}; train it: lehr run {written}"


def write(found: Found, file: str, *, force: bool) -> None:
    """Make the job file.

    Raises:
        UserError: the file is there, or cannot be written.
    """
    place, text = Path(file).expanduser(), document(found)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("w" if force else "x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        came = "it is there already, and stays as it is"
        raise UserError(letter(f"--write {file}", came, do="name another file, or give --force")) from None
    except OSError as error:
        came = f"cannot be written: {error.strerror or error}"
        raise UserError(letter(f"--write {file}", came, do="name another file")) from None


def document(found: Found) -> str:
    """The text of the job file: where it comes from, and the whole job."""
    from lehr import spec as specs

    return "\n".join([EDITORS, *(f"# {line}".rstrip() for line in _origin(found)), specs.text(job(found))])


def _value(found: Found) -> str:
    return f"{found.program.search.metric} {columns.number(trial(found).best(found.mode) or 0.0)}"


def _origin(found: Found) -> Iterator[str]:
    best, start = trial(found), segment(found).start
    yield f"The best of sweep {found.run.name}: trial {best.number} of {len(found.history.trials)}."
    yield f"  sweep    {found.folder.url}"
    yield f"  value    {_value(found)} ({found.mode}), in run {start.run}"
    for place, (path, value) in enumerate(start.parameters.items()):
        yield f"  {'' if place else 'found':<8} {path} = {words(value)}"
    if len(best.segments) > 1:
        yield f"  One of the {len(best.segments)} segments of a schedule of population-based training:"
        yield f"  lehr sweep show {found.run.name}"
    yield f"  written  {time.strftime('%Y-%m-%d')}, by: lehr sweep best {found.run.name} --write FILE"
