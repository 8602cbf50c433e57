"""What is sent beside checkpoints: in order, past outages, and never in anybody's way."""

from __future__ import annotations

import threading
import time

import pytest

from lehr.errors import StorageError, Superseded
from lehr.worker import outbox
from lehr.worker.outbox import Item, Outbox


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAUSE_S", (0.001, 0.002))


class Post:
    """Items that note what became of them."""

    def __init__(self) -> None:
        self.sent, self.failed, self.tries = list[int](), list[tuple[int, str]](), 0

    def item(self, number: int, *errors: Exception) -> Item:
        left = list(errors)

        def send() -> None:
            self.tries += 1
            if left:
                raise left.pop(0)
            self.sent.append(number)

        return Item(send, lambda reason: self.failed.append((number, reason)))


def test_items_go_out_in_order_and_a_failure_is_told() -> None:
    post, box = Post(), Outbox()
    errors = {1: Superseded("it is over"), 2: ZeroDivisionError("a defect")}
    for number in range(4):
        box.add(post.item(number, *([errors[number]] if number in errors else [])))
    assert box.empty(30)
    assert post.sent == [0, 3]
    assert post.failed == [(1, "it is over"), (2, "ZeroDivisionError: a defect")]
    box.close(30)


def test_an_outage_is_outlasted_however_long_it_is() -> None:
    post, box = Post(), Outbox(lambda: True, patience_s=0.0)
    box.add(post.item(0, *[StorageError("503")] * 50))
    assert box.empty(30)
    assert (post.sent, post.failed) == ([0], [])
    box.close(30)


def test_what_alone_is_refused_is_given_up_in_the_end() -> None:
    post, box = Post(), Outbox(lambda: False, patience_s=0.05)
    box.add(post.item(0, *[StorageError("503")] * 100_000))
    assert box.empty(30)
    assert (post.sent, post.failed) == ([], [(0, "503")])
    assert post.tries > 1
    box.close(30)


def test_the_oldest_is_given_up_for_a_new_one() -> None:
    post, box, go = Post(), Outbox(limit=2), threading.Event()
    box.add(Item(lambda: (go.wait(30), None)[1], lambda reason: None))
    while box._items:
        time.sleep(0.001)
    for number in range(4):
        box.add(post.item(number))
    assert [number for number, _ in post.failed] == [0, 1]
    go.set()
    assert box.empty(30)
    assert post.sent == [2, 3]
    box.close(30)


def test_the_end_tells_what_was_not_sent_and_waits_no_longer_than_it_says() -> None:
    post, box = Post(), Outbox(lambda: True)
    for number in range(3):
        box.add(post.item(number, *[StorageError("503")] * 10**6))
    began = time.monotonic()
    box.close(0.1)
    assert time.monotonic() - began < 30
    assert [number for number, _ in post.failed] == [0, 1, 2]
    box._thread.join(30)
    assert not box._thread.is_alive()
    assert len(post.failed) == 3, "each is told once"
