"""Every fault of an S3 server against every verb of a store: the right answer, or a StorageError in time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ceph import Server
from faults import Proxy
from lehr.errors import KeyMissing, StorageDenied, StorageError, UserError
from lehr.store import Store, connect, probe
from lehr.store.patient import Patient

pytestmark = [pytest.mark.system, pytest.mark.s3]
OLD, NEW = os.urandom(1 << 16), os.urandom(1 << 16)
LARGE = os.urandom(40 << 20)
BOUND_S = 60.0  # of one call under a fault that stays, with the timeouts below
TIMEOUTS = {"connect_timeout": 1.0, "read_timeout": 1.0}
FAULTS: dict[str, dict[str, Any]] = {
    "refuse": {"kind": "refuse"},
    "hang": {"kind": "hang"},
    "slow": {"kind": "slow", "delay_s": 0.3},
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503},
    "403": {"kind": "status", "status": 403},
    "429": {"kind": "status", "status": 429},
    "cut": {"kind": "cut"},
    "cut_request": {"kind": "cut_request"},
    "lost_answer": {"kind": "lost_answer"},
}
DONE = object()  # what the verbs that return nothing have done


@pytest.fixture
def proxy(s3: Server) -> Iterator[Proxy]:
    with Proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "large"
    path.write_bytes(LARGE)
    return path


@pytest.fixture(scope="module")
def bucket(s3: Server) -> Store:
    """A bucket with one large object, which no test changes."""
    store = connect(f"s3://{s3.bucket()}/runs", s3.options())
    store.write("large", LARGE)
    return store


@pytest.fixture
def direct(bucket: Store) -> Store:
    """The bucket without the proxy, as every test finds it."""
    for key in ("written", "put", "deleted", "list/a", "list/b"):
        bucket.write(key, OLD)
    bucket.delete("created")
    return bucket


@pytest.fixture
def faulty(s3: Server, proxy: Proxy, direct: Store) -> Store:
    """The same through the proxy; its client gives up soon, so that the tests take no hours."""
    return connect(direct.url, s3.options(proxy.url) | {"config_kwargs": TIMEOUTS})


def verbs(store: Store, file: Path) -> dict[str, tuple[Callable[[], object], object]]:
    """Every verb and what it answers when it works."""

    def done(action: Callable[..., None], *arguments: Any) -> Callable[[], object]:
        return lambda: action(*arguments) or DONE

    return {
        "read": (lambda: store.read("large") == LARGE, True),
        "range": (lambda: store.read("large", 5, 9_000_000) == LARGE[5:9_000_000], True),
        "write": (done(store.write, "written", NEW), DONE),
        "put": (done(store.put, "put", file), DONE),
        "create": (lambda: store.create("created", NEW), True),
        "create over": (lambda: store.create("list/a", NEW), False),
        "list": (lambda: store.list("list"), ["list/a", "list/b"]),
        "size": (lambda: store.size("large"), len(LARGE)),
        "missing": (lambda: store.size("missing"), None),
        "delete": (done(store.delete, "deleted"), DONE),
    }


def outcome(action: Callable[[], object]) -> tuple[object, float]:
    began = time.monotonic()
    try:
        result: object = action()
    except Exception as error:
        result = error
    return result, time.monotonic() - began


def content(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key)
    except KeyMissing:
        return None


def nothing_is_half(store: Store) -> None:
    assert content(store, "written") in (OLD, NEW)
    assert content(store, "put") in (OLD, LARGE)
    assert content(store, "created") in (None, NEW)
    assert content(store, "deleted") in (None, OLD)
    assert content(store, "list/a") == OLD
    assert content(store, "large") == LARGE


@pytest.mark.parametrize("name", FAULTS)
def test_a_call_is_right_or_raises_in_time(
    name: str, proxy: Proxy, direct: Store, faulty: Store, file: Path
) -> None:
    calls = verbs(faulty, file)
    with proxy.fault(**FAULTS[name]) as fault, ThreadPoolExecutor(len(calls)) as pool:
        outcomes = dict(zip(calls, pool.map(outcome, [call for call, _ in calls.values()]), strict=True))
    for verb, (result, took_s) in outcomes.items():
        if isinstance(result, Exception):
            assert isinstance(result, StorageError), f"{verb}: {result!r}"
            assert not isinstance(result, KeyMissing), f"{verb}: {result!r}"
            assert isinstance(result, StorageDenied) == (name == "403"), f"{verb}: {result!r}"
        elif verb != "create":  # whose own first try may have taken the place
            assert result == calls[verb][1], verb
        assert took_s < BOUND_S, verb
    assert fault.hits > 0 or fault.is_total
    if name == "slow":
        assert not [result for result, _ in outcomes.values() if isinstance(result, Exception)]
    nothing_is_half(direct)


@pytest.mark.parametrize("name", FAULTS)
def test_who_is_patient_succeeds(name: str, proxy: Proxy, direct: Store, faulty: Store, file: Path) -> None:
    patient = Patient(faulty, patience_s=60.0, pause_s=(0.05, 0.3))
    calls = verbs(patient, file)
    with proxy.fault(**FAULTS[name]) as fault, ThreadPoolExecutor(len(calls)) as pool:
        waiting = {verb: pool.submit(outcome, call) for verb, (call, _) in calls.items()}
        time.sleep(1.0)
        fault.lift()
    assert {verb: each.result()[0] for verb, each in waiting.items()} == {
        verb: right for verb, (_, right) in calls.items()
    }
    assert content(direct, "written") == NEW
    assert content(direct, "put") == LARGE
    assert content(direct, "created") == NEW
    assert content(direct, "deleted") is None
    nothing_is_half(direct)


@pytest.mark.parametrize("kind", ["cut_request", "lost_answer", "status"])
def test_one_part_of_an_upload_that_fails_costs_nothing(
    kind: str, proxy: Proxy, direct: Store, faulty: Store, file: Path
) -> None:
    fault = proxy.fault(kind, match=r"PUT .*partNumber=", nth=3)
    Patient(faulty, patience_s=60.0).put("put", file)
    assert fault.hits == 1
    assert content(direct, "put") == LARGE


def test_a_body_that_ends_early_is_never_short_data(proxy: Proxy, faulty: Store) -> None:
    fault = proxy.fault("cut", match="GET .*large", nth=2, after=100_000)
    result, _ = outcome(lambda: faulty.read("large"))
    assert fault.hits == 1
    assert result == LARGE or isinstance(result, StorageError)


def test_wrong_credentials_are_denied(s3: Server) -> None:
    url = f"s3://{s3.bucket()}/runs"
    for options in ({"key": "nobody"}, {"secret": "wrong-secret"}):
        store = connect(url, s3.options() | options)
        for verb in (lambda store=store: store.read("k"), lambda store=store: store.write("k", b"1")):
            with pytest.raises(StorageDenied):
                verb()
        with pytest.raises(UserError, match="the credentials are wrong") as raised:
            probe(store)
        assert "\n  do: " in str(raised.value)
        assert "wrong-secret" not in str(raised.value)
        assert s3.secret not in str(raised.value)


def test_a_bucket_that_is_not_there_is_denied(s3: Server) -> None:
    store = connect("s3://no-such-bucket-here/runs", s3.options())
    for verb in (lambda: store.write("k", b"1"), lambda: store.list(), lambda: store.size("k")):
        with pytest.raises(StorageDenied, match="no-such-bucket-here"):
            verb()
    with pytest.raises(UserError, match="there is no such bucket") as raised:
        probe(store)
    assert "\n  do: create it" in str(raised.value)


def test_a_server_that_is_not_there_is_told_at_the_start(s3: Server, proxy: Proxy) -> None:
    store = connect(f"s3://{s3.bucket()}/runs", s3.options(proxy.url))
    with proxy.fault("refuse"), pytest.raises(UserError, match="there is no answer"):
        probe(store)
