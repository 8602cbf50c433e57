"""A folder of this machine that all processes of a disturbed run share, whichever attempt they belong to.

faults.json          what is to happen
struck-0003.json     fault 3 has struck: when, at which step, on which rank; made by one process only
calls-<pid>.jsonl    what a process suffered of faults, a line each
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lehr.chaos.faults import Fault, document, restore

VARIABLE = "LEHR_CHAOS"  # names the folder to the workers


@dataclass(frozen=True)
class Struck:
    """When a fault struck.

    Args:
        time: seconds since 1970.
        step: updates that were done; None for before training.
        rank: of the process in which it was noticed first.
        attempt: that this process worked on.
    """

    time: float
    step: int | None
    rank: int
    attempt: int


class Board:
    """What the processes tell each other of the faults.

    Args:
        folder: the shared folder, with the faults in it.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder, self.clock = folder, clock
        self.faults = restore(json.loads((folder / "faults.json").read_text()))
        self._known: dict[int, Struck] = {}
        self._lock = threading.Lock()

    @classmethod
    def make(cls, folder: Path, faults: Sequence[Fault]) -> Board:
        """The board of a run that is about to begin."""
        folder.mkdir()
        (folder / "faults.json").write_text(json.dumps(document(faults)))
        return cls(folder)

    def strike(self, index: int, *, step: int | None, rank: int, attempt: int) -> bool:
        """Say that fault `index` strikes now; False when it has struck before, in whatever process."""
        text = json.dumps(asdict(Struck(self.clock(), step, rank, attempt)))
        with self._lock:
            partial = self.folder / f"partial-{os.getpid()}"
            partial.write_text(text)
            try:
                os.link(partial, self._file(index))
            except FileExistsError:
                return False
            finally:
                partial.unlink()
        return True

    def struck(self, index: int) -> Struck | None:
        """When fault `index` struck; None as long as it has not."""
        if index not in self._known:
            with contextlib.suppress(FileNotFoundError):
                self._known[index] = Struck(**json.loads(self._file(index).read_text()))
        return self._known.get(index)

    def left_s(self, index: int, duration_s: float | None) -> float:
        """For how long fault `index` still lasts; 0 when it is over or has not begun."""
        struck = self.struck(index)
        if struck is None:
            return 0.0
        if duration_s is None:
            return float("inf")
        return max(0.0, struck.time + duration_s - self.clock())

    def note(self, index: int, **fields: Any) -> None:
        """Keep what fault `index` did to this process."""
        line = json.dumps({"fault": index, "time": self.clock(), **fields})
        with self._lock, (self.folder / f"calls-{os.getpid()}.jsonl").open("a") as file:
            file.write(line + "\n")

    def notes(self, index: int) -> list[dict[str, Any]]:
        """What all processes noted of fault `index`, in order of time. A line torn by a kill is left out."""
        found = []
        for file in self.folder.glob("calls-*.jsonl"):
            for line in file.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return sorted((each for each in found if each["fault"] == index), key=lambda each: each["time"])

    def _file(self, index: int) -> Path:
        return self.folder / f"struck-{index:04d}.json"
