"""A sweep in W&B: its own client sends how the sweep stands to a loopback server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import told_sweeps
import wandb_server
from lehr.cli import app, publishing, trials
from lehr.errors import LehrError
from lehr.tracking import summary
from wandb_server import WandbServer

pytestmark = [pytest.mark.system, pytest.mark.slow]

WANDB = "tracking.wandb={project: lehr, mode: online, tags: [a]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    with wandb_server.serving(monkeypatch, tmp_path) as found:
        yield found


def told(storage: Path, *sets: str, run_id: str) -> trials.Found:
    wanted = told_sweeps.program(*sets, run_id=run_id, storage=storage)
    folder = told_sweeps.storage(storage).below(run_id)
    told_sweeps.tell(folder, wanted)
    return trials.read(folder)


def test_a_sweep_is_one_run_however_often_it_is_sent(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(tmp_path / "runs", WANDB, run_id="find")
    where = publishing.publish(found)
    monkeypatch.setattr(sys, "argv", ["lehr", "track", "sync", "find", "--storage", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert not left.value.code
    assert where in capsys.readouterr().out
    project, name = where.split("/")[-2:]
    run = server.run(project, name)
    assert (run.name, run.group, run.job_type, run.tags) == ("find", "find", "sweep", ["a"])
    best = min(found.history.trials.values(), key=lambda trial: trial.best("min") or 9e9)
    assert run.config["best"] == {
        "trial": best.number, "run": best.last.start.run, "parameters": best.parameters,
    }  # fmt: skip
    assert [row["trial"] for row in run.config["trials"]] == list(range(1, 13))
    assert run.config["search"]["metric"] == "validation/contrastive_divergence"
    rows = [(row["step"], row["sweep/trials_over"], row["sweep/best"]) for row in run.history]
    assert rows == [(12, 12, pytest.approx(best.best("min")))] * 2, "one a call"
    pictures = trials.pictures(found)
    sent = [data for file, data in run.files.items() if file.startswith("media/images/sweep/")]
    assert set(pictures.values()) <= set(sent)
    assert run.state == "finished"


def test_without_wandb_nothing_is_sent(server: WandbServer, tmp_path: Path) -> None:
    assert publishing.publish(told(tmp_path / "runs", run_id="plain")) == ""
    offline = "tracking.wandb={project: lehr, mode: offline}"
    assert publishing.publish(told(tmp_path / "runs", offline, run_id="later")) == ""
    assert server.runs == {}


def test_a_wandb_that_does_not_answer_is_said(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "INIT_S", 3.0)
    found = told(tmp_path / "runs", WANDB, run_id="find")
    server.stop()
    with pytest.raises(LehrError):
        publishing.publish(found)
    server.start()
