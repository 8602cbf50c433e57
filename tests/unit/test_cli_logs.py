"""`lehr logs` and `lehr status`: what a reader of storage is told of a run that is alive, or was."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import MemoryStore
from lehr import journal, logs, status
from lehr.cli import app, printing
from lehr.cli.printing import Following, Log
from lehr.errors import UserError
from lehr.journal import Journal
from lehr.store import Store, connect
from lehr.store.growing import Growing
from ranks import Ranks

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


def say(run: Store, text: str, rank: int = 0, attempt: int = 1) -> None:
    Growing(run, logs.key(rank, attempt)).append(text.encode())


def told(run: Store, word: str, attempt: int = 1, age_s: float = 0.0, **fields: object) -> None:
    document = {"status": word, "step": 3, "steps": 9, "attempt": attempt, "message": "", **fields}
    run.write(status.KEY, json.dumps(document | {"time": time.time() - age_s}).encode())


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """A run of two attempts on two workers, completed."""
    folder = connect(str(tmp_path)).below("lenet")
    for attempt in (1, 2):
        for rank in (0, 1):
            say(folder, f"attempt {attempt}\nrank {rank}\nÜbung\n", rank, attempt)
    told(folder, "completed", 2)
    return folder


# --- logs -----------------------------------------------------------------------------------------------


def test_the_newest_attempt_of_rank_0_is_printed(run: Store, tmp_path: Path, lehr: Lehr) -> None:
    said = "attempt 2\nrank 0\nÜbung\n"
    note = "== rank 0, attempt 2 (there are 1, 2) ==\n"
    assert lehr("logs", "lenet", "--storage", str(tmp_path)) == (0, said, note)
    assert lehr("logs", "lenet", "--storage", str(tmp_path), "--follow") == (0, said, note)
    assert lehr("logs", run.url) == (0, said, note)


def test_rank_attempt_and_lines_are_chosen(run: Store, lehr: Lehr) -> None:
    assert lehr("logs", run.url, "--rank", "1", "--attempt", "1")[1] == "attempt 1\nrank 1\nÜbung\n"
    assert lehr("logs", run.url, "--lines", "2")[1] == "rank 0\nÜbung\n"
    assert lehr("logs", run.url, "--lines", "0")[1] == ""
    run.append(printing.DRIVER_KEY, b"the launcher\n")
    assert lehr("logs", run.url, "--rank", "driver") == (0, "the launcher\n", "")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--rank", "7"], ["no log of rank 7", "attempt 1: ranks 0, 1; attempt 2: ranks 0, 1"]),
        (["--attempt", "3"], ["--attempt", "no log of rank 0 in attempt 3", "attempt 1: ranks 0, 1"]),
        (["--rank", "driver"], ["no launcher left a log", "attempt 1: ranks 0, 1"]),
        (["--rank", "first"], ["came 'first'", "a whole number from 0, or driver"]),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    run: Store, lehr: Lehr, arguments: list[str], parts: list[str]
) -> None:
    code, out, err = lehr("logs", run.url, *arguments)
    assert (code, out) == (2, "")
    assert all(part in err for part in parts), err


def test_a_run_that_is_not_there_is_told(run: Store, tmp_path: Path, lehr: Lehr) -> None:
    code, _, err = lehr("logs", "lenett", "--storage", str(tmp_path))
    assert (code, "did you mean lenet?" in err) == (2, True)


def test_a_run_without_logs_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no worker has left a log yet"):
        printing.choose(MemoryStore(), 0, None)


def script(*turns: Callable[[], None]) -> Callable[[float], None]:
    """A sleep during which the next thing happens; endless following fails."""
    left = list(turns)

    def sleep(_: float) -> None:
        if left:
            left.pop(0)()
        else:
            sleep.idle += 1  # type: ignore[attr-defined]
            assert sleep.idle < 20, "it follows for ever"  # type: ignore[attr-defined]

    sleep.idle = 0  # type: ignore[attr-defined]
    return sleep


def followed(place: Store, sleep: Callable[[float], None], *, pinned: bool = False) -> str:
    following = Following(place, Log(0, 1), pinned=pinned, sleep=sleep)
    texts = list(following.begin(None))
    for text in following.rest(lambda: texts.append(f"[{following.log.attempt}]")):
        texts.append(text)
    return "".join(texts)


def test_following_goes_on_through_restarts_until_the_end() -> None:
    place, half = MemoryStore(), "Ü".encode()
    text = Growing(place, logs.key(0, 1))
    text.append(b"one ")
    told(place, "running")

    def restart() -> None:
        say(place, "three ", attempt=2)
        told(place, "starting", 2)

    sleep = script(
        lambda: text.append(half[:1]),
        lambda: text.append(half[1:] + b" two "),
        lambda: told(place, "failed"),
        lambda: None,
        restart,
        lambda: told(place, "completed", 2),
        lambda: say(place, "last words", attempt=2),
    )
    assert followed(place, sleep) == "one Ü two [2]three last words"


def test_following_one_attempt_ends_with_it() -> None:
    place = MemoryStore()
    say(place, "one")
    say(place, "two", attempt=2)
    told(place, "running", 2)
    assert followed(place, script(), pinned=True) == "one"


@pytest.mark.parametrize("word", ["completed", "stopped", "diverged"])
def test_following_a_run_that_has_ended_ends(word: str) -> None:
    place = MemoryStore()
    say(place, "all")
    told(place, word)
    assert followed(place, script()) == "all"


@pytest.mark.parametrize("word", ["running", "paused", "failed"])
def test_following_a_run_that_fell_silent_or_is_not_restarted_ends(word: str) -> None:
    place = MemoryStore()
    say(place, "all")
    told(place, word, age_s=600)
    assert followed(place, script()) == "all"


def test_a_log_is_followed_as_a_process(tmp_path: Path) -> None:
    run = connect(str(tmp_path)).below("lenet")
    say(run, "one\n")
    told(run, "running")
    with subprocess.Popen(
        [sys.executable, "-m", "lehr", "logs", "lenet", "-f", "--storage", str(tmp_path)],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        say(run, "two\n")
        assert process.stdout.readline() == "two\n"
        told(run, "completed")
        assert (process.stdout.read(), process.wait()) == ("", 0)
        killer.cancel()


# --- status ---------------------------------------------------------------------------------------------


def test_status_tells_how_a_run_is(tmp_path: Path, lehr: Lehr) -> None:
    run = connect(str(tmp_path)).below("lenet")
    journal.claim_attempt(run)
    diary = Journal(run, 1)
    diary.start(0)
    Ranks(run).save(20)
    diary.metrics(25, {"train/loss": 0.5, "rate/examples_per_s": 640.0, "time/step_s": 0.2})
    diary.event("tracking", message="W&B does not answer")
    diary.close()
    run.write("tracking/wandb.json", b'{"id": "lenet-1", "project": "lehr", "entity": "team", "code": ""}')
    told(run, "paused", step=25, steps=40, waiting=2, message="503 Slow Down\nmore")
    code, out, err = lehr("status", "lenet", "--storage", str(tmp_path))
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "run lenet: paused, step 25/40"
    assert lines[1] == "attempt 1"
    assert lines[2].startswith("last heard of 0 s ago, 2")
    assert lines[3] == "rate 640 examples/s, 5 steps/s"
    assert lines[4] == "metric train/loss 0.5"
    assert lines[5].startswith("checkpoint step-00000020.a1, ")
    assert lines[5].endswith(" old, 5 steps ago")
    assert lines[6] == "waiting 2 checkpoints are made and not yet in the store"
    assert lines[7] == "storage 503 Slow Down"
    assert lines[8] == "W&B team/lehr/lenet-1; W&B does not answer"
    assert lines[9] == f"folder {run.url}"
    assert len(lines) == 10


@pytest.mark.parametrize(
    ("word", "age_s", "code"),
    [("running", 0, 0), ("running", 600, 1), ("paused", 0, 0), ("paused", 600, 1), ("completed", 10**6, 0),
     ("stopped", 10**6, 0), ("failed", 0, 1), ("diverged", 0, 1)],
)  # fmt: skip
def test_exit_codes_of_status(tmp_path: Path, lehr: Lehr, word: str, age_s: float, code: int) -> None:
    told(connect(str(tmp_path)).below("lenet"), word, age_s=age_s, message="why")
    left, out, _ = lehr("status", "lenet", "--storage", str(tmp_path))
    assert left == code
    assert out.startswith(f"run lenet: {word}")
    assert ("silent" in out) == (age_s == 600)
    assert ("failure" in out) == (word in ("failed", "diverged"))


def test_status_of_a_run_that_has_not_begun(tmp_path: Path, lehr: Lehr) -> None:
    connect(str(tmp_path)).below("lenet").write("plan.json", b'{"steps": 9}')
    code, out, _ = lehr("status", "lenet", "--storage", str(tmp_path))
    assert code == 0
    assert out.splitlines()[0] == "run lenet: planned, step 0/9"
    assert "none yet" in out


def test_both_load_nothing_heavy(run: Store) -> None:
    program = (
        "import sys; from lehr.cli import app\n"
        "try: app.main()\n"
        "except SystemExit as left: code = left.code\n"
        "heavy = {'tensorflow', 'keras', 'ray', 'wandb', 'horovod', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(code or (sorted(heavy) if heavy else 0))"
    )
    for command in ("logs", "status"):
        ended = subprocess.run(
            [sys.executable, "-c", program, command, run.url], capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
