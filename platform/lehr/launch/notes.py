"""What Ray Train's controller has to say to the driver: lines in a file, and the last word on a run.

The controller is a process of Ray's, whose output nobody reads; Ray places it on the driver's host, so a file
in the driver's own folder reaches the driver at once.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

PERIOD_S = 0.5


class Notes:
    """The controller's side.

    Args:
        folder: of the driver.
    """

    def __init__(self, folder: str) -> None:
        self._said, self._verdict = Path(folder, "said.txt"), Path(folder, "verdict.txt")

    def say(self, line: str) -> None:
        """Tell the driver one line; where that fails, standard error has it."""
        try:
            with self._said.open("a") as file:
                file.write(f"{line}\n")
        except OSError as error:
            print(f"lehr: {line} (not told to the driver: {error})", file=sys.stderr, flush=True)

    def end(self, letter: str) -> None:
        """Leave the reason for which the run is given up."""
        with contextlib.suppress(OSError):  # then the failure itself is all the user hears
            self._verdict.write_text(letter)

    def verdict(self) -> str:
        """Why the run was given up; "" when the controller left no word."""
        try:
            return self._verdict.read_text()
        except OSError:
            return ""

    @contextlib.contextmanager
    def heard(self, say: Callable[[str], None]) -> Iterator[None]:
        """The driver's side: hand on each line while the block lasts, and what is left at its end."""
        over = threading.Event()
        thread = threading.Thread(target=self._follow, args=(say, over), name="lehr-notes", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _follow(self, say: Callable[[str], None], over: threading.Event) -> None:
        told = 0
        while True:
            last = over.wait(PERIOD_S)
            lines = self._whole()
            for line in lines[told:]:
                say(line)
            told = len(lines)
            if last:
                return

    def _whole(self) -> list[str]:
        try:
            text = self._said.read_text(errors="replace")
        except OSError:
            return []
        return text[: text.rfind("\n") + 1].splitlines()
