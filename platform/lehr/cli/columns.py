"""Rows as aligned text, and numbers as people say them. Plain, so that it can be piped into grep."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def aligned(rows: Sequence[Sequence[str]], *, indent: str = "") -> list[str]:
    """One line a row, columns as wide as their widest cell, two blanks between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [indent + line.rstrip() for line in lines]


def size(count: int) -> str:
    """Bytes: 1.4 MiB."""
    number, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number, units = number / 1024, units[1:]
    return f"{number:.4g} {units[0]}"


def duration(seconds: float) -> str:
    """Seconds: 42 s, 12 min, 3.5 h, 2.1 d."""
    for unit_s, unit in _AGES:
        if seconds >= 1.5 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}" if unit == "min" else f"{seconds / unit_s:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def moment(seconds: float) -> str:
    """Seconds since 1970 as local time: 2026-11-20 14:03:59."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def number(value: float) -> str:
    """A metric's value, in six digits at most."""
    if not math.isfinite(value):
        return str(float(value))
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"
