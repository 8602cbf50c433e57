"""The published image collections in idx format: their homes, their files and the checksums of those."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A file as its makers published it; small enough to hold in memory."""

    name: str
    md5: str


@dataclass(frozen=True)
class Collection:
    """A data set of four files.

    Args:
        kind: its `kind` in the spec, which also names its folder in the cache.
        name: as people write it.
        folders: where its files may lie below `data.root`; "" is the root itself.
        homes: URLs of folders that hold the files, tried in order.
        files: by split ("train", "validation") and part ("images", "labels").
    """

    kind: str
    name: str
    folders: tuple[str, ...]
    homes: tuple[str, ...]
    files: dict[tuple[str, str], Published]


MNIST = Collection(
    kind="mnist",
    name="MNIST",
    folders=("mnist", ""),
    homes=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files={
        ("train", "images"): Published("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train", "labels"): Published("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("validation", "images"): Published("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("validation", "labels"): Published("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    },
)

FASHION_MNIST = Collection(
    kind="fashion_mnist",
    name="Fashion-MNIST",
    folders=("fashion_mnist", "fashion-mnist", ""),
    homes=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    files={
        ("train", "images"): Published("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train", "labels"): Published("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("validation", "images"): Published("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("validation", "labels"): Published("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    },
)

COLLECTIONS = (MNIST, FASHION_MNIST)
