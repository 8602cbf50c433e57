"""The plan: a spec with every number resolved. What a worker needs to know, and what `lehr plan` prints.

No TensorFlow here: a plan is made where the job file is, before anything is started.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lehr import spec as specs
from lehr.cadence import NEVER, Cadence, steps_per_epoch
from lehr.errors import UserError, letter
from lehr.spec import Spec, needs, rules
from lehr.spec.durations import Every
from lehr.spec.place import refuse

FORMAT = 1
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_GIB = 1 << 30
_BYTES = 4  # parameters, optimizer slots and chains are float32 under every precision


@dataclass(frozen=True)
class Plan:
    """One run's numbers. Counts are of examples unless they say otherwise.

    Replicas = workers x devices_per_worker. Worker r owns the global positions
    [r * batch_per_worker, (r + 1) * batch_per_worker) of every batch, and the chains of those slots. The last
    batch of an epoch may be partial. `parameters` and `checkpoint_bytes` are None when the model's kind
    cannot tell.
    """

    run_id: str
    spec: Spec
    spec_hash: str
    workers: int
    devices_per_worker: int
    replicas: int
    global_batch: int
    batch_per_worker: int
    batch_per_replica: int
    threads_per_worker: int
    train_examples: int
    validation_examples: int
    steps_per_epoch: int
    steps: int
    checkpoint_every: Cadence
    samples_every: Cadence
    validate_every: Cadence
    track_every: Cadence
    parameters: int | None
    checkpoint_bytes: int | None

    def document(self) -> dict[str, Any]:
        """The plan as plain JSON values: `plan.json`. It holds references to secrets, no secrets."""
        numbers = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        cadences = {
            name: {"steps": value.steps, "minutes": value.minutes}
            for name, value in numbers.items()
            if isinstance(value, Cadence)
        }
        return {"format": FORMAT} | numbers | {"spec": self.spec.document()} | cadences

    def storage_options(self) -> dict[str, Any]:
        """The store's options with the secrets put in: for the call that connects, and for nothing else."""
        options: dict[str, Any] = specs.secrets.resolved(self.spec.storage_options)
        return options

    def warnings(self) -> list[str]:
        """What may well be meant, but is likely not: one letter each."""
        spool = self.spec.recovery.spool_gib * _GIB
        told = []
        if self.checkpoint_bytes is not None and self.checkpoint_bytes > spool:
            size = f"{self.checkpoint_bytes / _GIB:.3g} GiB"
            came = f"{self.spec.recovery.spool_gib:g} GiB are less than one checkpoint ({size})"
            do = "give it room for two: else each is sent straight from memory, and waits for storage there"
            told.append(self.spec.problem("recovery.spool_gib", came, do=do))
        told += needs.packages(self.spec)
        return [problem.letter() for problem in told]

    def at(self, workers: int) -> Plan:
        """The plan of an attempt with that many workers: the same run, divided otherwise.

        Raises:
            UserError: the job does not go with that many.
        """
        if workers == self.workers:
            return self
        if workers not in self.sizes:
            came = f"{workers} workers are none of the numbers that this run can have"
            raise UserError(letter("strategy.workers", came, accepted=", ".join(map(str, self.sizes))))
        replicas = workers * self.devices_per_worker
        return dataclasses.replace(
            self, workers=workers, replicas=replicas, batch_per_worker=self.global_batch // workers,
            batch_per_replica=self.global_batch // replicas,
        )  # fmt: skip

    @property
    def side_by_side(self) -> bool:
        """Whether a step is many small operations, of which several run at once with a thread each: Langevin
        chains. Others are a few large ones, which share all threads."""
        sampler = self.spec.sampler
        return sampler is not None and sampler.kind == "langevin"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of workers that an attempt may have, least first; more than one in an elastic run."""
        return rules.sizes(self.spec)

    @property
    def checkpoints_kept(self) -> int:
        """The most checkpoints that lie in storage at once, one being written not counted."""
        kept = self.spec.checkpoint
        return kept.keep_last + (1 if kept.keep_best else 0)


def make(spec: Spec, *, run_id: str | None = None) -> Plan:
    """Resolve every number of a run.

    Args:
        spec: the job.
        run_id: the run's name and folder; by default the job's name, so that the same command continues
            the run.

    Raises:
        SpecError: the parts of the spec do not fit each other; the message tells all of it.
        UserError: `run_id` cannot name a folder.
    """
    refuse(rules.problems(spec))
    train_examples, validation_examples = spec.data.examples()
    size = {"train_examples": train_examples, "global_batch": spec.train.global_batch}
    workers, replicas = rules.workers(spec), rules.replicas(spec)
    parameters = spec.model.parameters(spec.data.shape)
    return Plan(
        run_id=_run_id(run_id or spec.name),
        spec=spec,
        spec_hash=specs.spec_hash(spec),
        workers=workers,
        devices_per_worker=spec.strategy.devices_per_worker,
        replicas=replicas,
        global_batch=spec.train.global_batch,
        batch_per_worker=spec.train.global_batch // workers,
        batch_per_replica=spec.train.global_batch // replicas,
        threads_per_worker=spec.strategy.cpus_per_worker,
        train_examples=train_examples,
        validation_examples=validation_examples,
        steps_per_epoch=steps_per_epoch(train_examples, spec.train.global_batch),
        steps=spec.train.duration.steps_for(**size),
        checkpoint_every=_cadence(spec.checkpoint.every, size),
        samples_every=_cadence(spec.samples.every if spec.samples else None, size),
        validate_every=_cadence(spec.validation.every if validation_examples else None, size),
        track_every=_cadence(spec.tracking.every, size),
        parameters=parameters,
        checkpoint_bytes=_checkpoint_bytes(spec, parameters),
    )


def restore(document: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.document` described.

    Raises:
        UserError: it is not a plan, or one of another format.
    """
    if document.get("format") != FORMAT:
        came = f"format {document.get('format')!r} is not one that this lehr reads"
        raise UserError(letter("plan.json", came, accepted=str(FORMAT), do="use the lehr that wrote it"))
    names = [field.name for field in dataclasses.fields(Plan)]
    if missing := [name for name in names if name not in document]:
        raise UserError(
            letter("plan.json", f"{', '.join(missing)} missing", do="make the plan again: lehr plan")
        )
    values = {name: document[name] for name in names}
    cadences = {name: Cadence(**values[name]) for name in names if name.endswith("_every")}
    return Plan(**(values | cadences | {"spec": specs.restore(document["spec"])}))


def _run_id(text: str) -> str:
    if RUN_ID.fullmatch(text) is None:
        came = f"{specs.secrets.show(text)} cannot name a run's folder"
        raise UserError(
            letter("run id", came, accepted="1 to 100 letters, digits, dots, hyphens and underscores")
        )
    return text


def _cadence(every: Every | None, size: Mapping[str, int]) -> Cadence:
    return every.cadence_for(**size) if every is not None else NEVER


def _checkpoint_bytes(spec: Spec, parameters: int | None) -> int | None:
    """Bytes of one checkpoint: weights, optimizer slots and chains."""
    if parameters is None:
        return None
    copies = 1 + spec.train.optimizer.slots + (spec.train.average is not None)
    return _BYTES * parameters * copies + _chains_bytes(spec)


def _chains_bytes(spec: Spec) -> int:
    """Of the replay buffer: images, an age for each, and two places for each slot of the global batch; of
    persistent Gibbs chains, one for each slot: the units in which one rests."""
    if spec.sampler is None:
        return 0
    if spec.sampler.kind == "gibbs":
        rests = getattr(spec.model, "chain", None)
        return spec.train.global_batch * (rests(spec.data.shape) if rests else 0) * spec.sampler.persistent
    size = spec.sampler.buffer.size
    return size * (_BYTES * math.prod(spec.data.shape) + 8) + 2 * 8 * spec.train.global_batch
