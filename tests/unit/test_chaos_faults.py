"""The texts of faults, and whether they fit a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import jobs
from architecture.test_light import JOB, run
from lehr.chaos import faults, texts
from lehr.chaos.faults import Kill, Outage, Slow, TrackerDown
from lehr.cli import app
from lehr.errors import UserError

TWO = "strategy={kind: horovod, workers: 2}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("503:30s@step=20", Outage("503", 30.0, 20)),
        ("500:0.5s@step=0", Outage("500", 0.5, 0)),
        ("refuse:2m@step=5", Outage("refuse", 120.0, 5)),
        ("hang:1h", Outage("hang", 3600.0, None)),
        ("403:always@step=7", Outage("403", None, 7)),
        ("cut:always", Outage("cut", None, None)),
        ("lost:1s@step=3", Outage("lost", 1.0, 3)),
        ("slow:4x:30s@step=20", Outage("slow", 30.0, 20, factor=4.0)),
        ("slow:200KB/s:2m@step=20", Outage("slow", 120.0, 20, rate=200e3)),
        ("slow:1.5MiB:always", Outage("slow", None, None, rate=1.5 * 2**20)),
        ("slow:100B/s:1s", Outage("slow", 1.0, None, rate=100.0)),
    ],
)
def test_faults_of_the_store_are_read(text: str, fault: Outage) -> None:
    assert texts.outage(text) == fault


def test_other_faults_are_read() -> None:
    assert texts.kill("1@step=50") == Kill(1, 50)
    assert texts.slow("1:2x") == Slow(1, 2.0)
    assert texts.slow("0:1.5x") == Slow(0, 1.5)
    assert texts.tracker("down") == TrackerDown()
    assert texts.tracker("down:30s@step=20") == TrackerDown(30.0, 20)
    assert texts.tracker("down:always") == TrackerDown()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("504:30s@step=2", "accepted: 503, 500, 403, refuse, hang, slow, cut, lost"),
        ("", "no such kind"),
        ("503@step=2", "503:DURATION@step=S, as 503:30s@step=20"),
        ("503:4x:30s@step=2", "503:DURATION@step=S"),
        ("503:30@step=2", "'30' is no duration"),
        ("503:0s@step=2", "'0s' is no duration"),
        ("503:-3s@step=2", "'-3s' is no duration"),
        ("503:30s@step=", "no such kind"),
        ("503:30s@20", "no such kind"),
        ("slow:30s@step=2", "slow:RATE:DURATION@step=S"),
        ("slow:1x:30s", "'1x' is no speed"),
        ("slow:0KB/s:30s", "'0KB/s' is no speed"),
        ("slow:fast:30s", "'fast' is no speed"),
    ],
)
def test_what_is_no_fault_of_the_store_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        texts.outage(text)
    assert str(refused.value).startswith(f"--store {text}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["1", "1@50", "one@step=3", "-1@step=3", "1@step=x", "1@step=3 "])
def test_what_is_no_kill_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="as 1@step=50"):
        texts.kill(text)


@pytest.mark.parametrize("text", ["1", "1:2", "1:1x", "1:0.5x", "x:2x"])
def test_what_slows_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="a factor above 1, as 1:2x"):
        texts.slow(text)


@pytest.mark.parametrize("text", ["", "up", "down:", "down@step=3", "down:3@step=3", "down:3s@step=x"])
def test_what_is_no_outage_of_wandb_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--wandb"):
        texts.tracker(text or "@")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Kill(2, 5), "no rank 2"),
        (Slow(2, 2.0), "no rank 2"),
        (Kill(1, 10), "accepted: 0 to 9"),
        (Outage("503", 1.0, 10), "the plan has 10 steps"),
        (TrackerDown(1.0, 10), "accepted: 0 to 9"),
        (TrackerDown(), "does not use W&B"),
    ],
)
def test_what_does_not_fit_the_plan_is_refused(fault: faults.Fault, said: str) -> None:
    with pytest.raises(UserError, match=said):
        faults.check([fault], jobs.plan(jobs.EBM, TWO))


def test_what_fits_is_let_through() -> None:
    plan = jobs.plan(jobs.EBM, TWO, "tracking.wandb={project: lehr}")
    given = [Kill(0, 0), Kill(1, 9), Outage("503", None, None), Slow(1, 2.0), TrackerDown()]
    faults.check(given, plan)
    with pytest.raises(UserError, match="none is named"):
        faults.check([], plan)


def test_faults_travel_as_json() -> None:
    given = [Kill(1, 50), Outage("slow", None, 3, rate=5.0), Slow(0, 2.5), TrackerDown(1.0, 2)]
    assert faults.restore(json.loads(json.dumps(faults.document(given)))) == given


def test_the_command_refuses_before_anything_starts(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(jobs.EBM)
    given = ["chaos", str(job), "--storage", str(tmp_path / "runs"), "--kill-rank"]
    for text, said in (("1@step=3", "the run has no rank 1"), ("0@step=99", "the plan has 10 steps")):
        answer = CliRunner().invoke(app.application(), [*given, text])
        assert isinstance(answer.exception, UserError)
        assert said in str(answer.exception)
    assert not (tmp_path / "runs").exists()


def test_a_fault_is_refused_without_loading_what_trains() -> None:
    code, loaded, said = run("chaos", JOB, "--kill-rank", "2@step=3")
    assert code == 2
    assert "the run has no rank 2" in said
    assert loaded == []
