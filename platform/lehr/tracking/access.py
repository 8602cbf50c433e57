"""Whether W&B is to be reached, and with what key; nothing of W&B is loaded."""

from __future__ import annotations

import netrc
import os
from typing import Any
from urllib.parse import urlparse

from lehr.errors import UserError, letter
from lehr.spec import secrets

_HOST = "https://api.wandb.ai"


def key(node: Any) -> str | None:
    """The API key that the spec's node, the environment or ~/.netrc gives; never kept or shown."""
    if node is not None and node.api_key is not None:
        return secrets.resolve(node.api_key)
    if found := os.environ.get("WANDB_API_KEY"):
        return found
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(
            urlparse(os.environ.get("WANDB_BASE_URL", _HOST)).hostname or ""
        )
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None


def required(node: Any) -> str:
    """The API key.

    Raises:
        UserError: there is none. W&B itself would ask for one at a terminal.
    """
    if (found := key(node)) is None:
        accepted = "WANDB_API_KEY, tracking.wandb.api_key, or ~/.netrc (wandb login)"
        raise UserError(letter("W&B", "there is no API key", accepted=accepted))
    return found


def mode(node: Any) -> str:
    """`auto` is what WANDB_MODE says, else online when there is a key, else offline."""
    if node.mode != "auto":
        return str(node.mode)
    if found := os.environ.get("WANDB_MODE"):
        return {"dryrun": "offline", "run": "online"}.get(found, found)
    return "online" if node.api_key is not None or key(node) else "offline"
