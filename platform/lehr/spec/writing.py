"""Plain values as YAML for other programs' readers, Kubernetes's first.

They follow YAML 1.1, 1.2 or some of both: what one takes for text, another takes for a switch, a number or
a date. So every text that is not beyond doubt is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_BEYOND_DOUBT = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*[A-Za-z0-9_/-]")
_BREAKS = re.compile("[\r\x85\u2028\u2029]")  # lines end there, too, says one version
_SWITCHES = frozenset(("null", "true", "false", "yes", "no", "on", "off"))


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader could mistake, keeps lines apart, and knows no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        certain = _BEYOND_DOUBT.fullmatch(text) is not None and text.lower() not in _SWITCHES
        lines = "\n" in text and _BREAKS.search(text) is None
        style = "|" if lines else None if certain else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def documents(values: Sequence[Mapping[str, Any]]) -> str:
    """The documents one after the other, `---` before each."""
    return "".join(f"---\n{_one(value)}" for value in values)


def _one(value: Mapping[str, Any]) -> str:
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
