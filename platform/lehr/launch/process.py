"""`python -m lehr.launch.process JOB.json RESULT.json`: one worker as a process of its own, without Ray.

It reads the job document, and writes {"outcome": ...} or {"failure": ...}. It ends when its standard input
closes: that is when its launcher has gone, in whatever way.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from lehr.launch import entry
from lehr.launch.failure import WorkerFailed

ORPHANED = 3  # exit code
LEAVE_S = 15.0  # that the interpreter may take to end when all is said


def _watch() -> None:
    # Not through sys.stdin: a thread that waits in there at the end makes the interpreter abort.
    while os.read(0, 4096):
        continue
    os._exit(ORPHANED)


def main(job: Path, result: Path) -> int:
    """Run the worker; 0 when it has an outcome."""
    threading.Thread(target=_watch, name="lehr-orphan", daemon=True).start()
    try:
        answer = {"outcome": entry.run(json.loads(job.read_text()))}
    except WorkerFailed as error:
        answer = {"failure": error.failure.document()}
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(answer))
    partial.rename(result)
    return 0 if "outcome" in answer else 1


def leave(code: int) -> NoReturn:
    """End the process, at last by force: Python waits for threads, and they may wait for a store."""
    last = threading.Timer(LEAVE_S, os._exit, [code])
    last.daemon = True
    last.start()
    sys.exit(code)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]), Path(sys.argv[2])))
