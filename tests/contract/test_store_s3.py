"""A real S3 server against the suite of all stores, plainly and through a proxy that fails nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ceph import Server
from contract.store_suite import StoreSuite
from faults import Proxy
from lehr.store import Store, connect


class TestS3(StoreSuite):
    @pytest.fixture
    def store(self, s3: Server) -> Store:
        return connect(f"s3://{s3.bucket()}/a prefix", s3.options())

    def test_again_and_again_of_many_who_create_one_wins(self, store: Store, s3: Server) -> None:
        """Other machines have no lock in common: the server itself must decide, whoever is asked."""
        url = store.url
        stores = [connect(url, s3.options()) for _ in range(8)]
        for turn in range(10):
            together = threading.Barrier(8)

            def claim(number: int, turn: int = turn, together: threading.Barrier = together) -> bool:
                together.wait()
                return stores[number]._create(f"claims/{turn}", str(number).encode())  # type: ignore[attr-defined]

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(claim, range(8)))
            assert won.count(True) == 1
            assert store.read(f"claims/{turn}") == str(won.index(True)).encode()


class TestS3ThroughTheProxy:
    @pytest.fixture
    def store(self, s3: Server) -> Iterator[Store]:
        with Proxy(s3.endpoint) as proxy:
            yield connect(f"s3://{s3.bucket()}", s3.options(proxy.url))

    test_what_is_written_is_read = StoreSuite.test_what_is_written_is_read
    test_nothing_is_a_value = StoreSuite.test_nothing_is_a_value
    test_a_file_is_put_whole = StoreSuite.test_a_file_is_put_whole
    test_a_missing_key_is_told = StoreSuite.test_a_missing_key_is_told
    test_create_takes_only_what_is_free = StoreSuite.test_create_takes_only_what_is_free
    test_list_is_sorted_and_deep = StoreSuite.test_list_is_sorted_and_deep
    test_delete_removes_and_forgives = StoreSuite.test_delete_removes_and_forgives
    test_names_are_taken_as_they_are = StoreSuite.test_names_are_taken_as_they_are
