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

from lehr.launch import entry
from lehr.launch.failure import WorkerFailed

ORPHANED = 3  # exit code


def _watch() -> None:
    sys.stdin.buffer.read()
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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
