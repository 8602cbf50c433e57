"""Where a life starts: the newest good checkpoint, another run's weights, or the seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lehr import checkpoint
from lehr import store as stores
from lehr.checkpoint import State
from lehr.checkpoint.manifest import Manifest
from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.spec import secrets
from lehr.store import Store
from lehr.strategies.guard import agree
from lehr.strategies.strategy import Strategy
from lehr.worker.build import Built
from lehr.worker.state import assign, named_weights

Tell = Callable[..., Any]


def loaded(plan: Plan, run: Store, strategy: Strategy, tell: Tell) -> tuple[Manifest, State] | None:
    """The newest good checkpoint and this worker's part of it; rank 0 chooses, verifies, and others follow.

    Before the parts of a worker are built: what the checkpoint tells of detours decides how.

    Returns:
        None for a start from the seed.
    """
    rows = {"first_slot": strategy.rank * plan.batch_per_worker, "slots": plan.batch_per_worker}
    manifest, state = None, None
    if strategy.rank == 0:
        found = checkpoint.load_newest(run, spec_hash=plan.spec_hash, **rows)
        manifest, state = found.manifest, found.state
        for name, reason in found.skipped:
            tell("checkpoint_skipped", checkpoint=name, reason=reason)
    step, attempt = agree(strategy, [manifest.step, manifest.attempt] if manifest else [0, 0])
    if attempt == 0:
        return None
    manifest = manifest or checkpoint.read_manifest(run, step, attempt)
    return manifest, state or checkpoint.load(run, manifest, **rows)


def initialise(plan: Plan, built: Built, tell: Tell) -> None:
    """Take the weights, and only them, of the run that `init_from` names."""
    node = plan.spec.init_from
    if node is None:
        return
    source = stores.connect(node.run, secrets.resolved(node.storage_options))
    found = checkpoint.newest(source, step=node.step if isinstance(node.step, int) else None)
    if found.manifest is None:
        raise UserError(letter("init_from.run", f"{node.run} has no checkpoint", do="see `lehr checkpoints`"))
    state = checkpoint.load(source, found.manifest, first_slot=0, slots=0)
    assign(named_weights(built.model), state.weights, what="weights of init_from")
    tell("initialised_from", run=node.run, checkpoint=found.manifest.name)
