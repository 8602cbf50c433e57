"""What a submitted job's driver prints, as it prints it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

from lehr.errors import LaunchError, letter
from lehr.launch.jobs import Job, Jobs

PAUSE_S = 2.0
PATIENCE_S = 300.0  # without any answer, after which nobody is asked any more
BEAT_S = 20.0  # an idle connection is asked this often whether it still is one


class Tail:
    """Follows one job, however often the connection breaks.

    Args:
        jobs: the cluster.
        job: the job's id.
        show: takes what the driver prints.
        say: tells the user something else.
    """

    def __init__(
        self, jobs: Jobs, job: str, *, show: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self._jobs, self._job, self._show, self._say = jobs, job, show, say
        self._shown = 0  # characters
        self._heard, self._has_complained = time.monotonic(), False

    def follow(self, *, skip: int = 0) -> Job:
        """Show what comes, but for the first characters, until the job has ended.

        Raises:
            LaunchError: the cluster has not answered for minutes, or has forgotten the job.
        """
        self._shown = skip
        while True:
            trouble = asyncio.run(self._stream())
            found = self._look(trouble)
            if found is not None and not found.alive:
                self._show(self._jobs.log(self._job)[self._shown :])
                return found
            time.sleep(PAUSE_S)

    def _look(self, trouble: str) -> Job | None:
        """The job as it is now; None when nobody tells."""
        try:
            found = self._jobs.get(self._job)
        except LaunchError as error:
            if time.monotonic() - self._heard > PATIENCE_S:
                raise
            self._complain(trouble or str(error))
            return None
        if found is None:
            came = "the cluster does not know it any more; was its head started anew?"
            raise LaunchError(letter(f"job {self._job}", came, do="submit the run again: it goes on"))
        self._heard, self._has_complained = time.monotonic(), False
        return found

    def _complain(self, reason: str) -> None:
        if not self._has_complained:
            self._say(f"the cluster does not answer, and is asked again: {' '.join(reason.split())[:200]}")
        self._has_complained = True

    async def _stream(self) -> str:
        """Show what is new while the connection lasts; why it ended, if that was not meant."""
        seen = 0
        try:
            async for text in _texts(self._jobs, self._job):
                self._show(text[max(0, self._shown - seen) :])
                seen += len(text)
                self._shown = max(self._shown, seen)
        except (LaunchError, OSError) as error:
            return str(error) or type(error).__name__
        return ""


async def _texts(jobs: Jobs, job: str) -> AsyncIterator[str]:
    import aiohttp  # takes a third of a second

    url, limit = f"{jobs.address.url}/api/jobs/{quote(job)}/logs/tail", aiohttp.ClientTimeout(sock_connect=10)
    async with aiohttp.ClientSession(headers=jobs.dashboard.headers, timeout=limit) as session:
        try:
            async with session.ws_connect(url, heartbeat=BEAT_S) as socket:
                async for message in socket:
                    if message.type != aiohttp.WSMsgType.TEXT:
                        return
                    yield str(message.data)
        except aiohttp.ClientError as error:
            raise LaunchError(str(error) or type(error).__name__) from None
