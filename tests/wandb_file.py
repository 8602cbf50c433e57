"""Reads a W&B offline file: a LevelDB-style log of W&B's own protobuf records.

wandb 0.31 ships the messages but no reader any more. The format: 7 bytes of header (":W&B", the magic number
0xBEE1 and a version, little-endian), then blocks of 32 KiB (the header lies in the first). A block holds
chunks: CRC-32 of type and data (4 bytes), length (2), type (1: 1 whole, 2 first, 3 middle, 4 last), data; a
rest of fewer than 7 bytes is padding.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as messages

BLOCK, CHUNK_HEADER = 32 * 1024, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, data) of every chunk that is whole; a torn end is left out, a wrong checksum is an error."""
    magic, number, version = struct.unpack("<4sHB", data[:7])
    assert (magic, number, version) == (b":W&B", 0xBEE1, 0), data[:7]
    at = 7
    while at + CHUNK_HEADER <= len(data):
        if BLOCK - at % BLOCK < CHUNK_HEADER:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + CHUNK_HEADER])
        if kind == 0:  # padding of a file that was made longer than it is full
            return
        body = data[at + CHUNK_HEADER : at + CHUNK_HEADER + length]
        if len(body) < length:
            return
        assert zlib.crc32(bytes([kind]) + body) == checksum, f"checksum of the chunk at {at}"
        yield kind, body
        at += CHUNK_HEADER + length


def records(file: Path) -> list[Any]:
    """All `wandb_internal_pb2.Record` of a file, in order."""
    found, parts = [], []
    for kind, body in chunks(file.read_bytes()):
        parts = [body] if kind in (WHOLE, FIRST) else [*parts, body]
        if kind in (WHOLE, LAST):
            found.append(messages.Record.FromString(b"".join(parts)))
    return found


def rows(file: Path) -> list[dict[str, Any]]:
    """The history: what was logged, one dict a row, without W&B's own keys (they begin with _)."""
    return [_row(record.history) for record in records(file) if record.HasField("history")]


def numbers(file: Path) -> list[int]:
    """W&B's own number of each row."""
    return [record.history.step.num for record in records(file) if record.HasField("history")]


def config(file: Path) -> dict[str, Any]:
    """The configuration as the file leaves it: what the run began with, and what was told later."""
    said = [record.run.config for record in records(file) if record.HasField("run")]
    said += [record.config for record in records(file) if record.HasField("config")]
    return {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for one in said
        for item in one.update
    }


def exit_code(file: Path) -> int:
    """What the run ended with."""
    [code] = [record.exit.exit_code for record in records(file) if record.HasField("exit")]
    return int(code)


def _row(history: Any) -> dict[str, Any]:
    pairs = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in history.item}
    return {name: _number(value) for name, value in pairs.items() if not name.startswith("_")}


def _number(value: Any) -> Any:
    """W&B writes numbers that are not finite as these strings."""
    names = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return names.get(value, value) if isinstance(value, str) else value
