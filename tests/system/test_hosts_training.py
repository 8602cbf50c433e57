"""Submitted from outside with a token, trained by two hosts, kept in S3: the numbers of one machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jobs
import sites
from sites import Site
from system.test_resume import same_bits

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.hosts, pytest.mark.s3]


@pytest.fixture(scope="module")
def site(hosts: None, s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Hosts whose names lead to loopback there, and nowhere else: as many machines have it."""
    with sites.site(s3, tmp_path_factory.mktemp("site"), named=False) as found:
        yield found


@pytest.mark.parametrize("kind", ["horovod", "multiworker"])
def test_two_hosts_train_to_the_bits_of_one_machine(kind: str, site: Site, tmp_path: Path) -> None:
    run = site.submit(kind, f"strategy={{kind: {kind}, workers: 2}}")
    expected = sites.undisturbed(tmp_path, kind, 2)  # meanwhile
    site.until_completed(run)
    [start] = sites.starts(run)
    assert start["workers"] == 2
    same_bits(jobs.final(run, slots=32)[1], jobs.final(expected, slots=32)[1])
    assert jobs.story(run) == jobs.story(expected)
