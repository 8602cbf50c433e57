"""What is known of runs: by their storage, and by the cluster that they were submitted to."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lehr.cli import columns, stored
from lehr.errors import LaunchError, LehrError, UserError, letter
from lehr.spec.place import nearest

if TYPE_CHECKING:
    from lehr.cli.stored import Run
    from lehr.launch.jobs import Job, Jobs
    from lehr.store import Store

HEAD = ("run", "status", "on the cluster", *stored.HEAD[2:])
LAST_LINES = 10
# Ray's words in ours; a job that succeeded is over, whatever became of the run.
_TOLD = {
    "PENDING": "pending",
    "RUNNING": "running",
    "STOPPED": "stopped",
    "FAILED": "failed",
    "SUCCEEDED": "over",
}


@dataclass(frozen=True)
class Known:
    """One run.

    Args:
        name: its id.
        run: what its folder says; None when there is none, or none that can be read here.
        jobs: its submissions, in order.
        trouble: why its folder cannot be read; of one that was read, why the cluster does not tell.
    """

    name: str
    run: Run | None = None
    jobs: tuple[Job, ...] = ()
    trouble: str = ""

    @property
    def job(self) -> Job | None:
        """Its newest submission."""
        return self.jobs[-1] if self.jobs else None

    @property
    def folder(self) -> Store:
        """Its folder.

        Raises:
            UserError: there is none.
        """
        if self.run is not None:
            return self.run.folder
        came = f"run {self.name} has no folder that can be seen here" + (
            f": {self.trouble}" if self.trouble else " yet"
        )
        raise UserError(letter("RUN", came, do=f"what its driver says: lehr logs {self.name} --rank driver"))


def cluster(address: str | None) -> Jobs | None:
    """The cluster that is meant, not yet asked; None when none is named."""
    from lehr.launch import addresses, jobs

    found = addresses.choose(address)
    return jobs.Jobs(found) if found else None


def find(name: str, storage: str, there: Jobs | None) -> Known:
    """A run by its id or the URL of its folder; where it is not in `storage`, where its job has it.

    Raises:
        UserError: nobody knows such a run.
    """
    if there is None:
        alone = stored.find(name, storage)
        return Known(alone.name, alone)
    found, missing, trouble = _stored(name, storage)
    key = found.name if found is not None else name.rstrip("/").rpartition("/")[2]
    try:
        known = there.all()
    except LaunchError as error:
        if found is None:
            raise
        return Known(found.name, found, trouble=str(error).splitlines()[0])
    jobs = tuple(job for job in known if job.run == key)
    if not jobs and found is None:
        raise _unknown(key, sorted({job.run for job in known}), missing, trouble)
    if not jobs or (found is not None and _is_of(jobs[-1], found)):
        return Known(key, found, jobs)
    if found is not None and ("/" in name or not jobs[-1].alive):
        return Known(key, found)  # its name is another run's, too
    there_too = f"{jobs[-1].storage.rstrip('/')}/{key}"
    if found is not None and stored.is_alive(found):
        came = f"two runs of this name are alive: {found.folder.url}, and on the cluster {there_too}"
        raise UserError(letter(f"run {key}", came, do="name the one that is meant by its whole URL"))
    run, _, trouble = _stored(there_too, "")
    return Known(key, run, jobs, trouble)


def _stored(name: str, storage: str) -> tuple[Run | None, UserError | None, str]:
    """The run that storage has; else why it has none, or why it does not say."""
    try:
        return stored.find(name, storage), None, ""
    except UserError as error:
        return None, error, ""
    except LehrError as error:
        return None, None, str(error).splitlines()[0]


def _is_of(job: Job, run: Run) -> bool:
    return _same(job.storage, run.folder.url.rstrip("/").rpartition("/")[0])


def _unknown(name: str, submitted: list[str], missing: UserError | None, trouble: str) -> UserError:
    close = nearest(name, submitted)
    came = f"the cluster knows no run {name!r}" + (f"; did you mean {close}?" if close else "")
    told = letter("RUN", came, accepted=", ".join(submitted) or "none was submitted", do="see `lehr list`")
    return UserError("\n".join(text for text in (told, str(missing or ""), trouble) if text))


def rows(found: list[Known]) -> list[tuple[str, ...]]:
    """The lines of `lehr list`, head first."""
    told = iter(stored.rows([one.run for one in found if one.run is not None])[1:])
    return [HEAD, *(_row(one, next(told) if one.run is not None else None) for one in found)]


def _row(one: Known, cells: tuple[str, ...] | None) -> tuple[str, ...]:
    on_cluster = f"{one.job.id} {_TOLD.get(one.job.status, one.job.status)}" if one.job else stored.NOTHING
    if cells is not None:
        return (*cells[:2], on_cluster, *cells[2:])
    assert one.job is not None, "a run without a folder is known by its job"
    blank = (stored.NOTHING,) * (len(HEAD) - 4)
    return (one.name, state(one), on_cluster, *blank, _heard(one.job))


def _heard(job: Job) -> str:
    said = job.ended or (time.time() if job.alive else job.started)
    return f"{columns.duration(time.time() - said)} ago"


def state(one: Known) -> str:
    """How a run is of which only the cluster tells."""
    assert one.job is not None, "nobody tells"
    return f"{_TOLD.get(one.job.status, one.job.status)}, {where(one)}"


def where(one: Known) -> str:
    """Why its storage tells nothing."""
    job = one.job
    if one.trouble:
        return "storage not read"
    return "no folder seen here" + (" yet" if job and job.alive else "")


def is_amiss(one: Known) -> bool:
    """Whether it needs somebody."""
    return _fails_unheard(one) or (one.run is not None and stored.is_amiss(one.run))


def _fails_unheard(one: Known) -> bool:
    """Whether its newest job failed, and its storage has not heard of that job at all."""
    if one.job is None or one.job.status != "FAILED":
        return False
    told = one.run.status if one.run is not None else None
    return told is None or told.time < one.job.started


def status_lines(one: Known, there: Jobs | None) -> Iterator[str]:
    """What `lehr status` says."""
    from lehr.cli import overview

    job = one.job
    if one.run is not None:
        yield from overview.status_lines(one.run)
        if one.trouble:
            yield f"  cluster: {one.trouble}"
        if job is not None and there is not None:
            yield f"  job {job.id} on {there.address.url}: {_TOLD.get(job.status, job.status)}"
            if _fails_unheard(one):
                yield from _last_words(there, job)
    elif job is not None and there is not None:
        yield f"run {one.name}: {state(one)}"
        yield from columns.aligned(list(_of_job(job, one.trouble)), indent="  ")
        yield from _last_words(there, job)


def _of_job(job: Job, trouble: str) -> Iterator[tuple[str, str]]:
    yield "job", job.id
    yield "submitted", columns.moment(job.started)
    if job.ended:
        yield "ended", columns.moment(job.ended)
    if job.exit_code is not None:
        yield "exit code", str(job.exit_code)
    if job.message:
        yield "Ray says", reason(job)
    yield "storage", f"{job.storage}: {trouble}" if trouble else job.storage


def reason(job: Job) -> str:
    """Ray's message in one line: its first, and the last, which names the error where there is one."""
    lines = [line.strip() for line in job.message.splitlines() if line.strip()]
    told = lines[:1] if job.exit_code is not None else dict.fromkeys([*lines[:1], *lines[-1:]])
    return " ... ".join(line[:200] for line in told)


def _last_words(there: Jobs, job: Job) -> Iterator[str]:
    lines: list[str] = []
    with contextlib.suppress(LehrError):  # of a host that is gone
        lines = there.log(job.id).splitlines()[-LAST_LINES:]
    if lines:
        yield "  its driver's last lines"
        yield from (f"    {line}" for line in lines)


def joined(runs: list[Run], jobs: list[Job]) -> list[Known]:
    """What storage and a cluster know, by run."""
    by_name = {run.name: run for run in runs}
    of_run: dict[str, list[Job]] = {name: [] for name in by_name}
    for job in jobs:
        of_run.setdefault(job.run, []).append(job)
    return [Known(name, by_name.get(name), tuple(of_run[name])) for name in sorted(of_run)]


def in_storage(jobs: list[Job], runs: list[Run], url: str) -> list[Known]:
    """The same, where a run of that name in another storage is not taken for the submitted one."""
    newest = {job.run: job for job in jobs}  # a run may have moved between two of its submissions
    strangers = {name for name, job in newest.items() if not _same(job.storage, url)}
    here = [run for run in runs if run.name not in strangers]
    apart = [Known(run.name, run) for run in runs if run.name in strangers]
    return sorted([*joined(here, jobs), *apart], key=lambda one: one.name)


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(url: str) -> str:
    """A storage's URL in one spelling; nobody is asked."""
    path = url.removeprefix("file://")
    return path.rstrip("/") if "://" in path else os.path.abspath(os.path.expanduser(path))
