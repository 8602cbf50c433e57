"""Where a run is kept: keys and bytes, on anything that fsspec has a filesystem for.

    connect(url, options) -> Store            a folder, file://, memory://, s3://, gs://, ...
    probe(store)                              write, read and delete a small key, or say why not
    refusal(where, what, error)               the letter about a storage that does not do it

Nothing here assumes folders, renames or local paths: an object store has none. A key is a relative,
`/`-separated string; paths are strings because a URL's double slash collapses in `Path`.
"""

from lehr.store.connection import connect
from lehr.store.probing import probe, refusal
from lehr.store.store import Store

__all__ = ["Store", "connect", "probe", "refusal"]
