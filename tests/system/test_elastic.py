"""Runs on a cluster whose hosts come and go: as large as there is room, and with the same numbers."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import elastic_worker
import jobs
from lehr import journal, status
from lehr.launch import admission, local
from lehr.store import Store
from network import Network
from ray_hosts import Cluster

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
PATIENCE_S = 300.0
DRIVER = """
import json, pathlib, sys
import jobs
from lehr import logs
from lehr.errors import LehrError
from lehr.launch import admission, train

storage, address, worker, text, *sets = sys.argv[1:]
plan, base = jobs.plan(getattr(jobs, text), *sets), jobs.storage(pathlib.Path(storage))
run = base.below(plan.run_id)
admission.prepare(plan, run)
with logs.into(run, "logs/driver.log"):
    try:
        answer = train.run(plan, base, address=address, worker=worker).document()
    except LehrError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
print("answer:", json.dumps(answer))
"""
OTHER = """
import pathlib, sys
import ray
from ray.util.placement_group import placement_group

ray.init(sys.argv[1], log_to_driver=False)
ray.get(placement_group([{"CPU": 1}]).ready())
pathlib.Path(sys.argv[2]).touch()
sys.stdin.read()
"""
# Sums over workers are rounded in another order than over one batch. After these 100 steps, 4 then 2 then 3
# workers were apart from 1 by at most 8e-8 in the metrics and 2e-7 in the weights.
SAME = 1e-5
TOLD_S = 30.0  # the one bound on time here: it is a promise, and tens of seconds are left of it
ELASTIC = (
    "train.global_batch=48",
    "train.duration={steps: 100}",
    "sampler.buffer.size=480",
    "checkpoint.every={steps: 10}",
    "strategy={kind: horovod, workers: [1, 4]}",
)


@pytest.fixture
def network(
    hosts: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Network]:
    """A head that takes no workers, and as many other hosts as the test's parameter says."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("LEHR_GROW_S", "4")
    with Network(1 + request.param) as network:
        yield network


def start(cluster: Cluster, storage: Store, worker: str, text: str, *sets: str) -> subprocess.Popen[str]:
    """A driver on the head."""
    program = [sys.executable, "-c", DRIVER, storage.url.removeprefix("file://"), cluster.gcs, worker, text]
    return cluster.head.start([*program, *sets], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def answer(driver: subprocess.Popen[str]) -> dict[str, object]:
    said, _ = driver.communicate(timeout=PATIENCE_S)
    found = [line for line in said.splitlines() if line.startswith("answer: ")]
    assert driver.returncode == 0, said
    assert found, said
    return dict(json.loads(found[-1].removeprefix("answer: ")))


def until(what: str, happened: Callable[[], object], driver: subprocess.Popen[str]) -> None:
    """Wait for something while the driver lives."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert driver.poll() is None, f"the driver ended before {what}: {driver.communicate()[0]}"
        assert time.monotonic() < end, f"no {what} within {PATIENCE_S:.0f} s"
        time.sleep(0.2)


def reached(run: Store, attempt: int, step: int) -> bool:
    now = status.read(run)
    return now is not None and (now.attempt, now.step) >= (attempt, step) and now.status == "running"


def starts(run: Store) -> list[tuple[int, int, int]]:
    """Attempt, workers and first step of each attempt."""
    found = []
    for attempt in range(1, journal.latest_attempt(run) + 1):
        for line in run.read(journal.key(attempt)).splitlines():
            entry = json.loads(line)
            if entry["type"] == "start":
                found.append((attempt, entry["workers"], entry["from_step"]))
    return found


def alone(storage: Store, *sets: str) -> Store:
    """The same job by one worker that nobody disturbs."""
    plan = jobs.plan(jobs.EBM, *sets, "strategy={kind: single}", run_id="alone")
    admission.prepare(plan, storage.below("alone"))
    local.spawn(plan, storage)
    return storage.below("alone")


def same(run: Store, other: Store) -> None:
    """The same numbers at every step, and the same weights and chains at the end."""
    ours, theirs = jobs.story(run), jobs.story(other)
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    for (step, mine), (_, single) in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(single, rel=SAME, abs=SAME), f"step {step}"
    (_, state), (_, reference) = jobs.final(run, slots=48), jobs.final(other, slots=48)
    for mine, single in ((state.weights, reference.weights), (state.chains, reference.chains)):
        for name, values in single.items():
            np.testing.assert_allclose(mine[name], values, rtol=SAME, atol=SAME, err_msg=name)


@pytest.mark.timeout(900)  # three attempts of up to four workers: 190 s on two busy cores
@pytest.mark.parametrize("network", [4], indirect=True)
def test_from_4_to_2_to_3_workers_is_the_run_of_1(network: Network, tmp_path: Path) -> None:
    storage = jobs.storage(tmp_path)
    run = storage.below("ebm")
    with Cluster(network) as cluster, ThreadPoolExecutor(1) as pool:
        driver = start(cluster, storage, "elastic_worker:main", "EBM", *ELASTIC)
        until("step of 4 workers", lambda: reached(run, 1, elastic_worker.SLOW), driver)
        lost = cluster.workers[2:]
        for host in lost:
            host.kill()
        single = pool.submit(alone, storage, *ELASTIC[:-1])  # while Ray makes sure that they are dead
        until("step of 2 workers", lambda: reached(run, 2, elastic_worker.WAIT), driver)
        lost[0].revive()
        cluster.join(lost[0])
        assert answer(driver)["status"] == "completed"

    begun = starts(run)
    assert [workers for _, workers, _ in begun] == [4, 2, 3]
    assert begun[1][2] in (10, 20), "two workers go on from a checkpoint that four made"
    assert begun[2][2] == elastic_worker.WAIT + 1, (
        "three go on from the step at which two left: nothing is redone"
    )

    same(run, single.result())


def command(cluster: Cluster, storage: Path, *sets: str) -> list[str]:
    """`lehr run` for two workers and four steps, on the head."""
    job = storage / "job.yaml"
    job.write_text(jobs.LENET)
    sets = ("train.duration={steps: 4}", "strategy={kind: horovod, workers: 2}", *sets)
    lehr = str(Path(sys.executable).with_name("lehr"))
    options = ["--address", cluster.gcs, "--storage", str(storage / "runs")]
    return [lehr, "run", str(job), *options, *(word for each in sets for word in ("--set", each))]


@contextlib.contextmanager
def occupied(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Another job has one of the cluster's CPUs during the block."""
    held, program = folder / "held", [sys.executable, "-c", OTHER, cluster.gcs, str(folder / "held")]
    other = cluster.head.start(program, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE_S
        while not held.exists():
            assert other.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        yield
    finally:
        other.communicate()  # its standard input ends, and so does it


def queued(run: Store) -> str:
    """What the run waits for; "" when it does not."""
    now = status.read(run)
    return now.message if now is not None and now.status == "queued" else ""


@pytest.mark.parametrize("network", [2], indirect=True)
def test_what_never_finds_room_is_told_and_what_does_not_yet_is_queued(
    network: Network, tmp_path: Path
) -> None:
    run = jobs.storage(tmp_path / "runs").below("lenet")
    with Cluster(network) as cluster:
        began = time.monotonic()
        gpus = command(cluster, tmp_path, "strategy={kind: horovod, workers: 8, gpus: true}")
        done = cluster.head.run(gpus, timeout_s=PATIENCE_S)
        assert done.returncode == 1
        assert "8 workers of 1 CPU and 1 GPU need more than this cluster ever has" in done.stderr
        assert "h2, h3: 1 CPU and 0 GPUs each" in done.stderr
        assert time.monotonic() - began < TOLD_S, "said before anything is waited for"

        with occupied(cluster, tmp_path):
            driver = cluster.head.start(command(cluster, tmp_path), stderr=subprocess.PIPE, text=True)
            until("word of what it waits for", lambda: queued(run), driver)
            assert queued(run).startswith("waits for room: 2 workers of 1 CPU; free: ")
            cluster.head.signal(signal.SIGINT, containing="lehr run")
            _, said = driver.communicate(timeout=PATIENCE_S)
            assert driver.returncode == 128 + signal.SIGINT, said
            stopped = status.read(run)
            assert stopped is not None
            assert stopped.status == "stopped"

            driver = cluster.head.start(command(cluster, tmp_path), stderr=subprocess.PIPE, text=True)
            until("word of what it waits for", lambda: queued(run), driver)
            first = status.read(run)
            until("another sign of life", lambda: status.read(run) != first, driver)
        _, said = driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode == 0, said
        assert "queued: waits for room: 2 workers of 1 CPU; free: " in said
    assert starts(run) == [(1, 2, 0)]
    assert b"lehr: waits for room: 2 workers" in run.read("logs/driver.log")
    assert b"lehr: there is room: the workers start" in run.read("logs/driver.log")


COMMON = (*ELASTIC[:-1], "validation.every={steps: 5}")  # a run's last step is validated, too


@pytest.fixture(scope="module")
def fifteen(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Fifteen steps of one worker."""
    storage = jobs.storage(tmp_path_factory.mktemp("fifteen"))
    return alone(storage, *COMMON, "train.duration={steps: 15}")


@pytest.mark.parametrize("kind", ["horovod", "multiworker"])
def test_each_size_goes_on_from_the_checkpoint_of_another(kind: str, fifteen: Store, tmp_path: Path) -> None:
    """The chains of 3 workers are divided anew over 1, and then over 2."""
    storage = jobs.storage(tmp_path)
    for size, steps in ((3, 5), (1, 10), (2, 15)):
        sets = (
            *COMMON,
            f"strategy={{kind: {kind}, workers: [1, 4]}}",
            f"train.duration={{steps: {steps}}}",
        )
        plan = jobs.plan(jobs.EBM, *sets).at(size)
        admission.prepare(plan, storage.below("ebm"))
        assert local.run(plan, storage).step == steps
    run = storage.below("ebm")
    assert starts(run) == [(1, 3, 0), (2, 1, 5), (3, 2, 10)]
    same(run, fifteen)
