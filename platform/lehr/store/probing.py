"""Whether a store can be written; if not, what to do about it."""

from __future__ import annotations

import re
import threading
import uuid

from lehr.errors import KeyMissing, StorageError, UserError, letter
from lehr.store.connection import ACCEPTED
from lehr.store.failures import Kind, kind
from lehr.store.store import Store

PATIENCE_S = 30.0  # the longest that `probe` takes

_DO = {
    Kind.NO_BUCKET: "create it (lehr makes no buckets), or name another with --storage URL",
    Kind.CREDENTIALS: (
        "name them in storage_options by reference (key: env:NAME, secret: file:PATH), or give them to this "
        "process where its cloud looks: for s3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE and "
        "~/.aws, the role of the container or machine; a clock that is wrong makes good ones bad"
    ),
    Kind.PERMISSION: "let these credentials, or this user, list, read, write and delete there",
    Kind.UNREACHABLE: (
        "look whether the address is right (storage_options: endpoint_url, or AWS_ENDPOINT_URL), the name "
        "resolves and the server runs"
    ),
    Kind.FULL: "make room, or name another with --storage URL",
}
_OTHERWISE = "name another with --storage URL, or mend its address, credentials or permissions"


def probe(store: Store, patience_s: float = PATIENCE_S) -> None:
    """Write, read, list and delete a small key, so that a run fails at its start and not at its first save.

    Args:
        store: any.
        patience_s: how long to wait for an answer, in seconds.

    Raises:
        UserError: the store cannot be written.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            _use(store)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="lehr-probe", daemon=True)
    thread.start()
    thread.join(patience_s)
    if thread.is_alive():
        errors = [StorageError(f"{store.url}: no answer within {patience_s:.0f} s")]
        errors[0].__cause__ = TimeoutError()
    for error in errors:
        raise _letter(store, error) if isinstance(error, StorageError) else error from error


def _use(store: Store) -> None:
    key = f"lehr-probe-{uuid.uuid4().hex}"
    store.write(key, key.encode())
    if store.read(key) != key.encode():
        raise StorageError("what was read back is not what was written")
    store.folders()
    store.delete(key)


def _letter(store: Store, error: StorageError) -> UserError:
    said = re.sub(rf"^{re.escape(store.url)}(/lehr-probe-\w+)?/?: ", "", str(error))
    return refusal(store.url, "cannot be written", error, said=said)


def refusal(where: str, what: str, error: StorageError, *, said: str = "") -> UserError:
    """The letter about a storage that does not do it, with what to do.

    Args:
        where: the storage, and perhaps who asked.
        what: what cannot be done.
        error: what it answered.
        said: that, in words; by default the error's own.
    """
    found = Kind.OTHER if isinstance(error, KeyMissing) else kind(error)
    why = "" if found is Kind.OTHER else f"{found.value}: "
    accepted = ACCEPTED if found is Kind.OTHER else ""
    came = f"{what}: {why}{said or error}"
    return UserError(letter(where, came, accepted=accepted, do=_DO.get(found, _OTHERWISE)))
