"""`lehr runs`, `lehr show`, `lehr checkpoints`: what a reader of storage is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lehr import journal, plan, spec, status
from lehr.cli import app, columns
from lehr.journal import Journal
from lehr.store import Store, connect
from ranks import Ranks

JOB = """
version: 1
name: lenet
model: {kind: lenet}
data: {kind: digits, image_size: 28}
train: {global_batch: 128, duration: {steps: 40}, optimizer: {kind: adam, learning_rate: 1.0e-3}}
strategy: {kind: horovod, workers: 2}
"""
Lehr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lehr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lehr:
    """`lehr ARGUMENTS`: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lehr", *arguments])
        with pytest.raises(SystemExit) as left:
            app.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return call


def planned(storage: Path, name: str = "lenet") -> Store:
    """A run as the launcher leaves it before it starts."""
    run = connect(str(storage)).below(name)
    made = plan.make(spec.parse(JOB), run_id=name)
    run.write("spec.yaml", spec.text(made.spec).encode())
    run.write("plan.json", json.dumps(made.document()).encode())
    return run


def trained(storage: Path, name: str = "lenet") -> Store:
    """A run of two attempts: one failed at step 15, the other completed."""
    run = planned(storage, name)
    for attempt, begin, end, outcome in ((1, 0, 15, "failed"), (2, 10, 40, "completed")):
        assert journal.claim_attempt(run) == attempt
        diary = Journal(run, attempt)
        diary.start(begin, workers=2)
        for step in range(begin + 1, end + 1):
            diary.metrics(step, {"train/loss": 1.0 / step, "rate/examples_per_s": 100.0})
        ranks = Ranks(run, attempt=attempt)
        for step in range(begin + 10, end + 1, 10):
            ranks.save(step)
            diary.event("checkpoint", **ranks.told("checkpoint")[-1])
        diary.event("failed" if outcome == "failed" else "validated", end, message="peer gone\nsecond line")
        diary.end(end, outcome)
        diary.close()
    status.write(run, status.Status(status="completed", step=40, steps=40, attempt=2))
    run.write("samples/step-00000040/grid.png", b"")
    run.write("samples/step-00000040/meta.json", b"")
    return run


# --- runs ----------------------------------------------------------------------------------------------


def test_runs_lists_every_run_in_a_line(tmp_path: Path, lehr: Lehr) -> None:
    trained(tmp_path)
    planned(tmp_path, "waiting")
    status.write(
        connect(str(tmp_path)).below("alive"), status.Status(status="running", step=3, steps=9, attempt=1)
    )
    (tmp_path / "not a run").mkdir()
    (tmp_path / "file").write_text("")
    code, out, _ = lehr("runs", "--storage", str(tmp_path))
    head, *rows = [line.split("  ") for line in out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert code == 0
    assert [cell.strip() for cell in head if cell.strip()][:2] == ["run", "status"]
    assert cells[0] == ["alive", "running", "3/9", "0", "-", "-", "0 s ago"]
    assert cells[1][:6] == ["lenet", "completed", "40/40", "2", "train/loss 0.025", "step-00000040.a2"]
    assert cells[2] == ["waiting", "planned", "0/40", "0", "-", "-", "-"]


def test_runs_says_when_there_are_none(tmp_path: Path, lehr: Lehr) -> None:
    assert lehr("runs", "--storage", str(tmp_path / "none")) == (0, f"no runs in {tmp_path}/none\n", "")
    assert not (tmp_path / "none").exists()


def test_storage_comes_from_the_environment(
    tmp_path: Path, lehr: Lehr, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(tmp_path, "mine")
    monkeypatch.setenv("LEHR_STORAGE", str(tmp_path))
    assert "mine" in lehr("runs")[1]
    assert lehr("show", "mine")[0] == 0


def test_a_run_that_died_is_said_to_be_silent(tmp_path: Path, lehr: Lehr) -> None:
    run = planned(tmp_path)
    status.write(run, status.Status(status="running", step=3, steps=9, attempt=1))
    document = json.loads(run.read(status.KEY))
    run.write(status.KEY, json.dumps(document | {"time": document["time"] - 600}).encode())
    assert "running, silent for 10 min" in lehr("runs", "--storage", str(tmp_path))[1]


def test_what_cannot_be_read_does_not_hide_the_others(tmp_path: Path, lehr: Lehr) -> None:
    trained(tmp_path)
    broken = connect(str(tmp_path)).below("broken")
    broken.write("plan.json", b"{")
    broken.write("status.json", b"{")
    broken.write("journal/attempt-0001.jsonl", b"{")
    code, out, _ = lehr("runs", "--storage", str(tmp_path))
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["run", "broken", "lenet"]
    assert lehr("show", "broken", "--storage", str(tmp_path))[0] == 0


# --- show ----------------------------------------------------------------------------------------------


def test_show_tells_all(tmp_path: Path, lehr: Lehr) -> None:
    run = trained(tmp_path)
    code, out, _ = lehr("show", "lenet", "--storage", str(tmp_path))
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "run lenet: completed, step 40/40"
    assert str(tmp_path / "lenet") in lines
    for line in ("model lenet", "strategy horovod", "workers 2 x 1 devices", "batch 128", "train/loss 0.025"):
        assert line in lines
    assert any(line.startswith("1 2 0 15 ") and line.endswith(" failed") for line in lines)
    assert any(line.startswith("2 2 10 40 ") and line.endswith(" completed") for line in lines)
    assert any("a1 step 15 failed message peer gone" in line for line in lines)
    assert "second line" not in out
    assert any(line.startswith("step-00000040.a2 40 2 ") and line.endswith("complete") for line in lines)
    assert f"{run.url}/samples/step-00000040/grid.png" in lines
    assert "meta.json" not in out


def test_show_says_why_it_failed(tmp_path: Path, lehr: Lehr) -> None:
    run = planned(tmp_path)
    status.write(
        run, status.Status(status="failed", step=3, steps=9, attempt=1, message="no space\n  do: make some")
    )
    out = lehr("show", "lenet", "--storage", str(tmp_path))[1]
    assert "no space\n    do: make some\n" in out


def test_a_run_may_be_named_by_its_folder(
    tmp_path: Path, lehr: Lehr, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    for name in (
        "lenet",
        "runs/lenet",
        "./runs/lenet/",
        str(tmp_path / "runs/lenet"),
        f"file://{tmp_path}/runs/lenet",
    ):
        code, out, _ = lehr("show", name)
        assert (code, out.splitlines()[0]) == (0, "run lenet: planned, step 0/40")


def test_a_name_that_is_nearly_right_is_helped(tmp_path: Path, lehr: Lehr) -> None:
    planned(tmp_path, "ebm-digits")
    planned(tmp_path, "lenet")
    for command in ("show", "checkpoints"):
        code, out, error = lehr(command, "ebm-digts", "--storage", str(tmp_path))
        assert (code, out) == (2, "")
        assert (
            error.splitlines()[0]
            == f"RUN: there is no run 'ebm-digts' in {tmp_path}; did you mean ebm-digits?"
        )
        assert "  accepted: ebm-digits, lenet" in error
        assert "--storage URL" in error


def test_an_empty_storage_is_said_to_be_empty(tmp_path: Path, lehr: Lehr) -> None:
    code, _, error = lehr("show", "lenet", "--storage", str(tmp_path))
    assert code == 2
    assert "there are no runs in it" in error


def test_a_folder_that_is_no_run_is_told(tmp_path: Path, lehr: Lehr) -> None:
    code, _, error = lehr("show", f"{tmp_path}/nothing")
    assert code == 2
    assert error.startswith(f"RUN: there is no run at {tmp_path}/nothing\n  do: list those")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_what_can_be_no_name_is_no_run(tmp_path: Path, lehr: Lehr, name: str) -> None:
    assert lehr("show", name, "--storage", str(tmp_path))[0] == 2


# --- checkpoints ---------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_keeps_no_run_from_the_list(
    tmp_path: Path, lehr: Lehr, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 32)
    monkeypatch.setattr("lehr.launch.jobs.RETRY_S", 0.01)
    code, out, error = lehr("list", "--storage", str(tmp_path), "--address", "http://127.0.0.1:1")
    assert (code, out.splitlines()[1].split()[:2]) == (1, ["lenet", "completed"])
    assert "nobody answers there" in error
    assert error.endswith(f"the runs above are those of {tmp_path} alone\n")
    code, out, _ = lehr("list", "--storage", str(tmp_path / "none"), "--address", "http://127.0.0.1:1")
    assert (code, out) == (1, f"no runs in {tmp_path}/none\n")


def test_checkpoints_are_listed_newest_first(tmp_path: Path, lehr: Lehr) -> None:
    trained(tmp_path)
    code, out, _ = lehr("checkpoints", "lenet", "--storage", str(tmp_path))
    rows = [line.split() for line in out.splitlines()[1:]]
    assert code == 0
    assert [row[0] for row in rows] == ["step-00000040.a2", "step-00000030.a2"]
    assert rows[0][1:3] == ["40", "2"]
    assert rows[0][5:] == ["2", "train/loss", "0.025", "complete"]


def test_verify_reads_every_byte(tmp_path: Path, lehr: Lehr) -> None:
    run = trained(tmp_path)
    ask = ("checkpoints", "lenet", "--storage", str(tmp_path), "--verify")
    code, out, _ = lehr(*ask)
    assert (code, [line.split()[-1] for line in out.splitlines()[1:]]) == (0, ["verified", "verified"])
    part = run.local_path("checkpoints/step-00000030.a2/weights.safetensors")
    assert part is not None
    data = part.read_bytes()
    part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert lehr(*ask[:-1])[0] == 0
    code, out, _ = lehr(*ask)
    assert code == 1
    assert out.splitlines()[1].endswith("verified")
    assert out.splitlines()[2].endswith(
        "bad: weights.safetensors is not what was written: its SHA-256 differs"
    )


def test_one_without_a_manifest_is_incomplete_and_not_bad(tmp_path: Path, lehr: Lehr) -> None:
    run = trained(tmp_path)
    run.delete("checkpoints/step-00000040.a2/manifest.json")
    code, out, _ = lehr("checkpoints", "lenet", "--storage", str(tmp_path), "--verify")
    assert code == 0
    assert "incomplete: no manifest.json" in out.splitlines()[1]


def test_a_manifest_that_cannot_be_read_is_bad(tmp_path: Path, lehr: Lehr) -> None:
    run = trained(tmp_path)
    run.write("checkpoints/step-00000040.a2/manifest.json", b"{")
    code, out, _ = lehr("checkpoints", "lenet", "--storage", str(tmp_path))
    assert code == 1
    assert "bad: manifest.json cannot be read" in out.splitlines()[1]


def test_a_run_may_have_none_yet(tmp_path: Path, lehr: Lehr) -> None:
    run = planned(tmp_path)
    assert lehr("checkpoints", "lenet", "--storage", str(tmp_path)) == (
        0, f"no checkpoints in {run.url}/checkpoints\n", "",
    )  # fmt: skip


# --- what they cost and how they look -------------------------------------------------------------------


def test_storage_is_read_without_anything_heavy(tmp_path: Path) -> None:
    trained(tmp_path)
    program = (
        "import sys; from lehr.cli import app\n"
        "try: app.main()\n"
        "except SystemExit as left: code = left.code\n"
        "heavy = {'tensorflow', 'keras', 'ray', 'wandb', 'horovod', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(code or (sorted(heavy) if heavy else 0))"
    )
    for command in (["runs"], ["show", "lenet"], ["checkpoints", "lenet", "--verify"]):
        ended = subprocess.run(
            [sys.executable, "-c", program, *command, "--storage", str(tmp_path)],
            capture_output=True,
            text=True,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-5, "0 s"), (59, "59 s"), (600, "10 min"), (9000, "2.5 h"), (200000, "2.3 d")],
)
def test_durations_are_said_shortly(seconds: float, text: str) -> None:
    assert columns.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234567891, "0.123457"),
        (12345.0, "12,345"),
        (float("nan"), "nan"),
        (-float("inf"), "-inf"),
        (0.0, "0"),
    ],
)
def test_numbers_are_said_shortly(value: float, text: str) -> None:
    assert columns.number(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3 GiB")]
)
def test_sizes_are_said_shortly(count: int, text: str) -> None:
    assert columns.size(count) == text
