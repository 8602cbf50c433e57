"""Every error that lehr raises on purpose.

    LehrError                 exit code 1
    ├── UserError             exit code 2: a mistake of the user's; the message is the whole answer
    │   └── SpecError         a job file or an override that cannot be accepted
    ├── StorageError          the store did not do what was asked; trying again may help
    │   ├── KeyMissing        no such key
    │   └── StorageDenied     the store answered and refuses: credentials, permissions, no such bucket
    ├── Superseded            a later attempt at the run has begun; this one may change nothing any more
    ├── CheckpointError       checkpoints exist and none can be loaded, or one cannot be committed
    ├── SyncError             replicas disagree
    ├── DivergenceError       training produced numbers that cannot be trained on
    └── LaunchError           workers could not be started or kept alive

A message is a letter: where, what came, what is accepted, what to do. `letter` lays it out.
"""

from __future__ import annotations


class LehrError(Exception):
    """Base of all. `exit_code` is what the CLI returns."""

    exit_code = 1


class UserError(LehrError):
    """A mistake in what the user gave: shown without a traceback."""

    exit_code = 2


class SpecError(UserError):
    """A job file or an override that cannot be accepted."""


class StorageError(LehrError):
    """The store did not do what was asked of it."""


class KeyMissing(StorageError):
    """The store has no such key."""


class StorageDenied(StorageError):
    """The store answered, and refuses: wrong credentials, no permission, no such bucket."""


class Superseded(LehrError):
    """A later attempt at the run has begun; this one may change nothing any more."""


class CheckpointError(LehrError):
    """No checkpoint could be loaded although some exist, or one could not be committed."""


class SyncError(LehrError):
    """Replicas that must agree do not."""


class DivergenceError(LehrError):
    """Training produced numbers that cannot be trained on."""


class LaunchError(LehrError):
    """Workers could not be started or kept alive."""


def letter(where: str, came: str, *, accepted: str = "", do: str = "") -> str:
    """Lay out an error message; one line for each thing known.

    Args:
        where: file, line and dotted path, or the command's argument.
        came: what was found there and why it cannot be used.
        accepted: what would be accepted.
        do: what to do about it.
    """
    lines = [f"{where}: {came}"]
    if accepted:
        lines.append(f"  accepted: {accepted}")
    if do:
        lines.append(f"  do: {do}")
    return "\n".join(lines)
