"""A host with a trial dies: the trial goes on elsewhere from its checkpoint, and the sweep completes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import jobs
import sites
from lehr import journal, spec
from lehr.store import Store
from network import Host
from ray_sweeps import SEARCH, once
from sites import LEHR, Site

pytestmark = [
    pytest.mark.system, pytest.mark.slow, pytest.mark.hosts, pytest.mark.s3, pytest.mark.timeout(900),
]  # fmt: skip
SETS = (
    "train.duration={steps: 60}",
    "sampler.steps=20",
    "checkpoint.every={steps: 5}",
    "search.metric=train/loss",
    "search.trials=3",
)
TRIAL = "Segment"


@pytest.fixture(scope="module")
def site(hosts: None, s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sites.site(s3, tmp_path_factory.mktemp("site")) as found:
        found.file.write_text(spec.text(spec.parse(jobs.EBM + SEARCH, sets=SETS)))
        yield found


def at_work(site: Site) -> list[Host]:
    """Hosts on which a trial is."""
    return [host for host in site.cluster.workers if any(TRIAL in line for line in host.processes().values())]


def test_a_host_with_a_trial_is_lost(site: Site) -> None:
    words = [LEHR, "submit", str(site.file), "--run", "search"]
    done = site.network.outside.run([*words, "--address", site.cluster.address, "--storage", site.url])
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = site.run("search")
    first, second = (sweep.below(f"trials/search-{number:04d}") for number in (1, 2))
    site.until("two trials that saved", lambda: sites.saved(first) and sites.saved(second), sweep)
    assert len(at_work(site)) == 2
    site.cluster.workers[1].kill()
    site.until_completed(sweep)
    trials = once(sweep, 3)
    assert {trial.last.outcome for trial in trials.values()} == {"completed"}
    lost = [run for run in (first, second) if len(journal.attempts(run)) == 2]
    assert len(lost) == 1
    assert resumed(lost[0]) >= 5
    assert "its process ended" in sites.driver_said(sweep)


def resumed(run: Store) -> int:
    """From which step its second attempt went on."""
    entries = journal.read_attempt(run, 2)
    return int(next(entry for entry in entries if entry["type"] == "start")["from_step"])
