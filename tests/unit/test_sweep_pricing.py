"""`lehr check` and `lehr plan` of a sweep: what is said of it before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

import commands
import jobs
import wandb_file
from lehr import journal
from lehr import plan as plans
from lehr import spec as specs
from lehr.plan import Plan
from lehr.spec import variants
from lehr.store import Store
from lehr.sweep import program
from lehr.sweep.records import Start
from lehr.tracking.wandb import Offline

SWEEP = f"""{jobs.EBM}
search:
  space:
    train.optimizer.learning_rate: {{log: [1.0e-5, 1.0e-3]}}
    train.optimizer.kind: {{choice: [adam, sgd]}}
    train.optimizer.momentum: {{uniform: [0.0, 0.8], step: 0.2, when: {{train.optimizer.kind: sgd}}}}
  algorithm: tpe
  scheduler: asha
  metric: train/loss
  trials: 8
  concurrent: 2
  grace: {{steps: 2}}
  budget: {{hours: 3}}
"""


def lehr(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[object, str, str]:
    """The command, with its stdout on one line: a terminal's width breaks it."""
    code, out, err = commands.lehr(arguments, capsys, monkeypatch)
    return code, " ".join(out.split()), err


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("job.yaml").write_text(SWEEP)
    return "job.yaml"


def test_check_says_that_it_is_a_sweep(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = lehr(["check", file], capsys, monkeypatch)
    assert (code, err) == (0, "")
    corners = 2 * (1 + 2) + 3  # adam; sgd with two ends of the momentum; and what lies between these
    assert out == (
        "job.yaml: good. ebm: a sweep of 8 trials over 3 keys (tpe, asha);"
        f" {corners} corners of the space looked at"
    )


def test_plan_says_what_it_costs(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = lehr(["plan", file], capsys, monkeypatch)
    assert (code, err) == (0, "")
    for words in (
        "plan of sweep ebm",
        "train.optimizer.learning_rate: log 1e-05 to 0.001",
        "train.optimizer.kind: one of adam, sgd",
        "train.optimizer.momentum: uniform 0 to 0.8 in steps of 0.2, when train.optimizer.kind is sgd",
        "8, proposed by tpe, seed 0",
        "min train/loss, reported every 1 step and at the end",
        "asha looks at 20, 60 % of a trial: one of 3 goes on",
        "2 at once at most; each takes 1 worker, 1 core",
        f"80 at most; about {round(8 * (2 + 4 / 3 + 4 / 9))} (38%) are to be expected",
        "known with --measured RUN or --step-s S; the budget is 3 h",
        "runs/ebm",
    ):
        assert words in out


def test_hours_of_a_step_that_is_said(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = lehr(["plan", file, "--step-s", "360"], capsys, monkeypatch)
    assert code == 0
    assert "about 1.5 h of training, at most 4.0 h, on 2 slots at 360 s a step (--step-s)" in out


def trained(run: Store, plan: Plan, step_s: float) -> None:
    """A run whose journal says what its steps took."""
    from lehr.launch import admission

    admission.prepare(plan, run)
    told = journal.Journal(run, journal.claim_attempt(run))
    told.start(0, replicas=plan.replicas)
    for step in range(1, 5):
        times = dict.fromkeys(("time/step_s", "time/compute_s", "time/exchange_s"), step_s)
        told.metrics(step, times | {"time/exchange_s": 0.0})
    told.close()


def test_hours_of_a_step_that_was_measured(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = jobs.plan(jobs.EBM, run_id="before")
    trained(jobs.storage(Path("runs")).below("before"), plan, 180.0)
    code, out, err = lehr(["plan", file, "--measured", "before"], capsys, monkeypatch)
    assert code == 0, err
    assert "at most 2.0 h, on 2 slots at 180 s a step (run before, 1 replica)" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replicas", "1,2"], "--replicas: the job is a sweep"),
        (["--link-gbits", "10"], "--link-gbits: the job is a sweep"),
        (["--step-s", "0"], "--step-s: 0 came"),
        (["--measured", "nothing"], "nothing"),
    ],
)
def test_options_that_do_not_go_with_a_sweep(
    options: list[str],
    said: str,
    file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = lehr(["plan", file, *options], capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert said in err


def test_a_sweep_without_its_search_is_a_job(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = lehr(["check", file, "--set", "search=null"], capsys, monkeypatch)
    assert code == 0
    assert "ebm: single, 1 replica, 10 steps" in out
    spec = specs.load(file)
    assert plans.make(variants.make(spec, {})) == plans.make(specs.load(file, ["search=null"]))


def test_wandb_hears_the_trials_name_and_group(tmp_path: Path) -> None:
    spec = specs.parse(SWEEP, sets=["tracking.wandb={project: lehr, mode: offline}"])
    sweep = program.make(spec, run_id="night")
    parameters = {"train.optimizer.learning_rate": 1e-4, "train.optimizer.kind": "adam"}
    plan = sweep.plan(Start(3, 1, "night-0003", parameters))
    run = jobs.storage(tmp_path).below(plan.run_id)
    tracker = Offline(run)
    tracker.start(plan, 1)
    tracker.close()
    (file,) = tmp_path.rglob("*.wandb")
    told = next(record.run for record in wandb_file.records(file) if record.HasField("run"))
    assert (told.run_group, told.display_name) == ("night", "learning_rate=0.0001 kind=adam")
