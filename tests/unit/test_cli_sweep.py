"""`lehr sweep`: what a user sees of sweeps, and what other commands say of them and of their trials."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import told_sweeps
from lehr import index, spec, status
from lehr import plan as plans
from lehr.cli import app, board, publishing, stored, trials
from lehr.errors import LaunchError, UserError
from lehr.launch import jobs, keeper, places, sweeps
from lehr.launch.sweeps import Live, Result, View
from lehr.plan import Plan
from lehr.store import Store
from lehr.sweep import importance, records
from lehr.sweep.program import Program
from lehr.sweep.records import History
from lehr.tracking import summary
from lehr.tracking.place import Place
from lehr.tracking.summary import Summary

RATE = "train.optimizer.learning_rate"
Lehr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lehr(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Lehr:
    """`lehr ARGUMENTS`: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lehr", *arguments])
        with pytest.raises(SystemExit) as left:
            app.main()
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A sweep's job file."""
    path = tmp_path / "finding.yaml"
    path.write_text(told_sweeps.SWEEP)
    return str(path)


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Program, Store, dict[str, Any]]]:
    """What the driver of sweeps was called with; it says that all is done, and does nothing."""
    calls: list[tuple[Program, Store, dict[str, Any]]] = []

    def run(program: Program, storage: Store, **how: Any) -> Result:
        calls.append((program, storage, how))
        return Result("completed", program.trials, program.trials, None)

    monkeypatch.setattr(sweeps, "run", run)
    return calls


def told(storage: Path, *sets: str, run_id: str | None = None, most: int | None = None) -> History:
    wanted = told_sweeps.program(*sets, run_id=run_id, storage=storage)
    place = told_sweeps.storage(storage)
    history = told_sweeps.tell(place.below(wanted.run_id), wanted, most=most)
    for trial in history.trials.values():
        for segment in trial.segments:
            _trained(place, wanted, segment)
    return history


def _trained(place: Store, wanted: Program, segment: records.Segment) -> None:
    """What the run of a segment leaves, as far as readers ask."""
    run = place.below(f"{records.folder(wanted.run_id)}/{segment.start.run}")
    run.write("plan.json", json.dumps(wanted.plan(segment.start).document()).encode())
    status.write(run, status.Status(segment.outcome or "running", segment.at, segment.steps, 1))
    run.write("logs/rank-0000.a1.log", b"said by a worker\n")


# --- the command and its file ----------------------------------------------------------------------------


def test_help_explains_the_file_and_the_commands(lehr: Lehr) -> None:
    code, out, _ = lehr("sweep", "--help")
    assert code == 0
    for words in (
        "sweep FILE",
        "sweep show RUN",
        "sweep best RUN",
        "sweep extend RUN --trials +40",
        "promote",
    ):
        assert words in out


def test_what_is_no_command_is_the_file(lehr: Lehr, file: str, driven: list[Any], tmp_path: Path) -> None:
    here = ("--local", "--storage", str(tmp_path / "runs"))
    for words in ((file, *here), (*here, file), ("start", file, *here)):
        code, out, error = lehr("sweep", *words)
        assert (code, out.splitlines()[0].split(",")[0]) == (0, "finding: completed"), error
    assert [call[0].run_id for call in driven] == ["finding"] * 3
    assert all(call[2]["local"] for call in driven)
    code, _, error = lehr("sweep", "missing.yaml")
    assert code == 2
    assert error.startswith("missing.yaml: no such file")


def test_a_word_that_is_nearly_a_command_is_no_file(lehr: Lehr) -> None:
    for words in (("shw", "finding"), ("shw",)):
        code, _, error = lehr("sweep", *words)
        assert code == 2
        assert "did you mean show?" in error


def test_options_reach_the_driver(lehr: Lehr, file: str, driven: list[Any], tmp_path: Path) -> None:
    code, _, error = lehr(
        "sweep", file, "--run", "mine", "--set", "search.trials=5", "--address", "head:6379",
        "--storage", str(tmp_path / "there"),
    )  # fmt: skip
    assert code == 0, error
    [(program, storage, how)] = driven
    assert (program.run_id, program.trials, storage.url) == ("mine", 5, str(tmp_path / "there"))
    assert (how["address"], how["local"]) == ("head:6379", False)


def test_a_job_that_is_no_sweep_is_refused(lehr: Lehr, driven: list[Any]) -> None:
    code, out, error = lehr("sweep", "jobs/ebm-digits.yaml")
    assert (code, out, driven) == (2, "", [])
    assert "there is no search: in it" in error
    assert "lehr run jobs/ebm-digits.yaml" in error


@pytest.mark.parametrize("command", [("run",), ("manifest",), ("chaos", "--kill-rank", "0@step=2")])
def test_a_sweep_is_refused_where_a_job_is_wanted(lehr: Lehr, file: str, command: tuple[str, ...]) -> None:
    code, out, error = lehr(command[0], file, *command[1:])
    assert (code, out) == (2, "")
    assert error.startswith(f"{file}: this is a sweep")
    assert f"lehr sweep {file}" in error
    assert ("--run NAME" in error) is (command[0] != "chaos"), "the sweep may be there by the job's name"
    assert lehr("check", file, "--set", "search=null")[0] == 0, "what the letter says to do does it"


def test_a_submitted_sweep_is_lehr_sweep_there() -> None:
    wanted = told_sweeps.program()
    sent = jobs.submission(wanted, spec.text(wanted.spec))
    assert (sent.run, sent.entrypoint.split()[3:6]) == ("finding", ["lehr", "sweep", "job.yaml"])
    assert spec.parse(spec.text(wanted.spec)) == wanted.spec
    plan = wanted.base()
    assert jobs.submission(plan, spec.text(plan.spec)).entrypoint.split()[4] == "run"


# --- how it ends -----------------------------------------------------------------------------------------


def test_last_words_say_the_best_and_what_to_do(
    lehr: Lehr, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = told(tmp_path, most=12)
    first = min(history.trials.values(), key=lambda trial: trial.best("min") or 9e9)
    diverged = "trial 2 diverged, and search.on_divergence is stop"
    for result, wanted, words in (
        (Result("completed", 12, 12, first), 0, ("12 of 12 trials over", "extend", f"trial {first.number}")),
        (Result("stopped", 12, 3, None, keeper.ASKED), 0, ("the same command again\n",)),
        (
            Result("stopped", 12, 3, None, "search.budget is used up"),
            1,
            ("stopped", "budget is used up", "go on", "--set search.budget.hours=N"),
        ),
        (Result("stopped", 12, 3, None, diverged), 1, (diverged, "--set search.on_divergence=worst")),
    ):
        monkeypatch.setattr(sweeps, "run", lambda *given, result=result, **how: result)
        code, out, _ = lehr("sweep", file, "--local", "--storage", str(tmp_path))
        assert code == wanted
        for word in words:
            assert word in out
    assert (tmp_path / "finding/figures/slices.png").read_bytes().startswith(b"\x89PNG")


def test_an_error_of_the_driver_is_the_commands(
    lehr: Lehr, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **how: Any) -> Result:
        raise app.LehrError("trials fail")

    monkeypatch.setattr(sweeps, "run", fail)
    code, out, error = lehr("sweep", file, "--local", "--storage", str(tmp_path))
    assert (code, out) == (1, "")
    assert error.splitlines()[-1] == "trials fail"


def test_a_sweep_whose_trials_failed_is_told_all_the_same(
    lehr: Lehr, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **how: Any) -> Result:
        raise LaunchError("1 trials failed")

    told(tmp_path)
    monkeypatch.setattr(sweeps, "run", fail)
    code, _, error = lehr("sweep", file, "--local", "--storage", str(tmp_path))
    assert (code, error.splitlines()[-1]) == (1, "1 trials failed")
    assert (tmp_path / "finding/figures/slices.png").exists()
    code, _, error = lehr("sweep", file, "--local", "--storage", str(tmp_path / "empty"))
    assert code == 1
    assert "not drawn" not in error


# --- the table while it runs -----------------------------------------------------------------------------


def view(history: History, **running: Live) -> View:
    names = {name.replace("_", "-"): live for name, live in running.items()}
    return View(history, 12, names, slots=2)


def test_running_trials_are_first_then_the_best(tmp_path: Path) -> None:
    history = told(tmp_path)
    wanted = told_sweeps.program()
    history.trials[3].last.outcome = None
    seen = board.look(wanted, view(history, finding_0003=Live(3, 4, 27, "h2")))
    first, *rest = seen.lines
    assert (first.number, first.at, first.state, first.why) == (3, "4/27", "running", "on h2")
    values = [history.trials[line.number].best("min") or 9e9 for line in rest]
    assert values == sorted(values)
    assert (seen.over, seen.wanted, seen.slots, seen.running) == (11, 12, 2, 1)
    assert seen.best.startswith("validation/contrastive_divergence 0.1")
    assert board.headline(wanted, seen).startswith("11 of 12 trials over, 1 of 2 places taken, about 0:0")


def test_each_state_is_told_once_without_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    history, wanted = told(tmp_path, "search.scheduler=none", "search.trials=30"), told_sweeps.program()
    with board.Board(wanted, told_sweeps.storage(tmp_path)) as shown:
        for seen in (History(), history, history):
            shown.watch(view(seen))
            shown.tick()
    said = capfd.readouterr().err
    assert len(re.findall(r"^  trial 7 completed at step 27/27, 0\.\d+$", said, re.MULTILINE)) == 1
    assert len(said.splitlines()) == 3 + 30, "the head, how it stands, and each trial once"
    assert re.search(r"trial \d+ diverged at step \d+/27.*: train/loss is nan", said)


def test_what_is_there_from_before_is_not_told_one_by_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    history, wanted = told(tmp_path), told_sweeps.program()
    with board.Board(wanted, told_sweeps.storage(tmp_path)) as shown:
        shown.watch(view(history))
        shown.tick()
    assert "12 of 12 trials over" in (said := capfd.readouterr().err)
    assert "completed at step" not in said


def test_what_is_there_is_not_told_after_a_wait_for_its_driver(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    history, wanted = told(tmp_path), told_sweeps.program()
    with board.Board(wanted, told_sweeps.storage(tmp_path)) as shown:
        for seen in (View(History(), 12, waiting="finding gave a sign of life 3 s ago"), view(history)):
            shown.watch(seen)
            shown.tick()
    assert "gave a sign of life" in (said := capfd.readouterr().err)
    assert "completed at step" not in said


def test_the_best_is_told_with_the_parameters_that_it_came_of(tmp_path: Path) -> None:
    wanted = told_sweeps.program(*told_sweeps.PBT, run_id="pop", storage=tmp_path)
    history = told_sweeps.worsened(RATE, 1e-4, 1e-3)
    seen = board.look(wanted, view(history))
    assert seen.best == "validation/contrastive_divergence 0.125, trial 1: learning_rate=0.0001"
    assert (seen.lines[0].best, seen.lines[0].varies[0]) == ("0.125", "0.0001")
    live = board.look(wanted, view(history, pop_0001_2=Live(1, 9, 27)))
    assert live.lines[0].varies[0] == "0.001", "what it runs with"
    words = board.last_words(wanted, "", Result("completed", 1, 1, history.trials[1]), "0:01")
    assert any("learning_rate=0.0001" in line for line in words)
    found = trials.Found(stored.Run("pop", told_sweeps.storage(tmp_path)), wanted, history)
    assert trials.cells(found, history.trials[1])[1] == "0.0001"
    assert any(line.endswith("/trials/pop-0001") for line in trials.lines(found))


def test_time_left_is_by_what_trials_took(tmp_path: Path) -> None:
    history = told(tmp_path, most=4)
    took = sum(segment.wall_s for trial in history.trials.values() for segment in trial.segments)
    assert board.left_s(history, 12, 2) == pytest.approx(took / 4 * 8 / 2)
    assert board.left_s(History(), 12, 2) is None
    assert board.left_s(history, 12, 0) is None


# --- show ------------------------------------------------------------------------------------------------


def test_show_tells_trials_best_and_reasons(lehr: Lehr, tmp_path: Path) -> None:
    history = told(tmp_path)
    code, out, error = lehr("sweep", "show", "finding", "--storage", str(tmp_path))
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert re.match(
        r"sweep finding: completed, 12 of 12 trials over \(\d+ completed, \d+ stopped\)", lines[0]
    )
    table = lines[lines.index("trials, the best first") + 1 :][:13]
    assert table[0].split()[:6] == ["trial", "learning_rate", "step_size", "steps", "filters", "step"]
    values = [history.trials[int(row.split()[0])].best("min") or 9e9 for row in table[1:]]
    assert values == sorted(values)
    assert all("goes on" in row for row in table if " stopped " in row), "why it was stopped"
    assert f"trial {table[1].split()[0]}: learning_rate=" in out
    assert "importance" in out
    assert str(tmp_path / "finding/results.jsonl") in out


def test_top_shows_the_best_alone_and_figures_go_where_asked(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    place = tmp_path / "drawn" / "here"
    code, out, _ = lehr(
        "sweep", "show", str(tmp_path / "finding"), "--top", "2", "--figures", str(place)
    )  # fmt: skip
    assert code == 0
    assert "trials, the best first (2 of 12)" in out
    assert {path.name for path in place.iterdir()} >= {"history.png", "parallel.png", "slices.png"}
    assert len([line for line in out.splitlines() if re.match(r"  \d+ ", line)]) == 2


def test_show_of_a_population_tells_who_copied_whom(lehr: Lehr, tmp_path: Path) -> None:
    history = told(tmp_path, *told_sweeps.PBT, run_id="pop")
    out = lehr("sweep", "show", "pop", "--storage", str(tmp_path))[1]
    copies = [segment for trial in history.trials.values() for segment in trial.segments[1:]]
    assert copies
    for segment in copies:
        source = segment.start.source
        assert source is not None
        assert f"trial {segment.start.trial}: copied trial {source.trial} at step {source.step}: " in out


def test_show_of_one_that_has_no_trial_yet(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path, most=0)
    code, out, _ = lehr("sweep", "show", "finding", "--storage", str(tmp_path), "--figures", str(tmp_path))
    assert code == 0
    assert "0 of 12 trials over" in out
    assert "no trial has a value yet" in out


def test_a_trial_that_ran_when_its_driver_died_does_not_run(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path, most=3)
    path = tmp_path / "finding/journal/attempt-0001.jsonl"
    lines = path.read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if '"ended"' in line)
    kept = [line for line in lines[:last] if '"verdict": "stop"' not in line or '"trial": 3' not in line]
    path.write_text("\n".join(kept) + "\n")
    out = lehr("sweep", "show", "finding", "--storage", str(tmp_path))[1]
    assert "to go on" in out
    assert "running" not in out


def test_a_run_is_no_sweep(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    for command in ("show", "best"):
        code, _, error = lehr("sweep", command, "finding-0002", "--storage", str(tmp_path))
        assert code == 2
        assert "is a run, and no sweep" in error


# --- best, promote, extend -------------------------------------------------------------------------------


def test_the_best_is_written_as_a_whole_job(lehr: Lehr, tmp_path: Path) -> None:
    history = told(tmp_path)
    first = min(history.trials.values(), key=lambda trial: trial.best("min") or 9e9)
    made = tmp_path / "jobs" / "best.yaml"
    ask = ("sweep", "best", "finding", "--storage", str(tmp_path), "--write", str(made))
    code, out, error = lehr(*ask)
    assert (code, error) == (0, "")
    assert f"trial {first.number} of finding" in out
    text = made.read_text()
    assert text.startswith("# yaml-language-server: $schema=")
    for words in (
        f"trial {first.number} of 12",
        str(tmp_path / "finding"),
        "lehr sweep best",
        first.last.start.run,
    ):
        assert words in text
    job = spec.load(str(made))
    assert (job.name, job.search) == ("finding-best", None)
    assert job.train.optimizer.learning_rate == first.parameters["train.optimizer.learning_rate"]
    assert job.sampler is not None
    assert job.sampler.steps == first.parameters["sampler.steps"]
    assert lehr("check", str(made))[0] == 0
    code, _, error = lehr(*ask)
    assert code == 2
    assert "is there already" in error
    assert lehr(*ask, "--force")[0] == 0


def test_what_a_trial_has_for_the_sweeps_sake_is_not_in_the_best_job(lehr: Lehr, tmp_path: Path) -> None:
    """A trial of a population keeps all its checkpoints for others to copy."""
    history = told(tmp_path, *told_sweeps.PBT, run_id="pop")
    wanted = told_sweeps.program(*told_sweeps.PBT, run_id="pop", storage=tmp_path)
    trial = wanted.plan(history.trials[1].last.start).spec
    assert trial.checkpoint.keep_last > wanted.spec.checkpoint.keep_last
    made = tmp_path / "best.yaml"
    code, _, err = lehr("sweep", "best", "pop", "--storage", str(tmp_path), "--write", str(made))
    assert code == 0, err
    assert spec.load(str(made)).checkpoint == wanted.spec.checkpoint


def test_the_best_of_a_population_is_the_segment_that_was_best(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path, *told_sweeps.PBT, run_id="pop")
    made = tmp_path / "best.yaml"
    code, out, _ = lehr("sweep", "best", "pop", "--storage", str(tmp_path), "--write", str(made))
    found = re.search(r"\(run (pop-\d+(?:-\d)?)\)", out)
    assert code == 0
    assert found
    run = json.loads((tmp_path / "pop/trials" / found[1] / "plan.json").read_text())
    assert plans.make(spec.load(str(made))).spec_hash == run["spec_hash"]


def test_without_a_value_there_is_no_best(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path, most=0)
    code, _, error = lehr("sweep", "best", "finding", "--storage", str(tmp_path))
    assert code == 2
    assert "has a value yet" in error


def test_promote_trains_the_best_job(lehr: Lehr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lehr.cli import run as running

    told(tmp_path)
    calls: list[tuple[Any, ...]] = []

    def train(job: Any, run_id: str | None, address: str | None, *, local: bool) -> int:
        calls.append((job, run_id, address, local))
        return 7

    monkeypatch.setattr(running, "train", train)
    here = ("finding", "--storage", str(tmp_path), "--local")
    assert lehr("sweep", "promote", *here, "--set", "train.duration={steps: 90}")[0] == 7
    assert lehr("sweep", "promote", *here, "--run", "mine", "--set", "sampler.stps=1")[0] == 2
    [(job, run_id, address, local)] = calls
    assert (job.name, run_id, address, local) == ("finding-best", None, None, True)
    assert (plans.make(job).steps, job.search, job.storage) == (90, None, str(tmp_path))


@pytest.mark.parametrize(("wanted", "trials"), [("+40", 52), ("40", 40), ("12", 12)])
def test_extend_asks_for_more(
    lehr: Lehr, tmp_path: Path, driven: list[Any], wanted: str, trials: int
) -> None:
    told(tmp_path)
    code, _, error = lehr("sweep", "extend", str(tmp_path / "finding"), "--trials", wanted, "--local")
    assert code == 0, error
    [(program, storage, how)] = driven
    assert (program.trials, program.run_id, storage.url, how["local"]) == (
        trials,
        "finding",
        str(tmp_path),
        True,
    )


def test_more_than_what_has_begun_is_more(lehr: Lehr, tmp_path: Path, driven: list[Any]) -> None:
    told(tmp_path)
    fewer = told_sweeps.program("search.trials=5", storage=tmp_path)
    (tmp_path / "finding/sweep.json").write_text(json.dumps(fewer.document()))
    assert lehr("sweep", "extend", str(tmp_path / "finding"), "--trials", "+10", "--local")[0] == 0
    assert driven[0][0].trials == 22
    assert "12 of 12 trials over" in lehr("sweep", "show", str(tmp_path / "finding"))[1]


@pytest.mark.parametrize("wanted", ["0", "+0", "-3", "many", "11", ""])
def test_a_wrong_number_of_trials_is_refused(
    lehr: Lehr, tmp_path: Path, driven: list[Any], wanted: str
) -> None:
    told(tmp_path)
    code, _, error = lehr("sweep", "extend", "finding", f"--trials={wanted}", "--storage", str(tmp_path))
    assert (code, driven) == (2, [])
    assert error.startswith("--trials: ")


def test_a_grid_has_no_more(lehr: Lehr, tmp_path: Path, driven: list[Any]) -> None:
    grid = ("search.algorithm=grid", "search.scheduler=none", "search.trials=null",
            "search.space={sampler.steps: {choice: [5, 10]}}")  # fmt: skip
    told(tmp_path, *grid, run_id="grid", most=0)
    code, _, error = lehr("sweep", "extend", "grid", "--trials", "+1", "--storage", str(tmp_path))
    assert (code, driven) == (2, [])
    assert "search.trials" in error


# --- other commands --------------------------------------------------------------------------------------


def test_runs_lists_the_sweep_and_none_of_its_trials(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    head, *rows = [
        re.split(r"  +", line) for line in lehr("runs", "--storage", str(tmp_path))[1].splitlines()
    ]
    assert [row[:3] for row in rows] == [["finding", "completed", "12/12 trials"]]
    assert head[0] == "run"
    writer = index.Writer(told_sweeps.storage(tmp_path), "finding")
    writer.tell(
        status.Status("running", 3, 12, 1, time=9e9), checkpoint=index.SWEEP, metric=("validation/loss", 0.5)
    )
    row = re.split(r"  +", lehr("runs", "--storage", str(tmp_path))[1].splitlines()[1])
    assert row[:6] == ["finding", "running", "3/12 trials", "1", "validation/loss 0.5", "-"]


def test_a_trial_is_named_by_its_own_id(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    told(tmp_path, *told_sweeps.PBT, run_id="pop")
    second = next(path.name for path in (tmp_path / "pop/trials").iterdir() if path.name.count("-") == 2)
    for run in ("finding-0002", second):
        code, out, _ = lehr("show", run, "--storage", str(tmp_path))
        assert (code, out.split(":")[0]) == (0, f"run {run}")
    assert lehr("status", "finding-0002", "--storage", str(tmp_path))[0] == 0
    assert lehr("logs", "finding-0002", "--storage", str(tmp_path))[1] == "said by a worker\n"
    code, _, error = lehr("show", "finding-0099", "--storage", str(tmp_path))
    assert code == 2
    assert "there is no run 'finding-0099'" in error


def test_show_and_status_of_a_sweep_lead_to_its_trials(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    for command in ("show", "status"):
        code, out, _ = lehr(command, "finding", "--storage", str(tmp_path))
        assert (code, out.splitlines()[0]) == (0, "sweep finding: completed, 12/12 trials over")
        assert "lehr sweep show finding" in out


@pytest.mark.parametrize("command", ["sample", "curves", "checkpoints"])
def test_what_is_of_a_run_asks_for_a_trial(lehr: Lehr, tmp_path: Path, command: str) -> None:
    told(tmp_path)
    code, out, error = lehr(command, "finding", "--storage", str(tmp_path))
    assert (code, out) == (2, "")
    assert "finding is a sweep" in error
    assert "finding-0001" in error


def test_logs_of_a_sweep_are_its_drivers(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    (tmp_path / "finding/logs").mkdir()
    (tmp_path / "finding/logs/driver.log").write_text("said by the driver\n")
    assert lehr("logs", "finding", "--storage", str(tmp_path))[:2] == (0, "said by the driver\n")


def test_stop_of_one_that_is_over_says_so(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    code, out, _ = lehr("stop", "finding", "--storage", str(tmp_path))
    assert (code, out) == (0, "run finding is over: completed, 12/12 trials over\n")


def test_a_trial_is_not_stopped_alone(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    run = tmp_path / "finding/trials/finding-0003"
    assert lehr("stop", "finding-0003", "--storage", str(tmp_path))[0] == 0, "it is over"
    status.write(told_sweeps.storage(run), status.Status("running", 3, 27, 1))
    for name in (("finding-0003", "--storage", str(tmp_path)), (str(run), "--now")):
        code, _, error = lehr("stop", *name)
        assert code == 2
        assert "lehr stop finding" in error
    assert not (run / "control").exists()


def test_show_says_how_many_trials_are_wanted_now(lehr: Lehr, tmp_path: Path) -> None:
    told(tmp_path)
    status.write(told_sweeps.storage(tmp_path / "finding"), status.Status("stopped", 12, 40, 2))
    out = lehr("show", "finding", "--storage", str(tmp_path))[1]
    assert re.search(r"^  trials +40$", out, re.MULTILINE)


def test_importances_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def count(*given: Any) -> dict[str, float]:
        calls.append(given)
        return {RATE: 1.0}

    monkeypatch.setattr(importance, "importances", count)
    told(tmp_path)
    found = trials.read(told_sweeps.storage(tmp_path / "finding"))
    list(trials.lines(found))
    assert "importance" in publishing.made(found).pictures
    assert len(calls) == 1


def test_folder_that_a_trial_chooses_is_named_wholly() -> None:
    space = "search.space={%s: {choice: [%s]}}"
    given = ["storage=/shared/runs", "data.root=/shared/data"]
    for path, choices, named in (
        ("data.root", "/whole, there", "there"),
        ("init_from", "null, {run: runs/a}", "runs/a"),
        ("init_from.run", "~/a, s3://bucket/a", "~/a"),
    ):
        job = spec.parse(told_sweeps.SWEEP, sets=[*given, space % (path, choices)])
        with pytest.raises(UserError, match=rf"search\.space\.{path}: .* may be {named}, which"):
            places.settled(job, cast(Any, None))
    whole = spec.parse(told_sweeps.SWEEP, sets=[*given, space % ("data.root", "/a, s3://bucket/a")])
    assert places.settled(whole, cast(Any, None)) == []


WANDB = {
    "project": "tracking.wandb={project: own, mode: offline}",
    "none": "tracking.wandb=null",
}


@pytest.mark.parametrize("job", WANDB)
def test_a_sweep_is_sent_where_it_is_asked_for_whatever_its_job_says(
    lehr: Lehr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    nodes: list[Any] = []

    def send(folder: Store, plan: Plan, told: Summary) -> Place:
        nodes.append(plan.spec.tracking.wandb)
        return Place("id", nodes[-1].project, nodes[-1].entity)

    monkeypatch.setattr(summary, "send", send)
    told(tmp_path, WANDB[job])
    here = ("track", "sync", "finding", "--storage", str(tmp_path))
    code, out, error = lehr(*here, "--project", "other", "--entity", "team")
    assert code == 0, error
    assert "sent to W&B team/other/id" in out
    assert (nodes[0].group, nodes[0].name) == ("finding", None)
    code, out, error = lehr(*here)
    if job == "none":
        assert code == 1
        assert "give --project NAME" in error
    else:
        assert code == 0, error
        assert nodes[-1].project == "own"


def test_reading_loads_nothing_heavy(tmp_path: Path) -> None:
    import subprocess

    told(tmp_path)
    program = f"""
import sys
from lehr.cli.app import main
sys.argv = ["lehr", "sweep", "best", "finding", "--storage", {str(tmp_path)!r}]
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
heavy = ("tensorflow", "keras", "ray", "wandb", "matplotlib", "optuna")
print([name for name in heavy if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert said.stdout.splitlines()[-1] == "[]", said.stderr
