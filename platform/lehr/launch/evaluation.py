"""An evaluation as work of its own: in this process, or spread over the tasks of a Ray cluster.

The numbers do not depend on which: samples are drawn in portions, each from a seed of its own, and what
tasks send back are features, put together in the order of the portions.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lehr import plan as plans
from lehr.errors import LaunchError, UserError, letter
from lehr.evaluations import recipe
from lehr.evaluations.asking import DIMENSION, HELD_OUT, LIKELIHOOD, Question
from lehr.launch import embedded, entry, failure, room
from lehr.launch.failure import Failure
from lehr.measures import likelihood
from lehr.measures.comparison import compare, scale
from lehr.plan import Plan
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.evaluating import Piece

DRAWN, UNTRAINED, DATA, HELD, NOISE = "samples", "untrained", "data", "held_out", "noise"
MARGINAL = "marginal"
LEAST = 4  # rows that any of the measures takes
NUMBERS = (HELD_OUT, LIKELIHOOD, MARGINAL)  # pieces whose answer is numbers; that of others is features


@dataclasses.dataclass(frozen=True)
class Answer:
    """Numbers by name, how many rows each set of features had, and the root mean square of the real ones."""

    values: Mapping[str, float]
    counts: Mapping[str, int]
    scale: float = 1.0  # of the features of real images


# --- who computes ---------------------------------------------------------------------------------------


def here(question: Question) -> Answer:
    """In this process."""
    from lehr.worker.evaluating import Evaluator

    evaluator, pieces = Evaluator(question), [piece for bundle in _bundles(question, 1) for piece in bundle]
    return _together(question, [(piece, evaluator.answer(piece)) for piece in pieces])


def on_ray(question: Question, run: Store, *, address: str | None, tasks: int | None = None) -> Answer:
    """In tasks on a Ray cluster: one for what is small, and as many for the samples as there is room for.

    Args:
        question: what is asked.
        run: the run's folder, for messages.
        address: of the cluster; None starts one on this machine for as long as it takes.
        tasks: how many to draw samples in; None: as many as have room now.

    Raises:
        LehrError: the cluster cannot be reached, never has room, or a task failed.
    """
    embedded.prepare(address)
    plan = plans.restore(question.subject.plan)
    wanted = max(1, min(tasks or question.portions, question.portions))
    with embedded.cluster(_alone(plan), address, trials=wanted + 1, loads="ray") as there:
        graphics = min(1, room.graphics(plan, there, least=1))
        asked = room.wants(plan, gpus=graphics)
        room.require(there, asked, least=1, most=wanted)
        if tasks is None:
            wanted = max(1, min(wanted, room.now(there, asked) - 1))
        return _together(question, _gathered(question, _bundles(question, wanted), asked, run))


def _alone(plan: Plan) -> Plan:
    """One task of a cluster of our own asks for what one worker does."""
    return dataclasses.replace(plan, workers=1)


def _gathered(
    question: Question, bundles: Sequence[Sequence[Piece]], asked: Mapping[str, float], run: Store
) -> list[tuple[Piece, Any]]:
    import ray

    rest = {name: amount for name, amount in asked.items() if name not in ("CPU", "GPU", "memory")}
    task = ray.remote(
        num_cpus=asked["CPU"], num_gpus=asked.get("GPU", 0.0), memory=asked.get("memory"), resources=rest,
        max_calls=1,  # its process ends with it, and gives a GPU's memory back
    )(_task)  # fmt: skip
    shared = ray.put(question)
    environment = entry.environment(plans.restore(question.subject.plan), 1)
    if "GPU" not in asked:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        told = ray.get([task.remote(shared, list(pieces), environment, os.getcwd()) for pieces in bundles])
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        raise LaunchError(letter("ray", f"a task of the evaluation was lost ({first})",
                                 do="give the same command again")) from error  # fmt: skip
    failures = {i: Failure(**each["failure"]) for i, each in enumerate(told) if "failure" in each}
    if failures:
        raise failure.error(failures, run, url=run.url)
    return [pair for each in told for pair in each["answers"]]


def _task(
    question: Question, pieces: list[Piece], environment: dict[str, str], folder: str
) -> dict[str, Any]:
    """In a process of Ray's. What it raises comes back as a document: TensorFlow's errors cannot travel."""
    try:
        entry.settle(folder)
        plan = plans.restore(question.subject.plan)
        os.environ |= environment
        from lehr.strategies import devices
        from lehr.worker.evaluating import Evaluator

        devices.configure(threads=plan.threads_per_worker, devices=1)
        evaluator = Evaluator(question)
        return {"answers": [(piece, evaluator.answer(piece)) for piece in pieces]}
    except BaseException as error:
        return {"failure": failure.of(error).document()}


# --- what is asked ----------------------------------------------------------------------------------


def require(question: Question) -> None:
    """Refuse counts that give no number worth having.

    Raises:
        UserError: there are too few samples, or too little data.
    """
    plan = plans.restore(question.subject.plan)
    if question.of_images and min(plan.train_examples, question.count) < LEAST:
        came = f"{question.count} samples and {plan.train_examples} training examples"
        raise UserError(letter("--count", came, accepted=f"{LEAST} or more of each"))
    if "fid" not in question.metrics:
        return
    least = DIMENSION + 1
    do = "take more, or leave fid out of --metrics: kid has no bias, whatever the count"
    if question.count < least:
        came = f"{question.count} samples: the covariance of {DIMENSION} features needs more"
        raise UserError(letter("--count", came, accepted=f"{least} or more", do=do))
    if plan.train_examples < least:
        came = f"its data has {plan.train_examples} training examples, and {DIMENSION} features need {least}"
        raise UserError(letter(f"run {plan.run_id}", came, do=do))


def facts(question: Question, answer: Answer) -> dict[str, Any]:
    """What the numbers depend on, for the journal."""
    trained = question.extractor
    if trained is None:
        return {"versions": question.versions}
    features = {
        "kind": recipe.NAME,
        "dimension": DIMENSION,
        "sha256": trained.sha256,
        "source": trained.source,
        "accuracy": trained.metrics.get("validation/accuracy"),
        "scale": answer.scale,
    }
    return {
        "counts": dict(answer.counts),
        "features": features,
        "seed": question.seed,
        "portion": question.portion,
        **question.settings,
        "versions": question.versions,
    }


# --- what is computed -----------------------------------------------------------------------------------


def _bundles(question: Question, tasks: int) -> list[list[Piece]]:
    """What each task does: the samples in so many, one for what is small, one for what is long."""
    long: list[Piece] = [(LIKELIHOOD, ())] if LIKELIHOOD in question.metrics else []
    return [bundle for bundle in (_small(question), long, *_large(question, tasks)) if bundle]


def _small(question: Question) -> list[Piece]:
    pieces: list[Piece] = []
    if HELD_OUT in question.metrics:
        pieces.append((HELD_OUT, ()))
        if question.baselines and getattr(plans.restore(question.subject.plan).spec.data, "levels", None):
            pieces.append((MARGINAL, ()))
    if question.of_images:
        pieces.append((DATA, ()))
    if question.of_images and question.baselines:
        held_out = plans.restore(question.subject.plan).validation_examples
        pieces += [*([(HELD, ())] if held_out >= LEAST else []), (NOISE, ())]
    return pieces


def _large(question: Question, tasks: int) -> list[list[Piece]]:
    """The samples' portions for each task."""
    if not question.of_images:
        return [[] for _ in range(tasks)]
    names = (DRAWN, UNTRAINED) if question.baselines else (DRAWN,)
    shares = [tuple(range(task, question.portions, tasks)) for task in range(tasks)]
    return [[(name, share) for name in names] for share in shares]


def _together(question: Question, answers: Sequence[tuple[Piece, Any]]) -> Answer:
    """Numbers from what the pieces came to."""
    values: dict[str, float] = {}
    for (name, _), found in answers:
        if name in NUMBERS:
            values |= found | derived(plans.restore(question.subject.plan), found)
    sets = {name: _joined(question, name, answers) for name in (DRAWN, UNTRAINED, HELD, NOISE, DATA)}
    sets = {name: rows for name, rows in sets.items() if len(rows)}
    for name in (DRAWN, UNTRAINED, HELD, NOISE):
        if name in sets:
            values |= _compared(question, name, sets[DATA], sets[name])
    counts = {name: len(rows) for name, rows in sets.items()}
    return Answer(values, counts, scale(sets[DATA]) if DATA in sets else 1.0)


def _joined(question: Question, name: str, answers: Sequence[tuple[Piece, Any]]) -> np.ndarray:
    """All features of one set, those of portions in their order whoever drew them."""
    parts: dict[int, np.ndarray] = {}
    for (found, portions), rows in answers:
        if found == name:
            cuts: Any = np.cumsum([question.portion] * (len(portions) - 1)) if portions else []
            parts |= dict(zip(portions or (0,), np.split(rows, cuts), strict=True))
    return np.concatenate([parts[portion] for portion in sorted(parts)]) if parts else np.zeros((0, 0))


def _compared(question: Question, name: str, real: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """The numbers of one set; of held-out data what its count allows."""
    enough = len(rows) > rows.shape[1] or name != HELD
    metrics = [metric for metric in question.of_images if enough or metric != "fid"]
    found = compare(real, rows, metrics, extractor=recipe.NAME)
    return {f"{name}/{metric}": value for metric, value in found.items()}


def derived(plan: Plan, values: Mapping[str, float]) -> dict[str, float]:
    """What follows from shares that add: a perplexity does not, so no objective reports it."""
    loss = values.get("validation/loss")
    if plan.spec.objective.kind != "language" or loss is None:
        return {}
    return {"validation/perplexity": likelihood.perplexity(loss)}
