"""Runs as jobs of a Ray cluster, through its Jobs API: submitted, listed, stopped, read.

A submitted job is `lehr run` on the cluster's head, of a sweep `lehr sweep`. Its id is `<run id>.<n>`, n
counting the submissions of the run, so that Ray's dashboard shows the run by its name. Two submissions of one
run at once have the same n, and Ray takes each id once: one of them wins, and the others see it.
"""

from __future__ import annotations

import http.client
import shlex
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import lehr
from lehr.errors import LaunchError, UserError, letter
from lehr.launch import parcels
from lehr.launch.addresses import Address
from lehr.launch.dashboard import Answer, Dashboard
from lehr.launch.parcels import Parcel
from lehr.plan import Plan
from lehr.sweep.program import Program

PENDING, RUNNING, STOPPED, FAILED, SUCCEEDED = "PENDING", "RUNNING", "STOPPED", "FAILED", "SUCCEEDED"
ALIVE = (PENDING, RUNNING)
TRIES = 5
RETRY_S = 1.0
STOP_S = 300  # for a last checkpoint to arrive, beyond what an outage of storage may take
WAIT = "RAY_JOB_STOP_WAIT_TIME_S"  # after which Ray kills a driver that it asked to stop


@dataclass(frozen=True)
class Job:
    """A submission of a run, as the cluster knows it.

    Args:
        id: of the job: `<run>.<number>`.
        run: the run's id.
        number: which submission of the run it is, from 1.
        status: Ray's word.
        message: Ray's, on how it stands.
        storage: where the run's folder is.
        ticket: made by who submitted it.
        started: seconds since 1970.
        ended: seconds since 1970; None while it is alive.
        exit_code: of the driver, when it ended by itself.
    """

    id: str
    run: str
    number: int
    status: str
    message: str = ""
    storage: str = ""
    ticket: str = ""
    started: float = 0.0
    ended: float | None = None
    exit_code: int | None = None

    @property
    def alive(self) -> bool:
        """Whether its driver runs, or will."""
        return self.status in ALIVE


@dataclass(frozen=True)
class Submission:
    """What is sent to a cluster.

    Args:
        run: the run's id.
        storage: where the run's folder will be.
        entrypoint: what the head's shell does.
        folder: the folder in which it does it.
        modules: put on the path of driver and workers.
        environment: more variables of driver and workers.
    """

    run: str
    storage: str
    entrypoint: str
    folder: Parcel
    modules: tuple[Parcel, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def submission(
    plan: Plan | Program, text: str, *, extras: Iterable[str] = (), ship: bool = False
) -> Submission:
    """A job of `lehr run`, or of `lehr sweep`.

    Args:
        plan: what it trains; of a sweep, its program.
        text: of the job file.
        extras: packages and modules of the user's own.
        ship: take the running `lehr` along; else it is in the cluster's image.
    """
    # The shell gives way to the driver: Ray's wish to stop reaches it first, and alone.
    command = "run" if plan.spec.search is None else "sweep"
    words = ["exec", "python", "-m", "lehr", command, parcels.JOB, "--run", plan.run_id, "--address", "auto"]
    return Submission(
        plan.run_id,
        plan.spec.storage,
        shlex.join(words),
        parcels.job(text, extras),
        (parcels.package(),) if ship else (),
        {WAIT: str(round(60 * plan.spec.recovery.max_unsaved_minutes) + STOP_S)},
    )


class Jobs:
    """The runs of a cluster.

    Args:
        address: of its dashboard.

    Raises:
        UserError: the address needs a token, and there is none here.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.dashboard = Dashboard(address)

    def all(self) -> list[Job]:
        """Every job of lehr's that the cluster remembers, by run and number."""
        found = (_job(each) for each in self.dashboard.json("GET", "/api/jobs/"))
        return sorted((job for job in found if job), key=lambda job: (job.run, job.number))

    def of(self, run: str) -> list[Job]:
        """The submissions of a run, in order."""
        return [job for job in self.all() if job.run == run]

    def get(self, job: str) -> Job | None:
        """One job; None when the cluster knows no such job of lehr's."""
        answer = self.dashboard.ask("GET", f"/api/jobs/{quote(job)}")
        if answer.code == http.client.NOT_FOUND:
            return None
        if answer.code != http.client.OK:
            raise self.dashboard.unexpected(answer)
        return _job(self.dashboard.read(answer))

    def log(self, job: str) -> str:
        """All that the job's driver printed; "" when it printed nothing."""
        answer = self.dashboard.json("GET", f"/api/jobs/{quote(job)}/logs")
        return str(answer.get("logs") or "")

    def stop(self, job: str) -> bool:
        """Let Ray ask the driver to end; False when there is none any more."""
        answer = self.dashboard.json("POST", f"/api/jobs/{quote(job)}/stop")
        return bool(answer.get("stopped"))

    def submit(self, wanted: Submission) -> Job:
        """Submit a run, unless it is on the cluster already.

        Raises:
            UserError: it is.
            LaunchError: the cluster did not take it.
        """
        known = self.of(wanted.run)
        refuse_alive(known, self.address)
        for parcel in (wanted.folder, *wanted.modules):
            self._send(parcel)
        ticket = uuid.uuid4().hex
        for _ in range(TRIES):
            number = known[-1].number + 1 if known else 1
            if self._post(wanted, f"{wanted.run}.{number}", ticket):
                return Job(f"{wanted.run}.{number}", wanted.run, number, PENDING, storage=wanted.storage)
            known = self.of(wanted.run)
            mine = [job for job in known if job.ticket == ticket]
            if mine:  # it was taken, and the answer lost
                return mine[-1]
            refuse_alive(known, self.address)
            time.sleep(RETRY_S)
        came = f"run {wanted.run} was submitted {TRIES} times, and others came first each time"
        raise LaunchError(letter(self.address.where, came, do="see `lehr list`, and try again"))

    def _send(self, parcel: Parcel) -> None:
        """Send a parcel that the cluster has not."""
        path = f"/api/packages/gcs/{parcel.name}"
        answer = self.dashboard.ask("GET", path)  # which also keeps it there for a while
        if answer.code == http.client.OK:
            return
        if answer.code == http.client.NOT_FOUND:
            answer = self.dashboard.ask("PUT", path, data=parcel.data)
        if answer.code != http.client.OK:
            raise self.dashboard.unexpected(answer)

    def _post(self, wanted: Submission, job: str, ticket: str) -> bool:
        """Whether the cluster took the job under that id; False when the id was taken, or no answer came."""
        modules = {"py_modules": [parcel.uri for parcel in wanted.modules]} if wanted.modules else {}
        document = {
            "entrypoint": wanted.entrypoint,
            "submission_id": job,
            "metadata": {
                "job_name": wanted.run,  # what Ray's dashboard calls it
                "lehr_run": wanted.run,
                "lehr_storage": wanted.storage,
                "lehr_version": lehr.__version__,
                "lehr_ticket": ticket,
            },
            "runtime_env": {
                "working_dir": wanted.folder.uri,
                **modules,  # Ray fails on an empty list
                "env_vars": dict(wanted.environment),
            },
        }
        try:
            answer = self.dashboard.ask("POST", "/api/jobs/", document)
        except LaunchError:
            return False  # it may have been taken: who asks next sees it by its ticket
        if answer.code == http.client.OK:
            return True
        if _is_taken(answer, job):
            return False
        raise self.dashboard.unexpected(answer)


def _is_taken(answer: Answer, job: str) -> bool:
    return f"submission_id {job} already exists" in answer.text


def refuse_alive(known: list[Job], address: Address) -> None:
    """Refuse a run that is on the cluster.

    Raises:
        UserError: one of its submissions is alive.
    """
    for job in known:
        if not job.alive:
            continue
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started)) if job.started else "just now"
        came = f"it is on the cluster already, as job {job.id}, {job.status.lower()} since {since}"
        do = f"follow it: lehr logs {job.run} --follow; stop it: lehr stop {job.run}"
        do += f"; or train beside it: --run {job.run}-2"
        raise UserError(letter(f"run {job.run}", f"{came} ({address.url})", do=do))


def _job(document: Mapping[str, Any]) -> Job | None:
    """A job of lehr's; None when it is another's."""
    given, job = document.get("metadata") or {}, document.get("submission_id") or ""
    run, _, number = job.rpartition(".")
    if document.get("type") != "SUBMISSION" or not number.isdecimal() or given.get("lehr_run") != run:
        return None
    return Job(
        job, run, int(number), document["status"],
        message=document.get("message") or "",
        storage=given.get("lehr_storage") or "",
        ticket=given.get("lehr_ticket") or "",
        started=(document.get("start_time") or 0) / 1000,
        ended=document["end_time"] / 1000 if document.get("end_time") else None,
        exit_code=document.get("driver_exit_code"),
    )  # fmt: skip
