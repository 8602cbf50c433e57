"""What `lehr plan` is asked beyond the plan itself: a forecast, by its options."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from lehr.errors import UserError, letter

MOST = 1_000_000  # replicas that are believed to be meant


@dataclass(frozen=True)
class Asked:
    """The options, as they came; None where one did not come."""

    replicas: str | None = None
    measured: tuple[str, ...] = ()
    step_s: float | None = None
    at: int | None = None
    link_gbits: float | None = None
    latency_us: float | None = None
    per_host: int | None = None
    intra_gbits: float | None = None
    intra_latency_us: float | None = None
    parameters: int | None = None
    weak: bool = False
    storage: str = "runs"

    @property
    def wanted(self) -> bool:
        """Whether a forecast is asked for.

        Raises:
            UserError: an option of forecasts came, and the numbers of replicas did not.
        """
        stray = [each.name for each in fields(self) if each.name != "storage"
                 and getattr(self, each.name) != each.default]  # fmt: skip
        if self.replicas is None and stray:
            came = "missing: it is what the forecast is of"
            do = f"give it, as --replicas 1,8,64,512, or leave {', '.join(map(_option, stray))} out"
            raise UserError(letter("--replicas", came, do=do))
        return self.replicas is not None

    def numbers(self) -> list[int]:
        """Of replicas, each once.

        Raises:
            UserError: one is none.
        """
        words = [word.strip() for word in (self.replicas or "").split(",")]
        for word in words:
            if not (word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= MOST and len(word) < 9):
                came = f"{word!r} is no number of replicas" if word else "a number is missing"
                accepted = f"whole numbers from 1 to {MOST:,}, with commas between: 1,8,64,512"
                raise UserError(letter("--replicas", came, accepted=accepted))
        return list(dict.fromkeys(map(int, words)))

    def check(self) -> None:
        """Look whether the options go together.

        Raises:
            UserError: they do not.
        """
        for name in ("step_s", "at", "link_gbits", "per_host", "intra_gbits", "parameters"):
            _above(name, getattr(self, name))
        for name in ("latency_us", "intra_latency_us"):
            _above(name, getattr(self, name), zero=True)
        self._check_step()
        self._check_hosts()

    def _check_step(self) -> None:
        alone = [name for name in ("step_s", "at") if getattr(self, name) is not None]
        if self.measured and alone:
            came = "runs are given, too, and they tell what their steps took"
            raise UserError(letter(_option(alone[0]), came, do="leave it or --measured out"))
        if not self.measured and self.step_s is None:
            came = "a forecast needs a step that was measured"
            do = "give --measured RUN (may be repeated), or --step-s SECONDS --at REPLICAS"
            raise UserError(letter("--replicas", came, do=do))

    def _check_hosts(self) -> None:
        inner = (self.per_host, self.intra_gbits)
        if None in inner and (inner != (None, None) or self.intra_latency_us is not None):
            missing = "per_host" if self.per_host is None else "intra_gbits"
            came = "missing: replicas of one host sum first where both are known"
            do = "give --per-host N and --intra-gbits G, or none of them: then all replicas are one ring"
            raise UserError(letter(_option(missing), came, do=do))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _above(name: str, value: float | None, *, zero: bool = False) -> None:
    """Refuse what is no number above 0; or 0 itself, if that is accepted."""
    if value is None or (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        return
    accepted = "0 or a number above" if zero else "a number above 0"
    raise UserError(letter(_option(name), f"{value:g} came", accepted=accepted))
