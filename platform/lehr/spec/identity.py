"""What makes two specs the same training: the keys that change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lehr.spec.job import Spec
from lehr.spec.place import Path, dotted

CHANGE_THE_RESULT = ("version", "model", "data", "objective", "sampler", "train", "init_from")
# Under them, what does not: where data lies, how stores are reached, how long to go on, how it is compiled.
OPERATIONAL: tuple[Path, ...] = (
    ("data", "root"),
    ("data", "storage_options"),
    ("init_from", "storage_options"),
    ("train", "duration"),
    ("train", "compile"),
)

# Keys that came after there were runs, and the value at which training is what it was before them.
ADDED: Mapping[Path, Any] = {
    ("data", "levels"): None,
    ("sampler", "noise_end"): None,
    ("sampler", "acceptance"): False,
    ("train", "average"): None,
}


def essence(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec's document that changes the result, as dotted path and value of each leaf."""
    leaves: dict[str, Any] = {}
    for key in CHANGE_THE_RESULT:
        _collect(document.get(key), (key,), leaves)
    return leaves


def _collect(value: Any, path: Path, leaves: dict[str, Any]) -> None:
    if path in OPERATIONAL or (path in ADDED and value == ADDED[path]):
        return
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            _collect(inner, (*path, key), leaves)
    else:
        leaves[dotted(path)] = value


def spec_hash(spec: Spec) -> str:
    """SHA-256, in hexadecimal, over the keys that change the result. A run's checkpoints carry it."""
    text = json.dumps(essence(spec.document()), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changes the result and differs between two documents: lines `train.seed: 0 -> 1`."""
    before, after = essence(old), essence(new)
    paths = [path for path in {**before, **after} if _text(before, path) != _text(after, path)]
    told = [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]
    return [f"{path}: {_text(before, path)} -> {_text(after, path)}" for path in told]


def _text(leaves: Mapping[str, Any], path: str) -> str:
    return json.dumps(leaves[path]) if path in leaves else "absent"
