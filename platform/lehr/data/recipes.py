"""Recipes as texts of numbered words, with a vocabulary from the training recipes.

A text is "Recipe for TITLE | DIRECTIONS", as in Foster, "Generative Deep Learning", 2nd ed., chapter 5.
Unlike there, some recipes are held out, and the vocabulary is that of the others: words that only held-out
recipes have are unknown, as they will be in any other text, so the perplexity on them is an honest one.

Which recipes are held out depends on their texts alone: in the order of the texts' SHA-256, the first ones.
So neither the order of the file (which is by title) nor another record in it moves one from training to
held-out, and of recipes that are there twice both are on one side, but for one pair at the border.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from lehr import store as stores
from lehr.data import words
from lehr.data.arrays import Arrays
from lehr.errors import KeyMissing, UserError, letter
from lehr.spec import secrets

VOCABULARY = "vocabulary.txt"
"""The asset: one word a line, in the order of ids."""
FOLDERS = ("recipes", "")
_GZIP = b"\x1f\x8b"


def load(node: Any, split: str, *, cache: Path | None = None) -> Arrays:
    """One split. Inputs are the ids of a text's first `length` words, int32 [recipes, length]; targets are
    those of the words that follow each, so the last target may be the first word that is cut off.

    Units are the words that count: one for each word of the input. The target after a text's last word is the
    first padding, which is how a text ends and must be learnt; what follows is asked of nobody.

    Args:
        node: `data` of the spec.
        split: "train" or "validation".
        cache: not used: there is no public home to download from.

    Raises:
        UserError: the file is missing, is not of that form, or has fewer recipes than the job counts on.
    """
    where, packed = _find(node)
    train, held_out = divide(texts(packed, where), node, where)
    read = [words.split(text) for text in train]
    vocabulary = words.Vocabulary.of(read, node.vocabulary)
    chosen = read if split == "train" else [words.split(text) for text in held_out]
    ids = vocabulary.table(chosen, node.length + 1)
    units = (ids[:, :-1] != words.PADDING).sum(axis=1, dtype=np.int64)
    return Arrays(ids[:, :-1], ids[:, 1:], units=units, assets={VOCABULARY: vocabulary.document()})


def divide(found: list[str], node: Any, where: str) -> tuple[list[str], list[str]]:
    """Training and held-out texts, as many as the job counts on.

    Raises:
        UserError: there are fewer.
    """
    train, held_out = node.examples()
    if len(found) < train + held_out:
        raise UserError(
            letter(
                "data.train_examples",
                f"{where} has {len(found)} recipes with a title and directions, and the job counts on "
                f"{train} to train and {held_out} held out",
                do=f"--set data.train_examples={max(1, len(found) - held_out)}",
            )
        )
    ordered = sorted(found, key=lambda text: sha256(text.encode(errors="replace")).digest())
    return ordered[held_out : held_out + train], ordered[:held_out]


def texts(packed: bytes, where: str) -> list[str]:
    """The texts of a JSON list of recipes, gzipped or not; those whose title or directions are null or
    missing are left out.

    Raises:
        UserError: it is no such list.
    """
    try:
        records = json.loads(gzip.decompress(packed) if packed.startswith(_GZIP) else packed)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(where, f"cannot be read as JSON: {error}") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise _damaged(
            where, f"is a {type(records).__name__} at its top, or a list of other things than records"
        )
    told = [(record.get("title"), record.get("directions")) for record in records]
    full = [(title, lines) for title, lines in told if title is not None and lines is not None]
    for title, lines in full:
        if not isinstance(title, str) or not isinstance(lines, list):
            raise _damaged(where, f"has a recipe whose directions are a {type(lines).__name__}")
    return [f"Recipe for {title} | {' '.join(map(str, lines))}" for title, lines in full]


def _find(node: Any) -> tuple[str, bytes]:
    """Where the file is, and its bytes."""
    root = node.root or os.environ.get("LEHR_DATA")
    keys = [f"{folder}/{node.file}".lstrip("/") for folder in FOLDERS]
    if not root:
        came = f"no folder to look for {node.file} in: it has no public home to be downloaded from"
        raise UserError(letter("data.root", came, do="set data.root or LEHR_DATA to the folder with it"))
    store = stores.connect(root, secrets.resolved(node.storage_options))
    for key in keys:
        try:
            return f"{store.url}/{key}", store.read(key)
        except KeyMissing:
            continue
    came = f"{store.url} has no {' and no '.join(keys)}"
    raise UserError(letter("data.root", came, do="put the file there, or name another one with data.file"))


def _damaged(where: str, came: str) -> UserError:
    accepted = "a JSON list of records with `title`, a text, and `directions`, a list of texts"
    return UserError(letter(where, came, accepted=accepted, do="get the file again, or set data.file"))
