"""Ray on a host that may be taken away: told so, it finishes what can be finished, and leaves.

This agent runs `ray start` as a child. When a signal or the cloud says that the host is to end, it tells the
cluster, so that runs save and leave and nothing new comes. Ray ends when the host has no work any more, or
when the notice is over. `ray start --block` itself does as much on SIGTERM, with 30 s; but it hears of no
cloud, nor of SIGINT, nor a second signal.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import psutil

BEAT_S = 0.2
LOOK_S = 5.0  # between two questions to the cloud
TELL_S = 5.0  # that telling the cluster may take
END_S = 10.0  # that Ray may take to end
MARGIN_S = 2.0  # of a notice, kept for ending Ray
_NODE, _HEAD = re.compile(r"--node_id=(\w+)"), re.compile(r"--gcs-address=(\S+)")
# Processes of Ray's own: its agents, and those that wait for work.
_IDLE = re.compile(r"ray::(IDLE|DashboardAgent|RuntimeEnvAgent)")


class Agent:
    """One host's Ray, from its start to its end.

    Args:
        words: to give to `ray start`.
        notice_s: how long the host lives on once a signal says that it is taken away.
        say: tells whoever looks on.
        cloud: asked for its notice now and then; None: nobody is.
    """

    def __init__(
        self, words: Sequence[str], *, notice_s: float, say: Callable[[str], None],
        cloud: Callable[[], float | None] | None = None,
    ) -> None:  # fmt: skip
        self._words, self._notice_s, self._say, self._cloud = list(words), notice_s, say, cloud
        self._asked, self._now = threading.Event(), threading.Event()
        self._until = 0.0

    def run(self) -> int:
        """Start Ray and stay until it ends or the host is to leave; the exit code. In the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        ray = Path(sys.executable).with_name("ray")
        block = [] if "--block" in self._words else ["--block"]
        # In a session of its own, for a terminal's Ctrl-C is the agent's; and without Ray's own wait of 30 s
        # after SIGTERM: when the agent sends it, either no work is left or no time.
        environment = os.environ | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
        self._child = subprocess.Popen(
            [ray, "start", *self._words, *block], env=environment, start_new_session=True
        )
        threading.Thread(target=_load, daemon=True).start()
        if self._cloud is not None:
            threading.Thread(target=self._look, args=(self._cloud,), daemon=True).start()
        while self._child.poll() is None:
            if self._asked.is_set():
                self._leave()
                return 0
            reap(self._child.pid)
            time.sleep(BEAT_S)  # no wait for the event: a signal that comes within it could not set it
        self._say(f"Ray has ended by itself, with exit code {self._child.returncode}")
        return 1

    # --- who asks ---------------------------------------------------------------------------------

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            self._now.set()
        self._ask(time.time() + self._notice_s)

    def _ask(self, until: float) -> None:
        """To be gone by `until`; the first word holds."""
        if not self._asked.is_set():
            self._until = until
            self._asked.set()

    def _look(self, cloud: Callable[[], float | None]) -> None:
        has_complained = False
        while not self._asked.is_set():
            try:
                if (until := cloud()) is not None:
                    self._ask(until)
                has_complained = False
            except OSError as error:
                if not has_complained:
                    self._say(f"the cloud's metadata service does not answer ({error}); asking on")
                has_complained = True
            self._asked.wait(LOOK_S)

    # --- leaving ----------------------------------------------------------------------------------

    def _leave(self) -> None:
        left_s = max(0.0, self._until - time.time())
        self._say(f"leaving within {left_s:.0f} s: runs save and go elsewhere; once more ends Ray at once")
        # A signal must be heard and the notice kept, whether the cluster answers or not.
        telling = threading.Thread(target=self._tell, daemon=True)
        telling.start()
        telling.join(min(TELL_S, left_s))
        while time.time() < self._until - MARGIN_S and not self._now.is_set() and self._child.poll() is None:
            if not (telling.is_alive() or self.work()):
                break
            time.sleep(BEAT_S)
        if work := self.work():
            self._say(f"still at work, and ended: {', '.join(sorted(work.values()))}")
        self._end()

    def _tell(self) -> None:
        """Tell the cluster that this host leaves, so that nothing new comes and runs save."""
        found = node(self._child.pid)
        if found is None:
            self._say("Ray has not come up; nobody need be told")
            return
        head, name = found
        try:
            drain(head, name, self._until)
        except Exception as error:  # whatever Ray raises: the host goes anyway
            self._say(f"the cluster could not be told ({error}); runs will find out")

    def work(self) -> dict[int, str]:
        """Processes of jobs that run on this host's Ray, by pid."""
        return {
            pid: line
            for pid, line in _below(self._child.pid)
            if line.startswith("ray::") and not _IDLE.match(line)
        }

    def _end(self) -> None:
        below = [process for process in _tree(self._child.pid) if process.pid != self._child.pid]
        self._child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(END_S)
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._child.kill()
        self._child.wait()
        self._say("Ray has ended")


def reap(own: int) -> None:
    """Collect orphans that have ended: in a container this may be the first process, and nobody else does.

    Args:
        own: the child that somebody waits for.
    """
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid == own:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def drain(head: str, name: str, until: float) -> None:
    """Tell the cluster's head that a host is taken away at `until`, in seconds since 1970.

    Raises:
        RuntimeError: the head refuses, or cannot be reached.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    told = "the host is taken away"
    accepted, refusal = GcsClient(address=head).drain_node(name, reason, told, int(1000 * until))
    if not accepted:
        raise RuntimeError(refusal)


def node(pid: int) -> tuple[str, str] | None:
    """Address of the head, and Ray's id of this host, as Ray's processes below `pid` were told them."""
    for _, line in _below(pid):
        name, head = _NODE.search(line), _HEAD.search(line)
        if "raylet" in line and name and head:
            return head[1], name[1]
    return None


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _below(pid: int) -> list[tuple[int, str]]:
    found = []
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            found.append((process.pid, " ".join(process.cmdline())))
    return found


def _load() -> None:
    """What telling the cluster needs: loading it takes a second, which a notice may not have."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray._raylet
    import ray.core.generated.autoscaler_pb2  # noqa: F401
