"""Requests to the dashboard of a Ray cluster: over HTTP, bounded in time, without importing Ray.

Ray's own client for jobs has no time limits, takes its address from the environment whatever it is told, and
loads in seconds. What it sends are the requests that are made here.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
from dataclasses import dataclass
from typing import Any

from lehr.errors import LaunchError, LehrError, UserError, letter
from lehr.launch import addresses
from lehr.launch.addresses import ONLY_DASHBOARDS, TOKENS, Address

CONNECT_S = 8.0
ANSWER_S = 60.0  # a head that starts many jobs at once answers late
_DO = (
    "is the cluster up, and its dashboard reached from here (`ray start --head --dashboard-host=0.0.0.0`, "
    "or a tunnel: `ssh -L 8265:localhost:8265 HEAD`, `kubectl port-forward`)?"
)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        code: of HTTP.
        body: all of it.
    """

    code: int
    body: bytes

    @property
    def text(self) -> str:
        """The body, as text."""
        return self.body.decode("utf-8", errors="replace")


class Dashboard:
    """A cluster's dashboard. Nothing is sent until something is asked.

    Args:
        address: of it.
        answer_s: seconds that it may take to answer.

    Raises:
        UserError: the address needs a token, and there is none here.
    """

    def __init__(self, address: Address, *, answer_s: float = ANSWER_S) -> None:
        self.address = address
        self._answer_s = answer_s
        self._token = addresses.token()
        self.headers = addresses.authorised(address, self._token)

    def json(self, method: str, path: str, document: Any = None) -> Any:
        """Ask, and read the JSON of an answer that is no refusal.

        Raises:
            LehrError: no such answer came.
        """
        answer = self.ask(method, path, document)
        if answer.code != http.client.OK:
            raise self.unexpected(answer)
        return self.read(answer)

    def read(self, answer: Answer) -> Any:
        """The JSON of an answer."""
        try:
            return json.loads(answer.body)
        except ValueError:
            raise self._stranger("no JSON") from None

    def ask(self, method: str, path: str, document: Any = None, *, data: bytes | None = None) -> Answer:
        """Send one request: with a document as JSON, or with bytes.

        Raises:
            UserError: the cluster does not take the token, or asks for one.
            LaunchError: nobody answers, or somebody who is no dashboard.
        """
        headers = dict(self.headers)
        if document is not None:
            data, headers["Content-Type"] = json.dumps(document).encode(), "application/json"
        try:
            answer = self._exchange(method, self.address.parts.path + path, data, headers)
        except TimeoutError as error:
            raise self._nobody(str(error) or "no answer in time") from None
        except http.client.HTTPException as error:
            raise self._stranger(str(error).strip() or type(error).__name__) from None
        except OSError as error:
            raise self._nobody(error.strerror or str(error)) from None
        except UnicodeError:  # of a part between two dots that is empty, or too long
            raise self._nobody("no name of a host") from None
        self._refuse(answer)
        return answer

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        parts = self.address.parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_S)
        try:
            connection.connect()
            if isinstance(connection.sock, socket.socket):
                connection.sock.settimeout(self._answer_s)
            # A file is sent in pieces, each with its own limit of time; bytes would have one for all of them.
            body = io.BytesIO(data) if data is not None else None
            sized = headers | ({"Content-Length": str(len(data))} if data is not None else {})
            connection.request(method, path, body=body, headers=sized)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def _refuse(self, answer: Answer) -> None:
        where = self.address.where
        if answer.code == http.client.UNAUTHORIZED:
            raise UserError(
                letter(where, "the cluster asks for a token, and none was found here", accepted=TOKENS)
            )
        if answer.code == http.client.FORBIDDEN:
            came = "the cluster does not take the token"
            came += f" of {self._token.found}" if self._token else ", and none was sent"
            raise UserError(letter(where, came, do="give the token that the cluster was started with"))
        if 300 <= answer.code < 400:
            raise self._stranger(f"it sends elsewhere, HTTP {answer.code}")

    def unexpected(self, answer: Answer) -> LehrError:
        """What to raise for an answer that was not foreseen."""
        lines = [line.strip() for line in answer.text.strip().splitlines() if line.strip()]
        said = lines[-1][:300] if lines else "no word"
        if answer.code == http.client.NOT_FOUND:
            return self._stranger(f"HTTP 404: {said}")
        came = f"the cluster could not do it (HTTP {answer.code}: {said})"
        return LaunchError(letter(self.address.where, came, do="try again; its dashboard's logs tell more"))

    def _nobody(self, reason: str) -> LaunchError:
        return LaunchError(letter(self.address.where, f"nobody answers there ({reason})", do=_DO))

    def _stranger(self, reason: str) -> LaunchError:
        came = f"what answers there is no dashboard of Ray ({reason[:200]})"
        do = f"give --address URL, or set {ONLY_DASHBOARDS}"
        return LaunchError(letter(self.address.where, came, accepted=addresses.ACCEPTED, do=do))
