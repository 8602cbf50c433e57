"""MNIST and Fashion-MNIST: four gzipped idx files each, from a folder, a URL or their public homes.

The idx format: two zero bytes, a type code (8: unsigned byte), the number of axes, the length of each axis as
a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import os
import zlib
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np

from lehr import store as stores
from lehr.data import download
from lehr.data.arrays import Arrays
from lehr.data.pictures import pictures
from lehr.data.published import COLLECTIONS, FASHION_MNIST, MNIST, Collection, Published
from lehr.errors import KeyMissing, UserError, letter
from lehr.spec import secrets
from lehr.store import Store

STORED, PEAK = 28, 255
PADDED = 32
"""The one size that gets a margin of 2 instead of being resampled."""


def load_mnist(node: Any, split: str, *, cache: Path | None = None) -> Arrays:
    """MNIST (LeCun, Cortes and Burges): see `load`."""
    return load(MNIST, node, split, cache=cache)


def load_fashion_mnist(node: Any, split: str, *, cache: Path | None = None) -> Arrays:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): see `load`."""
    return load(FASHION_MNIST, node, split, cache=cache)


def load(collection: Collection, node: Any, split: str, *, cache: Path | None = None) -> Arrays:
    """One split of `collection`, as bytes that are rendered batch by batch.

    Args:
        collection: which.
        node: `data` of the spec. An `image_size` of 32 puts a margin of 2 around the 28 pixels; others
            are resampled.
        split: "train" (60,000 images) or "validation" (10,000, published as the test set).
        cache: folder of downloaded files; None: LEHR_CACHE, or the user's cache folder.

    Raises:
        UserError: a file is missing, damaged or another collection's, or cannot be downloaded.
    """
    images, labels = (_part(collection, node, (split, part), cache) for part in ("images", "labels"))
    if len(images) != len(labels):
        came = f"{len(images)} {split} images and {len(labels)} labels"
        raise UserError(letter(f"data, {collection.name}", came, do="give both files from one place"))
    size = node.image_size or STORED
    inner = STORED if size == PADDED else size
    rendered = pictures(node, stored=STORED, peak=PEAK, inner=inner, size=size)
    limit = {"train": node.train_examples, "validation": node.validation_examples}[split]
    return Arrays(images, labels.astype(np.int64), rendered).first(limit)


def _part(collection: Collection, node: Any, part: tuple[str, str], cache: Path | None) -> np.ndarray:
    file = collection.files[part]
    root, options = node.root or os.environ.get("LEHR_DATA"), node.storage_options
    if root:
        where, packed = _find(collection, file, stores.connect(root, secrets.resolved(options)))
        _refuse_others(collection, packed, where)
    else:
        folder = (cache or download.cache_folder()) / collection.kind
        path = download.fetch(file, collection.homes, folder=folder)
        where, packed = str(path), path.read_bytes()
    tail = (STORED, STORED) if part[1] == "images" else ()
    return parse(packed, where, tail=tail)


def _find(collection: Collection, file: Published, store: Store) -> tuple[str, bytes]:
    """Where the file is in `store`, and its bytes."""
    keys = [f"{folder}/{file.name}".lstrip("/") for folder in collection.folders]
    for key in keys:
        try:
            return f"{store.url}/{key}", store.read(key)
        except KeyMissing:
            continue
    raise UserError(
        letter(
            "data.root",
            f"{store.url} has no {file.name} of {collection.name}",
            accepted=f"a folder or URL with {', or '.join(keys)}",
            do="put the four files there, or have them downloaded: no data.root and no LEHR_DATA",
        )
    )


def _refuse_others(collection: Collection, packed: bytes, where: str) -> None:
    """The collections name their files alike: notice when one is given for another."""
    checksum = md5(packed, usedforsecurity=False).hexdigest()
    for other in COLLECTIONS:
        if other is not collection and any(file.md5 == checksum for file in other.files.values()):
            raise UserError(
                letter(
                    "data.root",
                    f"{where} is a file of {other.name}, not of {collection.name}",
                    do=f"set data.kind: {other.kind}, or data.root to where {collection.name} is",
                )
            )


def parse(packed: bytes, where: str, *, tail: tuple[int, ...]) -> np.ndarray:
    """The values of a gzipped idx file of bytes: uint8 [items, *tail].

    Args:
        packed: the file.
        where: it came from, for messages.
        tail: lengths of all axes but the first.

    Raises:
        UserError: it is not such a file, or not whole.
    """
    data = _unpacked(packed, where)
    axes = 1 + len(tail)
    magic, head = bytes([0, 0, 8, axes]), 4 + 4 * axes
    if data[:4] != magic:
        begin = data[:4].hex(" ") or "nothing"
        raise _damaged(where, f"begins with {begin}; idx bytes with {axes} axes begin with {magic.hex(' ')}")
    lengths = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, head, 4))
    wanted = (lengths[0], *tail)
    if lengths != wanted or len(data) - head != int(np.prod(wanted)):
        came = f"its header says {lengths} and {len(data) - head} bytes follow; items are of shape {tail}"
        raise _damaged(where, came)
    return np.frombuffer(data, np.uint8, offset=head).reshape(lengths)


def _unpacked(packed: bytes, where: str) -> bytes:
    try:
        return gzip.decompress(packed)
    except EOFError:
        raise _damaged(where, f"ends too early: {len(packed)} bytes are not the whole file") from None
    except (OSError, zlib.error) as error:
        raise _damaged(where, f"cannot be unpacked: {error}") from None


def _damaged(where: str, came: str) -> UserError:
    return UserError(
        letter(
            where,
            came,
            accepted="a gzipped idx file, as published",
            do="get the file again, or remove it, leave data.root out and it is downloaded and verified",
        )
    )
