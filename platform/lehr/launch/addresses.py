"""Which address a cluster is asked at, and with which token. Nothing is connected here.

Ray's head answers at several ports: 6379 to drivers on hosts of the cluster (`lehr run --address`), 8265 to
everybody else over HTTP. Here it is the second: the dashboard, which the Jobs API is a part of.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from lehr.errors import UserError, letter

PORT = 8265
DRIVERS_PORT, CLIENTS_PORT = 6379, 10001
ONLY_DASHBOARDS, ANY = "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"  # as Ray's own commands read them, in order
ACCEPTED = f"the address of the cluster's dashboard, as http://head:{PORT}"
TOKENS = "RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Address:
    """Where a cluster's dashboard is.

    Args:
        url: without a slash at its end.
        said: where it was given: an option or a variable.
    """

    url: str
    said: str = "--address"

    @property
    def where(self) -> str:
        """As messages name it."""
        return f"{self.said} {self.url}"

    @property
    def parts(self) -> SplitResult:
        """The URL, split."""
        return urlsplit(self.url)

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine by its name alone; nobody is asked what a name stands for."""
        return _is_loopback(self.parts.hostname or "")


@dataclass(frozen=True)
class Token:
    """A token, and where it was found. Its text is never shown."""

    text: str
    found: str

    def __repr__(self) -> str:
        return f"Token(found={self.found!r})"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def choose(given: str | None, environment: Mapping[str, str] | None = None) -> Address | None:
    """The cluster that is meant: what was given, else what the environment names, else None.

    RAY_ADDRESS may be meant for drivers (`host:6379`, `auto`): then it names no dashboard, and none is meant.

    Raises:
        UserError: what was given for this very purpose is no dashboard's address.
    """
    known = os.environ if environment is None else environment
    if given:
        return parse(given)
    if text := known.get(ONLY_DASHBOARDS):
        return parse(text, said=ONLY_DASHBOARDS)
    text = known.get(ANY, "")
    return parse(text, said=ANY) if text.startswith(("http://", "https://")) else None


def require(given: str | None, environment: Mapping[str, str] | None = None) -> Address:
    """The cluster that is meant.

    Raises:
        UserError: none is named, or not by its dashboard.
    """
    found = choose(given, environment)
    if found is not None:
        return found
    known = os.environ if environment is None else environment
    if text := known.get(ANY):
        return parse(text, said=ANY)  # raises: it is none of a dashboard
    do = f"give --address URL, or set {ONLY_DASHBOARDS} or {ANY}; `lehr run` trains on this machine"
    raise UserError(letter("--address", "no cluster is named", accepted=ACCEPTED, do=do))


def parse(text: str, *, said: str = "--address") -> Address:
    """The address that a text is.

    Raises:
        UserError: it is another kind of address; the message tells which is wanted.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise _refused(said, text, _bare(text), _meant(text))
    if scheme not in ("http", "https"):
        came = "this is an address of Ray Client, which jobs are not sent to"
        raise _refused(said, text, came if scheme == "ray" else f"{scheme}:// is no dashboard", _meant(rest))
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused(said, text, str(error), "") from None
    if parts.username is not None or parts.password is not None:
        raise UserError(letter(said, "a name or password in the address", accepted=TOKENS))
    if not host or parts.query or parts.fragment:
        raise _refused(said, text, "no address of a host", "")
    if port in (DRIVERS_PORT, CLIENTS_PORT):
        what = "drivers" if port == DRIVERS_PORT else "Ray Client"
        raise _refused(said, text, f"port {port} is the one for {what}", _meant(rest))
    return Address(url, said)


def _bare(text: str) -> str:
    if text in ("auto", "local"):
        return "a cluster is asked over HTTP, and this names none"
    if text.endswith(f":{DRIVERS_PORT}"):
        return f"port {DRIVERS_PORT} is the one for drivers, which `lehr run --address` takes"
    return "a cluster is asked over HTTP, and this does not begin with http://"


def _meant(text: str) -> str:
    """The dashboard's address on the host that a text may name."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d+)?/?", text.strip())
    if found is None or text in ("auto", "local"):
        return ""
    port = found[2] if found[2] not in (None, f":{DRIVERS_PORT}", f":{CLIENTS_PORT}") else f":{PORT}"
    return f"http://{found[1]}{port}"


def _refused(said: str, text: str, came: str, meant: str) -> UserError:
    do = f"is it {meant}?" if meant else ""
    return UserError(letter(f"{said} {text}", came, accepted=ACCEPTED, do=do))


def token(environment: Mapping[str, str] | None = None, *, home: Path | None = None) -> Token | None:
    """The token that Ray itself would find here; None when there is none.

    Raises:
        UserError: a file is named and cannot be read, or what was found cannot be a token.
    """
    known = os.environ if environment is None else environment
    if text := known.get("RAY_AUTH_TOKEN", "").strip():
        return _checked(text, "RAY_AUTH_TOKEN")
    if named := known.get("RAY_AUTH_TOKEN_PATH", "").strip():
        path, found = Path(named), f"the file that RAY_AUTH_TOKEN_PATH names, {named}"
        try:
            return _checked(path.read_text().strip(), found)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise UserError(letter("RAY_AUTH_TOKEN_PATH", f"{named} cannot be read ({reason})")) from None
    try:
        text = ((home or Path.home()) / ".ray" / "auth_token").read_text().strip()
    except (OSError, UnicodeDecodeError, RuntimeError):
        return None
    return _checked(text, "~/.ray/auth_token") if text else None


def _checked(text: str, found: str) -> Token:
    if _TOKEN.fullmatch(text) is None:
        came = "it is empty, or has blanks or letters that no token has (it is not shown here)"
        raise UserError(letter(found, came, accepted="the token of the cluster, in one line"))
    return Token(text, found)


def authorised(address: Address, found: Token | None) -> dict[str, str]:
    """Headers that let a request in.

    Raises:
        UserError: the cluster is not on this machine, and there is no token for it here.
    """
    if found is not None:
        return {"Authorization": f"Bearer {found.text}"}
    if address.loopback:
        return {}
    came = (
        "this cluster is not on this machine, and there is no token for it here; without one, whoever "
        "reaches its port can run anything on it, so lehr speaks to no such cluster"
    )
    do = "start the cluster with RAY_AUTH_MODE=token and give its token here, or go through a tunnel"
    raise UserError(letter(address.where, came, accepted=TOKENS, do=do))
