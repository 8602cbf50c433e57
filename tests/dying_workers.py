"""A worker that is killed, or frozen, at a named change to its store: `dying_workers:main` to `local.spawn`.

The environment variable DEATHS holds a JSON list of deaths, at most one for each attempt.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lehr.plan import Plan
from lehr.store import Store
from lehr.worker.outcome import Outcome

VARIABLE = "LEHR_TEST_DEATHS"


@dataclass(frozen=True)
class Death:
    """When somebody dies.

    Args:
        attempt: in which life of the run.
        rank: the worker that makes the change.
        match: of "verb key", as in "create checkpoints/step-00000010.a1/manifest.json".
        nth: of the changes that match, from 1.
        after: whether the change is made first.
        whom: "self", or "parent": the launcher of this worker.
        signal: "SIGKILL", or "SIGSTOP": then it goes on where it was when somebody wakes it.
    """

    attempt: int
    rank: int
    match: str
    nth: int = 1
    after: bool = False
    whom: str = "self"
    signal: str = "SIGKILL"


def environment(deaths: list[Death]) -> dict[str, str]:
    return {VARIABLE: json.dumps([asdict(death) for death in deaths])}


def main(plan: Plan, *, storage: Store) -> Outcome:
    from lehr import worker
    from lehr.launch import entry

    deaths = [Death(**death) for death in json.loads(os.environ[VARIABLE])]
    here = (int(os.environ[entry.ATTEMPT]), entry.rank())
    mine = [death for death in deaths if (death.attempt, death.rank) == here]
    return worker.main(plan, storage=Dying(storage, Count(mine[0]) if mine else None))


class Count:
    """Counts the changes that match, and kills."""

    def __init__(self, death: Death) -> None:
        self._death, self._seen, self._lock = death, 0, threading.Lock()

    def around(self, what: str, change: Callable[[], Any]) -> Any:
        with self._lock:
            self._seen += bool(re.search(self._death.match, what))
            due = self._seen == self._death.nth and re.search(self._death.match, what)
        if due and not self._death.after:
            self._kill(what)
        answer = change()
        if due and self._death.after:
            self._kill(what)
        return answer

    def _kill(self, what: str) -> None:
        print(f"dies at: {what}", flush=True)
        whom = os.getpid() if self._death.whom == "self" else os.getppid()
        os.kill(whom, getattr(signal, self._death.signal))
        if self._death.whom == "parent":
            time.sleep(60)  # until the launcher's end is noticed


class Dying:
    """A store whose changes are counted."""

    def __init__(self, store: Store, count: Count | None, prefix: str = "") -> None:
        self._store, self._count, self._prefix = store, count, prefix
        self.url = store.url

    def _change(self, verb: str, key: str, change: Callable[[], Any]) -> Any:
        what = f"{verb} {self._prefix}{key}"
        return change() if self._count is None else self._count.around(what, change)

    def write(self, key: str, data: bytes) -> None:
        self._change("write", key, lambda: self._store.write(key, data))

    def put(self, key: str, file: Path) -> None:
        self._change("put", key, lambda: self._store.put(key, file))

    def create(self, key: str, data: bytes) -> bool:
        return bool(self._change("create", key, lambda: self._store.create(key, data)))

    def append(self, key: str, data: bytes) -> None:
        self._change("append", key, lambda: self._store.append(key, data))

    def delete(self, key: str) -> None:
        self._change("delete", key, lambda: self._store.delete(key))

    def below(self, prefix: str) -> Store:
        return Dying(self._store.below(prefix), self._count, f"{self._prefix}{prefix.strip('/')}/")

    def __getattr__(self, name: str) -> Any:  # what reads
        return getattr(self._store, name)
