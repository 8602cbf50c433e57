"""Faults as they are given on the command line: `1@step=50`, `503:30s@step=20`, `1:2x`, `down`."""

from __future__ import annotations

import re

from lehr.chaos.faults import ALWAYS, KINDS, Kill, Outage, Slow, TrackerDown
from lehr.errors import UserError, letter

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

_KILL = re.compile(r"(\d+)@step=(\d+)")
_SLOW = re.compile(r"(\d+):(\d+(?:\.\d+)?)x")
_AT = re.compile(r"(?P<what>[^@]+)(?:@step=(?P<step>\d+))?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_RATE = re.compile(r"(\d+(?:\.\d+)?)([KMG]i?|)B(?:/s)?")
_FACTOR = re.compile(r"(\d+(?:\.\d+)?)x")


def kill(text: str) -> Kill:
    """`1@step=50`.

    Raises:
        UserError: it is no such text.
    """
    match = _KILL.fullmatch(text)
    if match is None:
        raise _refused(Kill.OPTION, text, accepted="RANK@step=S, as 1@step=50")
    return Kill(int(match[1]), int(match[2]))


def slow(text: str) -> Slow:
    """`1:2x`.

    Raises:
        UserError: it is no such text, or would make nothing slower.
    """
    match = _SLOW.fullmatch(text)
    if match is None or float(match[2]) <= 1:
        raise _refused(Slow.OPTION, text, accepted="RANK:FACTORx with a factor above 1, as 1:2x")
    return Slow(int(match[1]), float(match[2]))


def outage(text: str) -> Outage:
    """`503:30s@step=20`, `slow:4x:2m@step=10`, `hang:always`.

    Raises:
        UserError: it is no such text.
    """
    match = _AT.fullmatch(text)
    words = match["what"].split(":") if match else []
    if match is None or not words or words[0] not in KINDS:
        raise _refused(Outage.OPTION, text, came="no such kind of fault", accepted=", ".join(KINDS))
    kind, given = words[0], words[1:]
    if len(given) != (2 if kind == "slow" else 1):
        form = "slow:RATE:DURATION@step=S" if kind == "slow" else f"{kind}:DURATION@step=S"
        example = (
            "slow:4x:30s@step=20 or slow:200KB/s:2m@step=20" if kind == "slow" else f"{kind}:30s@step=20"
        )
        raise _refused(Outage.OPTION, text, accepted=f"{form}, as {example}")
    rate, factor = _speed(given[0], text) if kind == "slow" else (0.0, 0.0)
    return Outage(kind, _duration(given[-1], Outage.OPTION, text), _step(match["step"]), rate, factor)


def tracker(text: str) -> TrackerDown:
    """`down`, `down:30s@step=20`.

    Raises:
        UserError: it is no such text.
    """
    match = _AT.fullmatch(text)
    word, colon, lasts = (match["what"] if match else "").partition(":")
    if match is None or word != "down" or (not colon and match["step"] is not None):
        accepted = "down (for the whole run), or down:DURATION@step=S, as down:30s@step=20"
        raise _refused(TrackerDown.OPTION, text, accepted=accepted)
    duration_s = _duration(lasts, TrackerDown.OPTION, text) if colon else None
    return TrackerDown(duration_s, _step(match["step"]))


def _step(text: str | None) -> int | None:
    return None if text is None else int(text)


def _duration(text: str, option: str, whole: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if text == ALWAYS:
        return None
    if match is None or float(match[1]) == 0:
        accepted = "a number and s, m or h, as 30s or 2m; or always"
        raise _refused(option, whole, came=f"{text!r} is no duration", accepted=accepted)
    return float(match[1]) * UNITS_S[match[2]]


def _speed(text: str, whole: str) -> tuple[float, float]:
    """Bytes a second, or a factor; the other is 0."""
    if (match := _RATE.fullmatch(text)) and float(match[1]) > 0:
        return float(match[1]) * SIZES[match[2]], 0.0
    if (match := _FACTOR.fullmatch(text)) and float(match[1]) > 1:
        return 0.0, float(match[1])
    accepted = "bytes a second, as 200KB/s or 1MiB/s, or a factor above 1, as 4x"
    raise _refused(Outage.OPTION, whole, came=f"{text!r} is no speed", accepted=accepted)


def _refused(option: str, text: str, *, accepted: str, came: str = "it cannot be read") -> UserError:
    return UserError(letter(f"{option} {text}", came, accepted=accepted, do="see `lehr chaos --help`"))
