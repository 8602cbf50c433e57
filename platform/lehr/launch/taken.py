"""Models taken from where they were trained, for an evaluation: a run's own, and what gives features."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from lehr import checkpoint
from lehr import plan as plans
from lehr import store as stores
from lehr.checkpoint.manifest import Manifest
from lehr.data import download
from lehr.errors import UserError, letter
from lehr.evaluations import recipe
from lehr.evaluations.asking import Trained
from lehr.launch import admission, local
from lehr.plan import Plan
from lehr.store import Store

ASSETS = "assets"
AVERAGE = "average"  # of an optimizer's arrays: running means of the weights, and their count


def trained(run: Store, plan: Plan, manifest: Manifest) -> Trained:
    """The model of a committed checkpoint, read here once: retention may delete it while it is evaluated."""
    state = checkpoint.load(run, manifest, first_slot=0, slots=0)
    averages = {name: array for name, array in state.optimizer.items() if name.startswith(AVERAGE)}
    names = run.list(ASSETS)
    assets = {name.removeprefix(f"{ASSETS}/"): run.read(name) for name in names}
    source = f"{manifest.name} of {run.url}"
    return Trained(plan.document(), state.weights, averages, assets, source, dict(manifest.metrics))


def extractor(plan: Plan) -> Trained:
    """Our LeNet on the data of `plan`, trained once a data set and kept in the user's cache folder.

    It is an ordinary run. Trained elsewhere it may differ in its last bits, which is why its hash stands
    beside every number.

    Raises:
        LehrError: it could not be trained.
    """
    job = recipe.job(plan)
    kept = _kept(job)
    if not kept.is_dir():
        _train(job, kept)
    return of_run(stores.connect(str(kept)).below(job.run_id), source=f"recipe {job.spec_hash[:16]}")


def is_kept(plan: Plan) -> bool:
    """Whether the extractor for the data of `plan` has been trained here."""
    return _kept(recipe.job(plan)).is_dir()


def _kept(job: Plan) -> Path:
    name = f"{recipe.NAME}-{job.spec_hash[:16]}-{recipe.STEPS}"
    return download.cache_folder().parent / "features" / name


def _train(job: Plan, kept: Path) -> None:
    """In a folder of its own, which takes its name when it is whole: several may train it at once."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=kept.parent) as folder:
        storage = stores.connect(str(Path(folder, "kept")))
        admission.prepare(job, storage.below(job.run_id))
        local.spawn(job, storage)
        try:
            Path(folder, "kept").rename(kept)
        except OSError:  # another one was first
            if not kept.is_dir():
                raise


def of_run(run: Store, *, source: str) -> Trained:
    """The extractor that a run trained.

    Raises:
        UserError: the folder is none of a run, or it has no checkpoint, or its model is no lenet.
    """
    document = admission.document(run, "plan.json")
    kind = document["spec"]["model"]["kind"] if document else "nothing that can be read"
    found = checkpoint.newest(run).manifest if kind == recipe.NAME else None
    if found is None:
        came = f"{source} has no checkpoint" if kind == recipe.NAME else f"{source} trains {kind}"
        raise UserError(letter("--features", came, accepted="a run of model lenet that has a checkpoint"))
    taken = trained(run, plans.restore(document), found)
    return dataclasses.replace(taken, source=f"{found.name} of {source}")
