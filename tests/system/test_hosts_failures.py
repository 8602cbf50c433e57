"""Whatever dies of a cluster, a run that was submitted to it ends with the numbers of an undisturbed one.

One cluster serves all tests: each leaves it whole, and has a run of its own.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import jobs
import sites
from lehr import journal, status
from lehr.store import Store
from network import Host
from sites import LEHR, Site, driver_said, saved, starts, state
from system.test_resume import same_bits

pytestmark = [
    pytest.mark.system, pytest.mark.slow, pytest.mark.hosts, pytest.mark.s3, pytest.mark.timeout(900),
]  # fmt: skip
WORKER = "RayTrainWorker"
TWO = "strategy={{kind: {}, workers: 2}}"
ONE_OR_TWO = "strategy={{kind: {}, workers: [1, 2]}}"
AT = 10  # the step whose checkpoint is waited for before something happens
CUT_S = 5.0
NAMED_S = (
    120.0  # from a cut link to its name in the driver's log: about 10 s with the harness's health checks
)
TOLD_S = 30.0  # that a job which can never be placed may take to say so
APART = 1e-4  # weights of one worker and of two
Expected = Callable[[str, int], "Future[Store]"]


@pytest.fixture(scope="module")
def site(hosts: None, s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sites.site(s3, tmp_path_factory.mktemp("site"), agent=True) as found:
        yield found


@pytest.fixture(autouse=True)
def whole(site: Site) -> Iterator[None]:
    """A test that fails leaves no host behind that the next one would miss."""
    yield
    there = site.cluster.alive()
    for host in site.cluster.workers:
        if host.address not in there:
            site.back(host)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    """The run that nothing befell, by strategy and workers; each is trained once, while others go on."""
    known: dict[tuple[str, int], Future[Store]] = {}
    with ThreadPoolExecutor(1) as pool:

        def find(kind: str, workers: int) -> Future[Store]:
            if (kind, workers) not in known:
                folder = tmp_path_factory.mktemp("undisturbed")
                known[kind, workers] = pool.submit(sites.undisturbed, folder, kind, workers)
            return known[kind, workers]

        yield find
        pool.shutdown(cancel_futures=True)


def equal(run: Store, other: Store) -> None:
    same_bits(jobs.final(run, slots=32)[1], jobs.final(other, slots=32)[1])
    assert jobs.story(run) == jobs.story(other)


def close(run: Store, other: Store) -> None:
    (_, ours), (_, theirs) = jobs.final(run, slots=32), jobs.final(other, slots=32)
    apart = {name: np.abs(ours.weights[name] - theirs.weights[name]).max() for name in theirs.weights}
    assert max(apart.values()) < APART, apart


def sizes(run: Store) -> list[object]:
    return [start["workers"] for start in starts(run)]


def at_work(site: Site) -> list[Host]:
    """Hosts on which a worker of a run is."""
    return [
        host for host in site.cluster.workers if any(WORKER in line for line in host.processes().values())
    ]


def called(host: Host) -> str:
    return f"host {host.name} ({host.address})"


@pytest.mark.parametrize("kind", ["horovod", "multiworker"])
def test_fixed_run_waits_for_a_killed_host_that_comes_back(kind: str, site: Site, expected: Expected) -> None:
    run = site.submit(f"fixed-{kind}", TWO.format(kind))
    other = expected(kind, 2)  # meanwhile
    site.until_step(AT, run)
    lost = site.cluster.workers[1]
    lost.kill()
    site.until("word of what it waits for", lambda: "waits for room: 2 workers" in waits_for(run), run)
    site.back(lost)
    site.until_completed(run)
    assert sizes(run) == [2, 2]
    assert starts(run)[1]["from_step"] >= AT  # type: ignore[operator]
    equal(run, other.result())


def test_elastic_run_completes_without_a_killed_host(site: Site, expected: Expected) -> None:
    run = site.submit("elastic", ONE_OR_TWO.format("horovod"))
    other = expected("horovod", 1)  # meanwhile
    site.until_step(AT, run)
    lost = site.cluster.workers[1]
    lost.kill()
    site.until_completed(run)
    site.back(lost)
    assert sizes(run) == [2, 1]
    close(run, other.result())


def test_link_cut_for_good_is_named_and_an_elastic_run_goes_on(site: Site, expected: Expected) -> None:
    run = site.submit("cut-off", ONE_OR_TWO.format("multiworker"))
    other = expected("horovod", 1)  # meanwhile
    site.until_step(AT, run)
    lost = site.cluster.workers[1]
    cut = time.time()
    lost.cut()
    named = site.until("name of the host", lambda: f"{called(lost)} with worker" in driver_said(run), run)
    print(f"named after {named - cut:.1f} s")
    assert named - cut < NAMED_S
    site.until_completed(run)
    site.back(lost)
    assert sizes(run) == [2, 1]
    [why] = [entry for entry in journal.read_attempt(run, 2) if entry.get("event") == "restarted"]
    assert (why["cause"], why["host"], why["address"]) == ("failed", lost.name, lost.address)
    close(run, other.result())


def test_link_cut_for_seconds_loses_nothing(site: Site, expected: Expected) -> None:
    run = site.submit("cut", TWO.format("horovod"))
    other = expected("horovod", 2)  # meanwhile
    site.until_step(AT, run)
    host = site.cluster.workers[1]
    host.cut()
    time.sleep(CUT_S)
    host.mend()
    site.until_completed(run)
    print("attempts:", len(starts(run)))
    assert sizes(run) in ([2], [2, 2])
    equal(run, other.result())


def test_killed_worker_process_is_replaced(site: Site, expected: Expected) -> None:
    run = site.submit("worker", TWO.format("horovod"))
    other = expected("horovod", 2)  # meanwhile
    site.until_step(AT, run)
    assert site.cluster.workers[0].signal(signal.SIGKILL, containing=WORKER)
    site.until_completed(run)
    assert sizes(run) == [2, 2]
    equal(run, other.result())


def test_host_that_is_taken_away_leaves_a_checkpoint(site: Site) -> None:
    longer = ("train.duration={steps: 2000}", "checkpoint.every={steps: 1000}")
    run = site.submit("taken", *longer, ONE_OR_TWO.format("horovod"))
    site.until("steps", lambda: len(metrics(run)) >= 3, run)
    host = site.cluster.workers[1]
    signalled = time.time()
    assert host.signal(signal.SIGTERM, containing="lehr host")
    site.until("attempt of one worker", lambda: sizes(run)[1:] == [1], run)
    [checkpoint] = [entry for entry in journal.read_attempt(run, 1) if entry.get("event") == "checkpoint"]
    assert checkpoint["time"] > signalled
    assert starts(run)[1]["from_step"] == checkpoint["step"]
    said = site.network.outside.run([LEHR, "stop", f"{site.url}/taken", "--address", site.cluster.address])
    assert said.returncode == 0, said.stdout + said.stderr
    assert state(run) == "stopped"
    site.back(host)


def waits_for(run: Store) -> str:
    """What it says as long as it is queued."""
    now = status.read(run)
    return now.message if now is not None and now.status == "queued" else ""


def metrics(run: Store) -> list[dict[str, Any]]:
    return [entry for entry in journal.read(run) if entry["type"] == "metrics"]


def test_job_that_can_never_be_placed_says_so(site: Site) -> None:
    words = [*site.words("large", "strategy={kind: horovod, workers: 8, gpus: true}"), "--follow"]
    began = time.monotonic()
    said = site.network.outside.run(words)
    took_s = time.monotonic() - began
    print(f"said after {took_s:.1f} s")
    told = said.stdout + said.stderr
    assert said.returncode == 1, told
    assert "8 workers of 1 CPU and 1 GPU need more than this cluster ever has" in told, told
    assert "h1: 0 CPUs and 0 GPUs; h2, h3: 1 CPU and 0 GPUs each" in told, told
    assert took_s < TOLD_S


def test_killed_driver_and_submitted_again(site: Site, expected: Expected) -> None:
    run = site.submit("driver", TWO.format("horovod"))
    other = expected("horovod", 2)  # meanwhile
    site.until_step(AT, run)
    assert site.cluster.head.signal(signal.SIGKILL, containing="lehr run")
    again(site, "driver")
    site.until("second attempt", lambda: len(starts(run)) == 2, run)
    site.until_completed(run)
    assert starts(run)[1]["from_step"] >= AT  # type: ignore[operator]
    equal(run, other.result())


def test_killed_head_that_comes_back_and_submitted_again(site: Site, expected: Expected) -> None:
    cluster = site.cluster
    run = site.submit("head", TWO.format("horovod"))
    other = expected("horovod", 2)  # meanwhile
    site.until_step(AT, run)
    cluster.head.kill()
    for host in cluster.workers:  # for a minute they would train on without the head, perhaps to the end
        cluster.clear(host)
    assert saved(run) < sites.STEPS
    cluster.clear(cluster.head)
    cluster.head.revive()
    cluster.start_head()
    for host in cluster.workers:
        cluster.join(host)
    cluster.wait(3)
    again(site, "head")
    site.until("second attempt", lambda: len(starts(run)) == 2, run)
    site.until_completed(run)
    equal(run, other.result())


def again(site: Site, run_id: str) -> None:
    """Submit the same job as soon as the cluster knows that it is dead."""
    words = site.words(run_id, TWO.format("horovod"))
    end = time.monotonic() + sites.PATIENCE_S
    while (done := site.network.outside.run(words)).returncode:
        assert "on the cluster already" in done.stderr, done.stderr
        assert time.monotonic() < end, done.stderr
        time.sleep(0.5)
