"""The complete state of a run, kept: written by every rank, committed by rank 0, verified before it is used.

    Saver                                     writes, in the background
    seal(store, attempt)                      closes what earlier attempts left open
    newest(store), load(store, manifest)      the newest good one, and its arrays; `load_newest` is both
    listing(store), verify(store, manifest)   what is there, and whether it is what was written
    retention.keep(...)                       which ones stay

    checkpoints/step-00001000.a1/             below the run's folder: step, and the attempt that wrote it
      weights.safetensors  optimizer.safetensors          rank 0
      chains-0000-of-0004.safetensors                     every rank that has chains
      parts/rank-0000.json                                every rank, after its parts: files, sizes, sha256
      manifest.json                                       rank 0, last: without it this is no checkpoint

Sizes and sums are of the bytes, so a checkpoint that is used is the one that was written, bit for bit.
"""

from lehr.checkpoint.manifest import Listed, Manifest, Part, committed_names, listing, read_manifest
from lehr.checkpoint.parts import State
from lehr.checkpoint.reader import Found, Loaded, load, load_newest, newest, verify
from lehr.checkpoint.saver import Saver
from lehr.checkpoint.sealing import seal

__all__ = [
    "Found",
    "Listed",
    "Loaded",
    "Manifest",
    "Part",
    "Saver",
    "State",
    "committed_names",
    "listing",
    "load",
    "load_newest",
    "newest",
    "read_manifest",
    "seal",
    "verify",
]
