"""The smoke sweep of `jobs/` as a user runs it: `lehr sweep` on Ray, and what comes out of it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from lehr import status
from lehr import store as stores
from lehr.sweep.records import FINAL

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

SWEEP = "sweep-ebm-smoke"
JOB = Path(__file__).parents[2] / "jobs" / f"{SWEEP}.yaml"
LEHR = str(Path(sys.executable).with_name("lehr"))
PATIENCE_S = 400.0


def lehr(folder: Path, *words: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [LEHR, *words], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it ran: its runs are in `runs`, as the job says."""
    there = tmp_path_factory.mktemp("smoke")
    lehr(there, "sweep", str(JOB))
    return there


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "runs" / SWEEP / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_it_completes_and_both_tables_agree(folder: Path) -> None:
    wanted = yaml.safe_load(JOB.read_text())["search"]["trials"]
    found = rows(folder)
    assert [row["trial"] for row in found] == list(range(1, wanted + 1))
    assert {row["outcome"] for row in found} <= FINAL
    assert any(row["outcome"] == "completed" for row in found)
    table = (folder / "runs" / SWEEP / "results.parquet").read_bytes()
    assert pyarrow.parquet.read_table(io.BytesIO(table)).to_pylist() == found
    said = status.read(stores.connect(str(folder / "runs")).below(SWEEP))
    assert said is not None
    assert (said.status, said.step, said.steps) == ("completed", wanted, wanted)


def test_show_tells_of_every_trial(folder: Path) -> None:
    said = lehr(folder, "sweep", "show", SWEEP, "--figures", "figures")
    for row in rows(folder):
        assert str(row["outcome"]) in said
    assert "validation/contrastive_divergence" in said
    pictures = sorted((folder / "figures").glob("*.png"))
    assert pictures
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_the_best_is_a_job_that_promote_trains(folder: Path) -> None:
    lehr(folder, "sweep", "best", SWEEP, "--write", "best.yaml")
    lehr(folder, "check", "best.yaml")
    written = yaml.safe_load((folder / "best.yaml").read_text())
    first = min((row for row in rows(folder) if row["best"] is not None), key=lambda row: row["best"])
    for path in yaml.safe_load(JOB.read_text())["search"]["space"]:
        value = written
        for key in path.split("."):
            value = value[key]
        assert value == first[path], path
    assert written.get("search") is None
    lehr(folder, "sweep", "promote", SWEEP, "--local", "--set", "train.duration={steps: 6}")
    said = status.read(stores.connect(str(folder / "runs")).below(f"{SWEEP}-best"))
    assert said is not None
    assert (said.status, said.step) == ("completed", 6)
