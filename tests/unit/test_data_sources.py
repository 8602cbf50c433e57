"""The sources: what they give, and what they say when they cannot."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lehr.data import digits, idx
from lehr.data.arrays import Arrays
from lehr.data.published import COLLECTIONS, FASHION_MNIST, MNIST
from lehr.errors import UserError


def node(**changes: Any) -> SimpleNamespace:
    """A `data` node."""
    plain = {"root": None, "storage_options": {}, "image_size": None, "range": (0.0, 1.0), "levels": None}
    limits = {"train_examples": None, "validation_examples": None}
    return SimpleNamespace(**plain | limits | changes)


def packed(values: np.ndarray) -> bytes:
    """`values` as a gzipped idx file."""
    head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    return gzip.compress(head + values.astype(np.uint8).tobytes(), mtime=0)


def small(folder: Path, *, examples: int = 7) -> Path:
    """A folder with four small files in the right format."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name, count in (("train", examples), ("t10k", 3)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(packed(images))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(packed(labels))
    return folder


# --- digits -------------------------------------------------------------------------------------------


def test_digits_are_scikit_learn_s() -> None:
    from sklearn.datasets import load_digits

    train, held_out = (digits.load(node(), split) for split in ("train", "validation"))
    assert (len(train), len(held_out)) == (1500, 297)
    given, target = train.take(np.arange(1500))
    np.testing.assert_array_equal(given[..., 0], (load_digits().images[:1500] / 16).astype(np.float32))
    np.testing.assert_array_equal(target, load_digits().target[:1500])
    np.testing.assert_array_equal(held_out.take(np.arange(297))[1], load_digits().target[1500:])
    assert (given.dtype, target.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("size", [4, 8, 16, 28, 32])
def test_digits_come_in_any_size(size: int) -> None:
    arrays = digits.load(node(image_size=size, range=(-1.0, 1.0)), "train")
    given, _ = arrays.take(np.arange(1500))
    assert arrays.shape == (size, size, 1)
    assert given.shape == (1500, size, size, 1)
    assert (given.min(), given.max()) == (-1.0, 1.0)


def test_enlarged_digits_have_mnist_s_margin() -> None:
    given, _ = digits.load(node(image_size=32), "train").take(np.arange(1500))
    ink = given[..., 0].max(axis=0) > 0.5
    rows = np.flatnonzero(ink.any(axis=1))
    assert (rows[0], rows[-1]) == (6, 25)  # 20 pixels in the middle
    assert max(given[:, :4].max(), given[:, -4:].max()) < 0.01


@pytest.mark.parametrize(("limit", "count"), [(None, 1500), (10, 10), (9999, 1500)])
def test_the_first_examples_only(limit: int | None, count: int) -> None:
    arrays = digits.load(node(train_examples=limit), "train")
    assert len(arrays) == count
    assert arrays.take(np.arange(10))[1].tolist() == list(range(10))


def test_a_split_without_examples_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Arrays(np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(ValueError, match="2 inputs and 3 targets"):
        Arrays(np.zeros((2, 2)), np.zeros(3))


# --- the real files -----------------------------------------------------------------------------------

FACTS = [
    (idx.load_mnist, "train", 60_000, 33.318, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
    (idx.load_mnist, "validation", 10_000, 33.791, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
    (idx.load_fashion_mnist, "train", 60_000, 72.940, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
    (idx.load_fashion_mnist, "validation", 10_000, 73.147, [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
]


@pytest.mark.data
@pytest.mark.parametrize(("load", "split", "count", "mean", "labels"), FACTS)
def test_the_real_files(
    load: Callable[..., Arrays], split: str, count: int, mean: float, labels: list[int], data_root: Path
) -> None:
    arrays = load(node(root=str(data_root)), split)
    assert len(arrays) == count
    assert arrays.input.mean() == pytest.approx(mean, abs=5e-4)
    given, target = arrays.take(np.arange(10))
    assert target.tolist() == labels
    assert given.shape == (10, 28, 28, 1)
    assert sorted(set(arrays.target.tolist())) == list(range(10))


@pytest.mark.data
@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda c: c.kind)
def test_the_checksums_in_the_code_are_those_of_the_files(collection: Any, data_root: Path) -> None:
    folder = data_root / collection.kind.replace("_", "-")
    for file in collection.files.values():
        assert hashlib.md5((folder / file.name).read_bytes()).hexdigest() == file.md5, file.name


@pytest.mark.data
def test_mnist_for_the_book_s_energy_model(data_root: Path) -> None:
    arrays = idx.load_mnist(node(root=str(data_root), image_size=32, range=(-1.0, 1.0)), "validation")
    given, _ = arrays.take(np.arange(100))
    scaled = (arrays.input[:100].astype(np.float32) - 127.5) / 127.5
    padded = np.pad(scaled, ((0, 0), (2, 2), (2, 2)), constant_values=-1)
    np.testing.assert_array_equal(given[..., 0], padded)


@pytest.mark.data
def test_one_collection_for_the_other_is_noticed(data_root: Path) -> None:
    with pytest.raises(UserError, match=r"is a file of MNIST, not of Fashion-MNIST[\s\S]*data\.kind: mnist"):
        idx.load_fashion_mnist(node(root=str(data_root / "mnist")), "train")


# --- where files lie ----------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "mnist"])
def test_files_in_the_root_or_in_a_folder_of_it(below: str, tmp_path: Path) -> None:
    small(tmp_path / "data" / below)
    arrays = idx.load_mnist(node(root=str(tmp_path / "data")), "train")
    assert arrays.take(np.arange(7))[1].tolist() == list(range(7))


@pytest.mark.parametrize("below", ["fashion_mnist", "fashion-mnist"])
def test_fashion_is_spelt_both_ways(below: str, tmp_path: Path) -> None:
    small(tmp_path / "data" / below)
    assert len(idx.load_fashion_mnist(node(root=str(tmp_path / "data")), "validation")) == 3


def test_the_environment_names_the_root_when_the_job_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEHR_DATA", str(small(tmp_path / "data")))
    assert len(idx.load_mnist(node(), "train")) == 7
    other = small(tmp_path / "other", examples=9)
    assert len(idx.load_mnist(node(root=str(other)), "train")) == 9


def test_files_behind_a_url(tmp_path: Path) -> None:
    from lehr import store

    memory = store.connect("memory://test-data-sources")
    for file in small(tmp_path / "data").iterdir():
        memory.write(f"mnist/{file.name}", file.read_bytes())
    assert len(idx.load_mnist(node(root="memory://test-data-sources"), "train")) == 7


# --- letters ------------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path: Path) -> None:
    folder = small(tmp_path / "data")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError) as caught:
        idx.load_mnist(node(root=str(folder)), "validation")
    assert str(caught.value).splitlines() == [
        f"data.root: {folder} has no t10k-labels-idx1-ubyte.gz of MNIST",
        "  accepted: a folder or URL with mnist/t10k-labels-idx1-ubyte.gz, or t10k-labels-idx1-ubyte.gz",
        "  do: put the four files there, or have them downloaded: no data.root and no LEHR_DATA",
    ]


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train-images-idx3-ubyte\.gz of MNIST"):
        idx.load_mnist(node(root=str(tmp_path / "nowhere")), "train")
    assert not (tmp_path / "nowhere").exists()


IMAGES = packed(np.zeros((7, 28, 28)))
FLIPPED = IMAGES[:20] + bytes([IMAGES[20] ^ 4]) + IMAGES[21:]
DAMAGE = {
    "cut": (IMAGES[:-20], r"ends too early: \d+ bytes are not the whole file"),
    "empty": (b"", "begins with nothing"),
    "not gzip": (b"<html>not found</html>", "cannot be unpacked: Not a gzipped file"),
    "a flipped bit": (FLIPPED, "cannot be unpacked|ends too early"),
    "labels": (packed(np.zeros(7)), "begins with 00 00 08 01; idx bytes with 3 axes begin with 00 00 08 03"),
    "another shape": (packed(np.zeros((7, 32, 32))), r"its header says \(7, 32, 32\)"),
    "too few values": (gzip.compress(gzip.decompress(IMAGES)[:-5]), "5483 bytes follow"),
    "too many values": (gzip.compress(gzip.decompress(IMAGES) + b"x"), "5489 bytes follow"),
    "a header alone": (gzip.compress(bytes([0, 0, 8, 3, 0])), "its header says"),
    "bad sum": (IMAGES[:-8] + b"\0\0\0\0" + IMAGES[-4:], "cannot be unpacked: CRC check failed"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file(damage: str, tmp_path: Path) -> None:
    folder = small(tmp_path / "data")
    content, words = DAMAGE[damage]
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        idx.load_mnist(node(root=str(folder)), "train")
    first, *rest = str(caught.value).splitlines()
    assert "train-images-idx3-ubyte.gz: " in first
    assert rest[0] == "  accepted: a gzipped idx file, as published"


def test_images_and_labels_of_different_splits(tmp_path: Path) -> None:
    folder = small(tmp_path / "data")
    shutil.copy(folder / "t10k-labels-idx1-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(UserError, match="7 train images and 3 labels"):
        idx.load_mnist(node(root=str(folder)), "train")


def test_the_spec_and_the_code_agree_on_how_much_there_is() -> None:
    """What `lehr plan` says without loading anything."""
    from lehr.spec.data import Digits

    held = tuple(len(digits.load(node(), split)) for split in ("train", "validation"))
    assert Digits(kind="digits").examples() == held
    for kind in (MNIST, FASHION_MNIST):
        assert kind.homes
        assert all(home.endswith("/") for home in kind.homes)


def test_options_of_the_root_are_resolved_for_the_connection_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = node(root=str(small(tmp_path / "data")), storage_options={"secret": "env:HIDDEN", "in": {"a": 1}})
    seen: list[Any] = []
    real = idx.stores.connect
    monkeypatch.setenv("HIDDEN", "sesame")
    monkeypatch.setattr(idx.stores, "connect", lambda url, options: seen.append(options) or real(url))
    assert len(idx.load_mnist(given, "train")) == 7
    assert seen == 2 * [{"secret": "sesame", "in": {"a": 1}}]
    assert given.storage_options == {"secret": "env:HIDDEN", "in": {"a": 1}}
