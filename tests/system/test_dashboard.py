"""Ray's dashboard as a person opens it: it asks for the token, and shows a run by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import browser
import jobs
import ray_head

pytestmark = [pytest.mark.system, pytest.mark.slow]
RUN = "seen-by-its-name"
FIELD = "Enter your authentication token"


@pytest.fixture(scope="module")
def head() -> Iterator[ray_head.Head]:
    if browser.program() is None:
        pytest.skip("needs Chromium: apt-get install --no-install-recommends chromium")
    with ray_head.head() as head:
        yield head


def test_run_is_shown_by_its_name(head: ray_head.Head, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"{jobs.LENET}\nstorage: {tmp_path / 'runs'}\n")
    done = head.lehr("submit", str(job), "--run", RUN, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with browser.browse(tmp_path / "browser") as page:
        page.go(head.address)
        page.wait("Authentication Token Required")
        page.type("no such token", into=FIELD)
        page.click("Submit")
        page.wait("Invalid authentication token")
        page.type(head.token, into=FIELD)
        page.click("Submit")
        page.wait("Recent jobs")
        page.go(f"{head.address}/#/jobs")
        page.wait(f"{RUN}.1")
        page.wait("SUCCEEDED")
        page.picture(tmp_path / "jobs.png")
        page.go(f"{head.address}/#/jobs/{RUN}.1")
        page.wait("Submission ID")
        page.wait(f"{RUN}.1")
        page.picture(tmp_path / "job.png")
    for name in ("jobs.png", "job.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
