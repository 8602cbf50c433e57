"""kill -9, or SIGSTOP, at every single change that saving makes to the store, its start and its retention
included.

One process after the other works at the same run, and the n-th dies before its n-th change: each begins with
what all before it left. Here a process is the savers of two ranks and nothing else; whole runs are killed in
`test_kills.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lehr import store as stores
from lehr.checkpoint import committed_names, newest
from ranks import is_whole

pytestmark = pytest.mark.system
TESTS = Path(__file__).parents[1]
# A claim, the closing of what the one before left, two saves of 7 changes, a deletion of 7, and some more.
DEATHS = 32

VICTIM = """
import itertools, json, sys
from dying_workers import Count, Death, Dying
from lehr import checkpoint, journal, store
from lehr.checkpoint.saver import KeepLast
from lehr.fence import Fence
from ranks import Ranks

url, n, steps, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
place = store.connect(url)
if n:
    place = Dying(place, Count(Death(attempt=0, rank=0, match="", nth=n, signal=how)))
attempt = journal.claim_attempt(place)
checkpoint.seal(place, attempt)
found = checkpoint.newest(place).manifest
# It asks before each change: it cannot know that it was frozen for less than five seconds.
ranks = Ranks(place, attempt=attempt, policy=KeepLast(1), fence=Fence(place, attempt, fresh_s=0.0),
              grace_s=0.0 if how == "SIGKILL" else 3600.0)
if found:
    ranks.resume(found)
first = found.step if found else 0
print(json.dumps(["found", first]), flush=True)
for step in itertools.islice(itertools.count(first + 1), steps):
    print(json.dumps(["saved", ranks.save(step)]), flush=True)
for rank in (0, 1):
    assert how != "SIGKILL" or not ranks.told("checkpoint_failed", rank=rank), ranks.events
print(json.dumps(["fenced", sum(saver.fenced for saver in ranks.savers)]), flush=True)
ranks.close()
"""


def begin(url: str, *, at: int, steps: int, how: str = "SIGKILL") -> subprocess.Popen[str]:
    """A process that saves so many steps, and gets a signal before its change number `at` (0: none)."""
    return subprocess.Popen(
        [sys.executable, "-c", VICTIM, url, str(at), str(steps), how], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(TESTS)},
    )  # fmt: skip


def live(url: str, *, dies_at: int = 0, steps: int = 1000, how: str = "SIGKILL") -> list[tuple[str, int]]:
    """One process's life: what it said before it died, or (0) ended after so many saves."""
    with begin(url, at=dies_at, steps=steps, how=how) as process:
        said, problem = process.communicate(timeout=120)
    assert process.returncode == (-9 if dies_at else 0), problem
    return words(said)


def words(said: str) -> list[tuple[str, int]]:
    lines = [line for line in said.splitlines() if not line.startswith("dies at")]
    return [(what, step) for what, step in map(json.loads, lines)]


def every_death(url: str) -> None:
    run, safe = stores.connect(url), 0
    for n in range(1, DEATHS + 1):
        said = live(url, dies_at=n)
        assert not said or said[0] == ("found", safe), "it begins with the newest that was good"
        manifest = newest(run).manifest
        step = manifest.step if manifest else 0
        assert step >= max([safe, *(step for _, step in said)]), "what was told to be safe is there"
        assert manifest is None or is_whole(run, manifest)
        safe = step
    assert safe >= 2 * (DEATHS - 20) / 7, "they came to something between their deaths"
    assert live(url, steps=2) == [
        ("found", safe), ("saved", safe + 1), ("saved", safe + 2), ("fenced", 0),
    ]  # fmt: skip
    keys = run.list("checkpoints")
    [name] = committed_names(keys)
    assert len(keys) == 7, "nothing else is left"
    assert name.startswith(f"step-{safe + 2:08d}")


@pytest.mark.slow
def test_killed_at_every_change_in_a_folder(tmp_path: Path) -> None:
    every_death(str(tmp_path / "run"))


@pytest.mark.slow
def test_killed_at_every_change_on_s3(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    every_death(f"s3://{s3.bucket()}/run")


@pytest.mark.slow
@pytest.mark.parametrize("n", range(1, 17))
def test_frozen_at_a_change_and_thawed_when_others_have_saved(n: int, tmp_path: Path) -> None:
    """It does the change that it was at, one a rank, or the rest of one deletion, and nothing else."""
    url = str(tmp_path / "run")
    run = stores.connect(url)
    live(url, steps=1)
    frozen = begin(url, at=n, steps=2, how="SIGSTOP")
    try:
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED | os.WNOWAIT)
        names = committed_names(run.list("checkpoints"))
        found = live(url, steps=2, how="SIGSTOP")[0]
        assert found == ("found", int(names[-1][5:13])), "the newest that was committed when it froze"
        before = {key: run.read(key) for key in run.list()}
        frozen.send_signal(signal.SIGCONT)
        said, problem = frozen.communicate(timeout=120)
    finally:
        frozen.kill()
        frozen.wait()
    assert frozen.returncode == 0, problem
    after = {key: run.read(key) for key in run.list()}
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if n == 1:  # it had claimed nothing, so now it is the newest attempt
        assert words(said)[-1] == ("fenced", 0)
        return
    assert words(said)[-1] == ("fenced", 2)
    folders = {key.split("/")[1] for key in changed}
    assert len(folders) <= 1, changed
    assert len(changed) <= 2 or folders == {"step-00000001.a1"}, "one a rank, or the one being deleted"
    assert committed_names(after) == committed_names(before)
    manifest = newest(run).manifest
    assert manifest is not None
    assert manifest.step == found[1] + 2
    assert is_whole(run, manifest)
