"""What our store makes of S3's answers; the answers are made up here, real ones are in tests/contract."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec.asyn
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from s3fs.errors import translate_boto_error

from contract.store_suite import StoreSuite
from lehr.errors import KeyMissing, StorageDenied, StorageError, UserError
from lehr.store import connect, probe, transfer
from lehr.store.s3 import S3, options

MIB = 1 << 20


def answer(code: str, retries: int = 0, *, message: str | None = "says it") -> Exception:
    said = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"RetryAttempts": retries},
    }
    return translate_boto_error(ClientError(said, "Call"))


class Body:
    """A body that is cut where it is told to be."""

    def __init__(self, data: bytes, cut: int | None) -> None:
        self.data, self.cut, self.at = data, cut, 0

    async def readinto(self, view: memoryview) -> int:
        await asyncio.sleep(0)
        if self.cut is not None and self.at >= self.cut:
            raise ConnectionResetError("cut")
        some = self.data[self.at : self.at + min(len(view), 100_000)]
        view[: len(some)] = some
        self.at += len(some)
        return len(some)

    async def read(self) -> bytes:
        assert self.at == len(self.data)
        return b""

    def close(self) -> None:
        pass


class Bucket:
    """S3's side, and s3fs's, as far as our store looks at them."""

    async_impl = True

    def __init__(self) -> None:
        self.loop = fsspec.asyn.get_loop()
        self.storage_options: dict[str, Any] = {"secret": "hunter2hunter2"}
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.asked: list[str] = []
        self.sent = 0  # bytes of bodies in flight, and the most there were
        self.most = 0
        self.fails: Callable[[str, dict[str, Any]], object] = lambda method, asked: None
        self.names = "bucket"

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    async def _call_s3(self, method: str, **asked: Any) -> Any:
        self.asked.append(method)
        wrong = self.fails(method, asked)
        if isinstance(wrong, Exception):
            raise wrong
        if asked.pop("Bucket") != self.names:
            raise answer("404" if method.startswith("head") else "NoSuchBucket")
        return await getattr(self, method)(wrong, **asked)

    async def put_object(self, wrong: Any, Key: str, Body: bytes, IfNoneMatch: str = "") -> Any:
        if IfNoneMatch and Key in self.objects:
            raise answer("PreconditionFailed")
        self.objects[Key] = bytes(Body)
        if wrong == "after":
            raise EndpointConnectionError(endpoint_url="http://s3")
        return {}

    async def head_object(self, wrong: Any, Key: str) -> Any:
        if Key not in self.objects:
            raise answer("404")
        return {"ContentLength": len(self.objects[Key])}

    async def head_bucket(self, wrong: Any) -> Any:
        return {}

    async def get_object(self, wrong: Any, Key: str, Range: str, IfMatch: str = "") -> Any:
        if Key not in self.objects:
            raise answer("NoSuchKey")
        data = self.objects[Key]
        etag = hashlib.md5(data).hexdigest()
        if IfMatch and IfMatch != etag:
            raise answer("PreconditionFailed")
        first, _, last = Range.removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            raise answer("InvalidRange")
        body = data[int(first) : int(last) + 1]
        if wrong == "no ranges":
            return {"ContentLength": len(data), "Body": Body(data, None), "ETag": etag}
        where = f"bytes {first}-{int(first) + len(body) - 1}/{len(data)}"
        cut = wrong if isinstance(wrong, int) else None
        return {"ContentLength": len(body), "ContentRange": where, "ETag": etag, "Body": Body(body, cut)}

    async def list_objects_v2(
        self, wrong: Any, Prefix: str, Delimiter: str = "", ContinuationToken: str = ""
    ) -> Any:
        """Pages of two."""
        found = sorted(key for key in self.objects if key.startswith(Prefix))
        cut = {key: key.find("/", len(Prefix)) for key in found} if Delimiter else {}
        folders = sorted({key[: end + 1] for key, end in cut.items() if end >= 0})
        keys = [key for key in found if cut.get(key, -1) < 0]
        entries = sorted([(key, "key") for key in keys] + [(folder, "folder") for folder in folders])
        at = int(ContinuationToken or 0)
        page = entries[at : at + 2]
        more = at + 2 < len(entries)
        return {
            "Contents": [{"Key": name} for name, kind in page if kind == "key"],
            "CommonPrefixes": [{"Prefix": name} for name, kind in page if kind == "folder"],
            "IsTruncated": more,
            **({"NextContinuationToken": str(at + 2)} if more else {}),
        }

    async def delete_object(self, wrong: Any, Key: str) -> Any:
        self.objects.pop(Key, None)

    async def create_multipart_upload(self, wrong: Any, Key: str) -> Any:
        self.uploads[Key] = {}
        return {"UploadId": Key}

    async def upload_part(self, wrong: Any, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> Any:
        self.sent += len(Body)
        self.most = max(self.most, self.sent)
        await asyncio.sleep(0.001)
        self.sent -= len(Body)
        self.uploads[UploadId][PartNumber] = Body
        return {"ETag": hashlib.md5(Body).hexdigest(), "ChecksumCRC32": "sum", "ChecksumType": "COMPOSITE"}

    async def complete_multipart_upload(
        self, wrong: Any, Key: str, UploadId: str, MultipartUpload: Any
    ) -> Any:
        if UploadId not in self.uploads:
            raise answer("NoSuchUpload")
        parts = self.uploads.pop(UploadId)
        for part in MultipartUpload["Parts"]:
            etag = hashlib.md5(parts[part["PartNumber"]]).hexdigest()
            assert part == {"PartNumber": part["PartNumber"], "ETag": etag, "ChecksumCRC32": "sum"}
        self.objects[Key] = b"".join(parts[part["PartNumber"]] for part in MultipartUpload["Parts"])

    async def abort_multipart_upload(self, wrong: Any, Key: str, UploadId: str) -> Any:
        del self.uploads[UploadId]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def store(bucket: Bucket) -> S3:
    return S3(bucket, "bucket/p", "s3://bucket/p")


class TestMadeUp(StoreSuite):
    @pytest.fixture
    def store(self) -> S3:
        return S3(Bucket(), "bucket/p", "s3://bucket/p")


LARGE = os.urandom(5 * MIB) * 7 + b"end"


def test_what_is_large_goes_in_parts_few_at_once(store: S3, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(LARGE)
    store.put("k", tmp_path / "f")
    store.write("l", LARGE)
    assert bucket.asked.count("upload_part") == 2 * 3
    assert bucket.most <= transfer.AT_ONCE * transfer.PART
    assert bucket.objects == {"p/k": LARGE, "p/l": LARGE}
    assert bucket.uploads == {}


def test_what_is_small_goes_at_once(store: S3, bucket: Bucket) -> None:
    store.write("k", LARGE[: 10 * MIB])
    assert bucket.asked == ["put_object"]


def test_parts_are_few_enough_for_s3() -> None:
    parts = list(transfer._parts(200_000 * MIB))
    assert len(parts) <= transfer.MOST_PARTS
    assert parts[0][0] == 0
    assert parts[-1][1] == 200_000 * MIB
    assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))


@pytest.mark.parametrize("method", ["upload_part", "complete_multipart_upload"])
def test_an_upload_that_fails_is_undone(store: S3, bucket: Bucket, method: str) -> None:
    store.write("k", b"old")
    bucket.fails = lambda asked, _: answer("InternalError") if asked == method else None
    with pytest.raises(StorageError, match="could not write it: InternalError: says"):
        store.write("k", LARGE)
    assert bucket.objects == {"p/k": b"old"}
    assert bucket.uploads == {}


def test_an_upload_that_is_gone_is_no_missing_key(store: S3, bucket: Bucket) -> None:
    bucket.fails = lambda asked, _: answer("NoSuchUpload") if asked.startswith("complete") else None
    with pytest.raises(StorageError, match="NoSuchUpload") as raised:
        store.write("k", LARGE)
    assert type(raised.value) is StorageError


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (3, None), (5 * MIB, 30 * MIB), (0, 2), (34 * MIB, 99 * MIB)]
)
def test_what_is_large_comes_in_ranges(store: S3, bucket: Bucket, start: int, end: int | None) -> None:
    bucket.objects["p/k"] = LARGE
    found = store.read("k", start, end)
    assert type(found) is bytes
    assert found == LARGE[start:end]


def test_a_body_that_is_cut_is_fetched_on(store: S3, bucket: Bucket) -> None:
    bucket.objects["p/k"] = LARGE
    cuts: dict[str, list[int]] = {}

    def cut(method: str, asked: dict[str, Any]) -> int | None:
        """Each range at first, and what is left of it again."""
        left = cuts.setdefault(asked["Range"].rpartition("-")[2], [0, MIB])
        return left.pop() if left else None

    bucket.fails = cut
    assert store.read("k") == LARGE
    assert bucket.asked == ["get_object"] * 3 * len(cuts)


def test_a_body_that_is_always_cut_raises_and_is_never_short(store: S3, bucket: Bucket) -> None:
    bucket.objects["p/k"] = LARGE
    bucket.fails = lambda method, asked: (
        300_000 if asked.get("Range", "").startswith("bytes=8388608") else None
    )
    bucket.fails = lambda *_: 0
    for end in (10, None):
        with pytest.raises(
            StorageError, match=r"p/k: could not read it: Broken: its body ended early, 3 times: cut"
        ):
            store.read("k", 0, end)


def test_two_versions_are_never_mixed(store: S3, bucket: Bucket) -> None:
    versions = [bytes([i]) * len(LARGE) for i in range(9)]
    bucket.objects["p/k"] = versions[0]

    def replaced(at: int) -> Callable[[str, dict[str, Any]], object]:
        def change(method: str, asked: dict[str, Any]) -> None:
            if len(bucket.asked) in range(2, at, 3):
                bucket.objects["p/k"] = versions[len(bucket.asked)]

        return change

    bucket.fails = replaced(4)
    assert store.read("k") == versions[2]
    bucket.asked.clear()
    always = iter(range(10**6))
    bucket.fails = lambda *_: bucket.objects.update({"p/k": next(always).to_bytes(4, "big") * (5 * MIB)})
    with pytest.raises(StorageError, match="replaced again and again"):
        store.read("k")


def test_a_server_without_ranges_will_do(store: S3, bucket: Bucket) -> None:
    bucket.objects["p/k"] = LARGE
    bucket.fails = lambda *_: "no ranges"
    assert store.read("k", 7, 12 * MIB) == LARGE[7 : 12 * MIB]


def test_what_hangs_comes_to_an_end(store: S3, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(600)

    monkeypatch.setattr(transfer, "ASK_S", 0.05)
    monkeypatch.setattr(bucket, "put_object", hang)
    monkeypatch.setattr(Body, "readinto", hang)
    with pytest.raises(StorageError, match="could not write it: Broken: no end within 0 s"):
        store.write("k", b"1")
    bucket.objects["p/k"] = b"1"
    with pytest.raises(StorageError, match="could not read it: Broken: no end"):
        store.read("k")


def test_a_missing_bucket_is_not_an_empty_one(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    store = S3(bucket, "other/p", "s3://other/p")
    verbs: list[Callable[[], object]] = [
        lambda: store.read("k"), lambda: store.read("k", 1, 1), lambda: store.size("k"), store.list,
        store.folders, lambda: store.write("k", b""), lambda: store.create("k", b""),
        lambda: store.append("k", b""), lambda: store.delete("k"), lambda: store.put("k", tmp_path / "f"),
    ]  # fmt: skip
    for verb in verbs:
        with pytest.raises(StorageDenied, match="NoSuchBucket"):
            verb()


def test_a_bucket_that_may_not_be_looked_at_is_there(store: S3, bucket: Bucket) -> None:
    bucket.fails = lambda method, _: answer("403") if method == "head_bucket" else None
    assert store.size("k") is None
    assert store.size("k") is None
    assert bucket.asked.count("head_bucket") == 1
    assert store.below("run").size("k") is None
    assert bucket.asked.count("head_bucket") == 1


def test_who_creates_at_the_same_time_is_asked_again(store: S3, bucket: Bucket) -> None:
    conflicts = iter([answer("ConditionalRequestConflict")] * 2)
    bucket.fails = lambda method, _: next(conflicts, None) if method == "put_object" else None
    assert store.create("k", b"1") is True
    bucket.fails = lambda method, _: answer("409") if method == "put_object" else None
    with pytest.raises(StorageError, match="409"):
        store.create("l", b"1")


@pytest.mark.parametrize(("retries", "ours"), [(0, False), (1, True)])
def test_a_created_key_is_ours_if_the_first_answer_was_lost(
    store: S3, bucket: Bucket, retries: int, ours: bool
) -> None:
    def after(method: str, asked: dict[str, Any]) -> object:
        if method == "put_object":
            bucket.objects["p/k"] = b"same"
            return answer("PreconditionFailed", retries)
        return None

    bucket.fails = after
    assert store.create("k", b"same") is ours
    bucket.objects.clear()
    assert store.create("k", b"other") is False


def test_a_server_without_conditions_will_do(store: S3, bucket: Bucket) -> None:
    bucket.fails = lambda _, asked: answer("NotImplemented") if "IfNoneMatch" in asked else None
    assert store.create("k", b"1") is True
    assert store.create("k", b"2") is False
    assert bucket.objects["p/k"] == b"1"


DENIED = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "403",
    "ExpiredToken",
    "NoSuchBucket",
]
FAILED = ["SlowDown", "ServiceUnavailable", "InternalError", "500", "503", "Whatever", "RequestTimeout"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(answer(code), StorageDenied) for code in DENIED]
    + [(answer(code), StorageError) for code in FAILED]
    + [(answer("NoSuchKey"), KeyMissing), (NoCredentialsError(), StorageDenied)]
    + [(answer("InvalidArgument"), StorageError), (answer("InvalidArgument", message=None), StorageDenied)]
    + [(EndpointConnectionError(endpoint_url="http://s3"), StorageError)]
    + [(ReadTimeoutError(endpoint_url="http://s3"), StorageError), (KeyError("x"), StorageError)],
    ids=str,
)
def test_errors_are_told_apart(store: S3, bucket: Bucket, error: Exception, kind: type[StorageError]) -> None:
    bucket.fails = lambda *_: error
    with pytest.raises(StorageError) as raised:
        store.read("k")
    assert type(raised.value) is kind


LETTERS = {
    "NoSuchBucket": (
        answer("NoSuchBucket"),
        r"there is no such bucket: could not .*\n  do: create it \(lehr makes no",
    ),
    "wrong": (
        answer("InvalidAccessKeyId"),
        r"the credentials are wrong(.|\n)*do: name them in storage_options",
    ),
    "none": (NoCredentialsError(), r"the credentials are wrong, expired or missing: .*\n.*AWS_ACCESS_KEY_ID"),
    "no key": (
        answer("InvalidArgument", message=None),
        r"the credentials are wrong, .*InvalidArgument\n  do: name",
    ),
    "denied": (answer("AccessDenied"), r"there is no permission: .*\n  do: let these credentials"),
    "down": (
        EndpointConnectionError(endpoint_url="http://s3"),
        r"there is no answer: .*\n  do: .*endpoint_url",
    ),
    "quota": (answer("QuotaExceeded"), r"it is full: .*\n  do: make room"),
}


@pytest.mark.parametrize("case", LETTERS)
def test_probing_says_what_to_do(store: S3, bucket: Bucket, case: str) -> None:
    error, letter = LETTERS[case]
    bucket.fails = lambda *_: error
    with pytest.raises(UserError, match=f"^s3://bucket/p: cannot be written: {letter}") as raised:
        probe(store)
    assert "accepted" not in str(raised.value)


def test_probing_leaves_nothing_and_does_not_wait_for_ever(store: S3, bucket: Bucket) -> None:
    probe(store)
    assert bucket.objects == {}
    gone = threading.Event()

    def hang(*_: object) -> None:
        gone.wait(30)

    bucket.fails = hang
    try:
        with pytest.raises(UserError, match=r"there is no answer: no answer within 0 s\n  do: "):
            probe(store, patience_s=0.05)
    finally:
        gone.set()


def test_no_option_is_said(store: S3, bucket: Bucket) -> None:
    bucket.fails = lambda *_: OSError("hunter2hunter2 at http://me:pass@s3/")
    with pytest.raises(StorageError, match=r"OSError: \*\*\* at http://\*\*\*@s3/"):
        store.read("k")
    given = {"key": "hunter3", "username": "hunter4", "client_kwargs": {"verify": "hunter5"}}
    with pytest.raises(
        UserError, match=r"storage_options for s3://b: .*given: client_kwargs, key, username"
    ) as raised:
        connect("s3://b", given)
    assert "hunter" not in str(raised.value)


def test_the_users_options_win() -> None:
    ours = options({})["config_kwargs"]
    assert ours["retries"]["total_max_attempts"] == 2
    theirs = options({"key": "k", "config_kwargs": {"read_timeout": 7, "retries": {"max_attempts": 9}}})
    assert theirs["key"] == "k"
    assert theirs["config_kwargs"] == ours | {"read_timeout": 7, "retries": {"max_attempts": 9}}


def test_a_process_has_one_client() -> None:
    given = {"endpoint_url": "http://127.0.0.1:1", "key": "k", "secret": "s"}
    stores: list[Any] = [connect("s3://bucket/one", given)]
    thread = threading.Thread(target=lambda: stores.append(connect("s3://other/two", dict(given))))
    thread.start()
    thread.join()
    assert stores[0]._filesystem is stores[1]._filesystem
    assert (
        stores[0]._filesystem.use_listings_cache is False
        if hasattr(stores[0]._filesystem, "use_listings_cache")
        else True
    )
    assert stores[0]._filesystem.retries == 1


def test_a_fork_is_told_that_it_cannot(store: S3) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = b"nothing"
        try:
            store.list()
        except RuntimeError as error:
            said = str(error).encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.waitpid(child, 0)
    assert b"spawn processes" in os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
