"""Whatever is killed of a sweep on Ray, the same trials complete, none twice; and it may be extended."""

from __future__ import annotations

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobs
import ray_sweeps
from lehr import journal
from lehr.launch import embedded
from lehr.store import Store
from ray_sweeps import LENET, Site, events, history, once
from system.test_resume import same_bits

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]
TRIALS = 24  # so many that the last launch has some to begin: each killed one ends up to six
KILLS = 20
ENOUGH = 15  # where machines are so fast that the sweep would be over
SETS = (f"search.trials={TRIALS}", "search.scheduler=asha")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ray_sweeps.cluster() as there:
        yield Site(tmp_path_factory.mktemp("site"), there)


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Site:
    """A sweep that nothing befell, named `calm`."""
    site.lehr(*site.words("calm", LENET, *SETS))
    return site


def test_a_sweep_completes_and_leaves_nothing(undisturbed: Site) -> None:
    trials = once(undisturbed.sweep("calm"), TRIALS)
    assert {trial.last.outcome for trial in trials.values()} <= {"completed", "stopped"}
    assert all(trial.last.train_s > 0 for trial in trials.values())
    left(undisturbed)


def left(site: Site) -> None:
    """No process of a trial, no folder of a driver."""
    assert site.on is not None
    end = time.monotonic() + 60
    while site.on.processes("Segment") and time.monotonic() < end:
        time.sleep(0.2)
    assert not site.on.processes("Segment")
    names = [folder.name for folder in Path(tempfile.gettempdir()).glob(f"{embedded.PREFIX}*-*")]
    assert not [name for name in names if name.split("-")[2] in map(str, site.pids)]


def test_twenty_kills_of_the_driver(undisturbed: Site) -> None:
    site, chance = undisturbed, random.Random(5)
    words = site.words("killed", LENET, *SETS)
    kills = 0
    while (
        kills < KILLS
        and sum(trial.over for trial in history(site.sweep("killed")).trials.values()) < TRIALS - 8
    ):
        kill(site, words, kills, chance)
        kills += 1
    assert kills >= ENOUGH
    began = time.monotonic()
    site.lehr(*words)
    print(f"the last launch took {time.monotonic() - began:.1f} s")
    ours, theirs = once(site.sweep("killed"), TRIALS), once(site.sweep("calm"), TRIALS)
    assert {n: t.parameters for n, t in ours.items()} == {n: t.parameters for n, t in theirs.items()}
    both = [n for n in ours if ours[n].last.outcome == theirs[n].last.outcome == "completed"]
    print(f"{len(both)} trials completed in both sweeps")
    assert both
    for number in both:  # of the others, another one was stopped: that depends on which came first
        mine, other = (jobs.final(site.trial(name, number)) for name in ("killed", "calm"))
        same_bits(mine[1], other[1])
    left(site)


def kill(site: Site, words: list[str], number: int, chance: random.Random) -> None:
    """Start the sweep, and kill -9 its driver at a random moment: every other one soon after its start, the
    others after trials began, or after one of them said something."""
    sweep = site.sweep("killed")
    known, waits = len(events(sweep)), {1: ("trial",), 3: ("report", "ended")}.get(number % 4, ())
    began = time.monotonic()
    process = site.start(*words)
    try:
        if waits:
            ray_sweeps.until(lambda: said(sweep, known, waits) or over(process), process, site.told)
        time.sleep(chance.uniform(0.0, 2.0 if waits else 4.0))
    finally:
        process.kill()
        code = process.wait()
    took_s, new = time.monotonic() - began, len(events(sweep)) - known
    print(f"kill {number} after {took_s:.1f} s and {new} entries ({code})")


def said(sweep: Store, known: int, names: tuple[str, ...]) -> bool:
    """Whether there is one of these events after those that are known."""
    return any(entry.get("event") in names for entry in events(sweep)[known:])


def over(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


def test_more_trials_after_the_end(undisturbed: Site) -> None:
    site = undisturbed
    before = events(site.sweep("calm"))
    site.lehr(*site.words("calm", LENET, *SETS))  # nothing is left to do
    place = ["--address", site.on.address] if site.on else []
    site.lehr("sweep", "extend", "calm", "--trials", "+2", "--storage", str(site.storage), *place)
    trials = once(site.sweep("calm"), TRIALS + 2)
    assert events(site.sweep("calm"))[: len(before)] == before
    assert len({str(trial.parameters) for trial in trials.values()}) == TRIALS + 2


def test_a_killed_process_is_replaced_and_a_wish_to_stop_leaves_checkpoints(undisturbed: Site) -> None:
    site = undisturbed
    assert site.on is not None
    sets = ("search.trials=3", "train.duration={steps: 300}", "checkpoint.every={steps: 20}")
    words = site.words("struck", LENET, *sets)
    runs = [site.trial("struck", number) for number in (1, 2, 3)]
    process = site.start(*words)
    try:
        ray_sweeps.until(lambda: all(map(checkpoints, runs[:2])), process, site.told)
        site.on.processes("Segment")[0].kill()
        ray_sweeps.until(lambda: any(len(journal.attempts(run)) == 2 for run in runs), process, site.told)
        process.send_signal(signal.SIGTERM)
        assert process.wait(ray_sweeps.PATIENCE_S) == 128 + signal.SIGTERM, site.told()
    finally:
        process.kill()
    assert "its process ended" in site.told()
    begun = history(site.sweep("struck")).trials.values()
    ends = [trial.last.outcome for trial in begun]
    assert "interrupted" in ends
    assert set(ends) <= {"interrupted", "completed"}  # none failed
    left(site)
    site.lehr(*words)
    assert {trial.last.outcome for trial in once(site.sweep("struck"), 3).values()} == {"completed"}
    for run in runs:
        assert all(start > 0 for start in from_steps(run)[1:]), "it went on from a checkpoint"


def from_steps(run: Store) -> list[int]:
    """Where the attempts that began took up the run."""
    entries = [entry for attempt in journal.attempts(run) for entry in journal.read_attempt(run, attempt)]
    return [entry["from_step"] for entry in entries if entry["type"] == "start"]


def checkpoints(run: Store) -> list[str]:
    return [key for key in run.list("checkpoints") if key.endswith("manifest.json")]
