"""A headless Chromium, driven as a person would: look at a page, type, click, take a picture.

It speaks Chromium's own DevTools protocol over aiohttp, which Ray needs anyway: no driver, no other package.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

START_S, WAIT_S, BEAT_S = 120.0, 180.0, 0.5
NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    """Chromium's program on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Refused(Exception):
    """The browser cannot do it now, as when the page has just gone."""


class Page:
    """One page of a browser that runs.

    Args:
        address: of its DevTools, as a web socket.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._numbers = itertools.count(1)
        self._session, self._socket = self._loop.run_until_complete(self._connect())

    async def _connect(self) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
        session = aiohttp.ClientSession()
        return session, await session.ws_connect(self._address, max_msg_size=0)

    def close(self) -> None:
        self._loop.run_until_complete(self._session.close())
        self._loop.close()

    def _say(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:  # events of the page come between
            answer = json.loads((await self._socket.receive(timeout=WAIT_S)).data)
            if answer.get("id") == number:
                if "error" in answer:
                    raise Refused(answer["error"]["message"])
                return dict(answer["result"])

    def go(self, url: str) -> None:
        self._say("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self._say("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    @property
    def text(self) -> str:
        """What a person can read on it; nothing while it loads."""
        try:
            return str(self.evaluate("document.body ? document.body.innerText : ''") or "")
        except Refused:
            return ""

    def wait(self, *texts: str) -> str:
        """Wait until one of the texts can be read; that one."""
        until = time.monotonic() + WAIT_S
        while not (found := [each for each in texts if each in self.text]):
            assert time.monotonic() < until, f"{texts} did not appear; the page says:\n{self.text}"
            time.sleep(BEAT_S)
        return found[0]

    def type(self, text: str, *, into: str) -> None:
        """Type into the field whose hint says `into`, over what is there."""
        field = f"document.querySelector({json.dumps(f'input[placeholder={json.dumps(into)}]')})"
        chosen = f"(e => !!e && (e.focus(), e.select(), true))({field})"
        assert self.evaluate(chosen), f"no field says {into!r}; the page says:\n{self.text}"
        self._say("Input.insertText", text=text)

    def click(self, text: str) -> None:
        """Click on the button that says so."""
        place = self.evaluate(
            "(e => { if (!e) return null; const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2] })"
            "([...document.querySelectorAll('button')]"
            f".find(b => b.textContent.trim() === {json.dumps(text)}))"
        )
        assert place, f"no button says {text!r}; the page says:\n{self.text}"
        for kind in ("mousePressed", "mouseReleased"):
            self._say(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def picture(self, file: Path) -> None:
        """A screenshot, PNG."""
        file.write_bytes(base64.b64decode(self._say("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def browse(folder: Path) -> Iterator[Page]:
    """A page of a new Chromium whose files are in `folder`; it ends with the block."""
    found = program()
    assert found is not None, "no Chromium"
    process = subprocess.Popen(
        [found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--remote-debugging-port=0", "--window-size=1600,1000",
         f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    try:
        page = Page(_page(process, folder / "DevToolsActivePort"))
        try:
            yield page
        finally:
            page.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _page(process: subprocess.Popen[bytes], file: Path) -> str:
    """Where the page that Chromium opened listens; it writes down its port."""
    until = time.monotonic() + START_S
    while not (file.exists() and (lines := file.read_text().split())):
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        assert time.monotonic() < until, "Chromium does not start"
        time.sleep(0.2)
    return asyncio.run(_first(f"http://127.0.0.1:{lines[0]}/json/list"))


async def _first(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        pages = [each for each in await answer.json() if each["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
