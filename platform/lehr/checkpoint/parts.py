"""Named arrays to bytes and back, and a run's state cut into files.

The format is safetensors (https://huggingface.co/docs/safetensors): a JSON header and raw little-endian
numbers, so that what is read is what was written to the bit, NaN payloads included, and nothing in it can be
executed.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save, save_file

Arrays = dict[str, np.ndarray]

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F32": np.float32, "F64": np.float64, "C64": np.complex64,
}  # fmt: skip
_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
_HEADER = "__metadata__"  # a name that safetensors keeps for itself


@dataclass(frozen=True)
class State:
    """Everything that a step changes, on one worker, copied to the host.

    Args:
        weights: model variables by name; the same on every worker, so only rank 0 needs to give them.
        optimizer: optimizer slots by name; likewise.
        chains: arrays by name, their first axis the worker's slots.
        first_slot: global number of the worker's first slot.
        slots: how many slots the worker owns; 0 where there are no chains.
        progress: finite JSON values: what else a resumed run must know.
    """

    weights: Arrays
    optimizer: Arrays
    chains: Arrays
    first_slot: int
    slots: int
    progress: dict[str, Any] = field(default_factory=dict)


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name, of any shape and of a type that safetensors has, as one safetensors file.

    Raises:
        TypeError: an array's type has no place in the format.
        ValueError: an array has the one name that the format keeps for itself.
    """
    return save(_storable(arrays))


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, str]:
    """As `encode`, into a local file; its size and SHA-256. Python's other threads go on meanwhile.

    Raises:
        OSError: the disk does not take it.
        TypeError, ValueError: as `encode`.
    """
    storable = _storable(arrays)
    try:
        save_file(storable, path)
    except safetensors.SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        raise OSError(int(found[1]) if found else errno.EIO, str(error)) from error
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _storable(arrays: Mapping[str, np.ndarray]) -> Arrays:
    if _HEADER in arrays:
        raise ValueError(f"an array cannot be called {_HEADER}")
    return {name: _dense(name, array) for name, array in arrays.items()}


def _dense(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.newbyteorder("=") not in [np.dtype(known) for known in _DTYPES.values()]:
        raise TypeError(f"array {name!r} is of {array.dtype}, which cannot be stored")
    return np.asarray(array, order="C")  # ascontiguousarray would give a scalar an axis


def decode(data: bytes) -> Arrays:
    """What `encode` was given. The arrays own their memory and can be written to.

    Raises:
        ValueError: these bytes are no safetensors file.
    """
    try:
        tensors = _deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"no safetensors file: {error}") from None
    return {name: _array(tensor) for name, tensor in tensors}


def _array(tensor: Mapping[str, Any]) -> np.ndarray:
    if tensor["dtype"] not in _DTYPES:
        raise ValueError(f"arrays of type {tensor['dtype']} cannot be read")
    return np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])


def files(state: State, *, rank: int, workers: int) -> dict[str, Arrays]:
    """What a rank writes: arrays by file name. Weights and optimizer are rank 0's; no chains, no file."""
    found = {}
    if rank == 0:
        found = {"weights.safetensors": state.weights, "optimizer.safetensors": state.optimizer}
    if state.chains:
        odd = [name for name, array in state.chains.items() if array.shape[:1] != (state.slots,)]
        if odd:
            raise ValueError(f"chains {odd[0]!r} do not have the worker's {state.slots} slots as first axis")
        found[f"chains-{rank:04d}-of-{workers:04d}.safetensors"] = state.chains
    return found


def sha256(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Span:
    """Chains of the slots [first, first + count)."""

    first: int
    count: int


def overlap(span: Span, wanted: Span) -> Span:
    """The slots in both; with a count of 0 when there are none."""
    first = max(span.first, wanted.first)
    end = min(span.first + span.count, wanted.first + wanted.count)
    return Span(first, max(0, end - first))


def gaps(spans: Iterable[Span], wanted: Span) -> list[Span]:
    """The slots of `wanted` that none of `spans` holds, as spans in order."""
    missing, at, end = [], wanted.first, wanted.first + wanted.count
    for span in sorted(spans, key=lambda s: s.first):
        if span.first > at:
            missing.append(overlap(Span(at, span.first - at), wanted))
        at = max(at, span.first + span.count)
    missing.append(Span(at, max(0, end - at)))
    return [span for span in missing if span.count]


def reshard(parts: Iterable[tuple[Span, Arrays]], wanted: Span) -> Arrays:
    """The chains of `wanted`, put together from parts that hold them all.

    Args:
        parts: the slots of each part and its arrays, first axis [span.count].
        wanted: the slots to take.

    Returns:
        Arrays by name, first axis [wanted.count], in the order of slots.
    """
    cut = [
        (both, _rows(arrays, span, both)) for span, arrays in parts if (both := overlap(span, wanted)).count
    ]
    cut.sort(key=lambda piece: piece[0].first)
    names = list(cut[0][1]) if cut else []
    return {name: np.concatenate([arrays[name] for _, arrays in cut]) for name in names}


def _rows(arrays: Arrays, span: Span, both: Span) -> Arrays:
    begin = both.first - span.first
    return {name: array[begin : begin + both.count] for name, array in arrays.items()}
