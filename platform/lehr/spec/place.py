"""Places in a job file, and the problems found there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lehr.errors import SpecError, letter

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """`("model", "filters", 0)` as `model.filters.0`."""
    return ".".join(str(part) for part in path)


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be accepted. `came` never holds a secret: it is printed and logged."""

    path: Path
    came: str
    accepted: str = ""
    do: str = ""
    origin: str = ""  # "jobs/a.yaml:7" or "--set train.seed"; empty when the spec came from no file

    def letter(self) -> str:
        """The problem as a message of one to three lines."""
        where = ": ".join(part for part in (self.origin, dotted(self.path)) if part)
        return letter(where or "the job file", self.came, accepted=self.accepted, do=self.do)


def refuse(problems: Iterable[Problem]) -> None:
    """Raise one SpecError that tells all problems; do nothing when there are none."""
    letters = list(dict.fromkeys(problem.letter() for problem in problems))
    if letters:
        raise SpecError("\n".join(letters))


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` was most likely meant to be, if any is close."""
    by_folded = {_folded(name): name for name in names}
    word = _folded(word)
    holding = [name for name in by_folded if len(word) > 3 and (name.startswith(word) or name.endswith(word))]
    close = difflib.get_close_matches(word, by_folded, n=1, cutoff=0.75) or sorted(holding, key=len)
    close = close or difflib.get_close_matches(word, by_folded, n=1, cutoff=0.6 if len(word) > 3 else 0.5)
    return by_folded[close[0]] if close else None


def _folded(name: str) -> str:
    return re.sub(r"[-_ .]", "", name.lower())


def listing(names: Sequence[str]) -> str:
    """Names for an `accepted:` line."""
    return ", ".join(names)
