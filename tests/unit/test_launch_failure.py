"""What is made of the ends of workers: which one explains the others, what is told, what is tried again."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lehr import errors, logs
from lehr import store as stores
from lehr.errors import CheckpointError, LaunchError, StorageError, SyncError, UserError
from lehr.launch import failure, train
from lehr.launch.failure import Failure, WorkerFailed
from lehr.store import Store

LOST = Failure(
    "HorovodInternalError", "HorovodInternalError: [/x.cc:59] Read error: Connection reset by peer"
)
SHUT = Failure(
    "UnknownError", "UnknownError: Horovod has been shut down. This was caused by an exception on one"
)
DEFECT = Failure("ValueError", "ValueError: shapes differ")
DIED = Failure("Died", "its process was killed by signal 9")
FINAL = Failure("UserError", "data.root: nothing is there", final=True)

RAYS = (  # Ray 2.60
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.77.1.2, "
    "ID: 68af) was 1.14GB used / 23.54GB limit (0.048459)\nOOM kill reason: Memory usage 1216483328B exceeded"
)


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return stores.connect(str(tmp_path / "ebm"))


@pytest.mark.parametrize(
    ("failures", "rank"),
    [
        ([LOST, DIED], 1),
        ([SHUT, DEFECT], 1),
        ([LOST, SHUT], 0),
        ([DEFECT, FINAL], 1),
        ([DEFECT, DIED], 0),
        ([failure.left("preempted"), DIED], 1),
        ([failure.left("preempted"), FINAL], 1),
    ],
)
def test_cause_is_the_failure_that_explains_the_others(failures: list[Failure], rank: int) -> None:
    assert failure.cause(dict(enumerate(failures))) == rank


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (UserError("x"), True),
        (SyncError("x"), True),
        (CheckpointError("x"), True),
        (StorageError("x"), False),
        (ValueError("x"), False),
        (MemoryError(), False),
    ],
)
def test_what_would_come_again_is_final(error: BaseException, final: bool) -> None:
    assert failure.of(error).final is final


def test_failure_crosses_processes() -> None:
    class Odd(Exception):
        def __reduce__(self) -> str:
            raise TypeError("cannot be pickled")

    carried = pickle.loads(pickle.dumps(WorkerFailed(failure.of(Odd("a\nb")).document())))
    assert carried.failure == Failure("Odd", "Odd: a\nb", False)


@pytest.mark.parametrize("name", [n for n, e in vars(errors).items() if isinstance(e, type)])
def test_our_own_errors_come_back_as_they_were(name: str, run: Store) -> None:
    raised = failure.error({0: SHUT, 1: Failure(name, "the letter", final=True)}, run, url=run.url)
    assert (type(raised).__name__, str(raised)) == (name, "the letter")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "A worker health check failed.\nThe actor is dead because its worker process has died. Worker "
            "exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error "
            "code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer",
            "SYSTEM_ERROR, Worker unexpectedly exits with a connection error code 2. End of file.",
        ),
        (
            f"A worker health check failed.\n{RAYS}",
            "Ray killed it, for its host ran low on memory: 1.14GB used / 23.54GB limit",
        ),
        ("\n  it hangs\nmore", "it hangs"),
        ("", "Ray does not say why"),
    ],
)
def test_rays_reason_is_one_line(text: str, said: str) -> None:
    assert train.reason(text) == said


def test_defect_comes_with_the_end_of_the_newest_log(run: Store) -> None:
    run.append(logs.key(1, 1), b"old\n")
    chatter = b"I0000 00:00 port.cc:153] oneDNN custom operations are on.\n\n"
    run.append(logs.key(1, 2), chatter + b"".join(b"line %d\n" % i for i in range(40)) + chatter)
    raised = failure.error({0: LOST, 1: DEFECT}, run, url="s3://b/ebm")
    assert isinstance(raised, LaunchError)
    lines = str(raised).splitlines()
    assert lines[0] == "worker 1 failed in attempt 2: ValueError: shapes differ"
    assert lines[2:17] == [f"    line {i}" for i in range(25, 40)]
    assert lines[17] == "  log: s3://b/ebm/logs/rank-0001.a2.log"


def test_a_reason_is_told_although_storage_fails(monkeypatch: pytest.MonkeyPatch, run: Store) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("503")

    monkeypatch.setattr(logs, "newest", refuse)
    raised = failure.error({0: DEFECT}, run, url="s3://b/ebm")
    assert isinstance(raised, LaunchError)
    assert str(raised).startswith("worker 0 failed: ValueError: shapes differ\n  log: s3://b/ebm/logs\n")


def test_worker_without_a_log_is_told_nevertheless(run: Store) -> None:
    said = str(failure.error({0: DIED}, run, url=run.url))
    assert said.startswith("worker 0 failed in attempt 0: its process was killed by signal 9\n")
    assert "last lines" not in said


# --- memory ---------------------------------------------------------------------------------------

SMALL_GPU = "ResourceExhaustedError: {{OOM}} when allocating tensor on /device:GPU:0 by allocator GPU_0_bfc"


def test_gpu_that_is_too_small_would_be_so_again() -> None:
    class ResourceExhaustedError(Exception):
        """As TensorFlow's is called."""

    assert failure.of(ResourceExhaustedError("OOM when allocating by allocator GPU_0_bfc")).final
    assert not failure.of(ResourceExhaustedError("OOM when allocating by allocator cpu")).final


@pytest.mark.parametrize(
    ("each", "advice"),
    [
        (
            Failure("ResourceExhaustedError", SMALL_GPU, True, "h3"),
            "lower train.global_batch or use more work",
        ),
        (Failure(failure.MEMORY, f"its process ended: {RAYS}", host="h3"), "strategy.memory_gib_per_worker"),
        (Failure("MemoryError", "MemoryError: ", host="h3"), "strategy.memory_gib_per_worker"),
    ],
)
def test_want_of_memory_names_the_worker_its_host_and_what_to_do(
    each: Failure, advice: str, run: Store
) -> None:
    raised = str(failure.error({0: LOST, 1: each}, run, url=run.url))
    assert raised.startswith("worker 1 on host h3 ran out of memory in attempt 0: ")
    assert advice in raised.splitlines()[-1]


def test_worker_that_left_no_word_may_have_been_killed_by_the_kernel(run: Store) -> None:
    each = Failure(
        "Died", "its process ended: SYSTEM_ERROR, connection error code 2. End of file.", host="h3"
    )
    raised = str(failure.error({1: each}, run, url=run.url))
    assert raised.startswith("worker 1 on host h3 failed in attempt 0: ")
    assert "dmesg" in raised


def group(**failures: Exception) -> Any:
    """An error of Ray Train's about its workers, as `r1=...`."""
    return SimpleNamespace(worker_failures={int(name[1:]): each for name, each in failures.items()})


def test_host_of_a_worker_that_died_is_taken_from_rays_words() -> None:
    died = RuntimeError("A worker health check failed.\nWorker info: Worker(hostname='h3',\n)\nEnd of file.")
    found = train.failures_of(group(r0=died, r1=RuntimeError(f"hostname='h2',\n{RAYS}")))
    assert [(each.kind, each.host) for each in found.values()] == [("Died", "h3"), (failure.MEMORY, "h2")]


def test_spent_budget_joins_the_letter(run: Store) -> None:
    error = group(r1=WorkerFailed(DEFECT.document()))
    raised = train._explain(error, run, "recovery.max_failures: 4 failures, and 3 are allowed")
    assert isinstance(raised, LaunchError)
    assert str(raised).startswith("worker 1 failed in attempt 0: ValueError: shapes differ\n")
    assert str(raised).endswith("\nrecovery.max_failures: 4 failures, and 3 are allowed")


def test_spent_preemptions_are_the_letter(run: Store) -> None:
    error = group(r0=WorkerFailed(failure.left("preempted").document()))
    assert str(train._explain(error, run, "recovery.max_preemptions: 2")) == "recovery.max_preemptions: 2"
