"""The sections of a job file that are the same for every model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from lehr.spec.durations import Duration, Every
from lehr.spec.node import (
    Count,
    Decay,
    Metric,
    Node,
    NotNegative,
    Options,
    Positive,
    Secret,
    Source,
    Step,
    Text,
    Texts,
    Whole,
    Workers,
    tag,
)

_EPOCH = Every.model_validate({"epochs": 1})
_TEN_STEPS = Every.model_validate({"steps": 10})


class Adam(Node):
    """Adam (Kingma and Ba 2015)."""

    kind: Literal["adam"]
    learning_rate: Positive = Field(description="Step size.")
    beta_1: Decay = Field(0.9, description="Decay of the mean of gradients.")
    beta_2: Decay = Field(0.999, description="Decay of the mean of squared gradients.")
    epsilon: Positive = Field(1e-7, description="Keeps the division finite.")

    @property
    def slots(self) -> int:
        """Numbers it keeps for each parameter."""
        return 2


class GradientDescent(Node):
    """Stochastic gradient descent, with momentum if asked."""

    kind: Literal["sgd"]
    learning_rate: Positive = Field(description="Step size.")
    momentum: Decay = Field(0.0, description="Share of the last update that is kept.")
    nesterov: bool = Field(False, description="Look ahead by the momentum (Nesterov).")

    @property
    def slots(self) -> int:
        """Numbers it keeps for each parameter."""
        return 1 if self.momentum else 0


Optimizer = Annotated[
    Annotated[Adam, Tag("kind=adam")] | Annotated[GradientDescent, Tag("kind=sgd")],
    Discriminator(tag),
]


class Train(Node):
    """How the parameters are trained."""

    global_batch: Count = Field(description="Examples in a step, over all replicas.")
    duration: Duration = Field(description="How long to train.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Of every random draw.")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Type of the arithmetic; parameters stay float32."
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="XLA; auto: where it was measured to win."
    )
    gradient_clip: Positive | None = Field(None, description="Largest global norm of the gradients.")
    optimizer: Optimizer = Field(description="What turns gradients into updates.")
    average: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay of a mean of the weights to validate and draw with, such as 0.999; null: none.",
    )


class Strategy(Node):
    """Over what the batch is spread. Replicas = workers x devices_per_worker."""

    kind: Literal["single", "mirrored", "multiworker", "horovod"] = Field(
        "single",
        description="single device; mirrored: one worker's devices; multiworker, horovod: many workers.",
    )
    workers: Workers = Field(1, description="Processes of the run; [least, most] asks for an elastic run.")
    devices_per_worker: Count = Field(1, description="GPUs, or logical CPUs, of each worker.")
    cpus_per_worker: Count = Field(1, description="CPU cores reserved for each worker, and its threads.")
    gpus: Literal[True, False, "auto"] = Field(
        "auto", description="Whether workers ask for GPUs; auto: if any are there."
    )
    memory_gib_per_worker: Positive | None = Field(
        None, description="Memory reserved for each worker, in GiB; null: none is."
    )
    accelerator: Text | None = Field(
        None, description="Type of GPU that hosts must have, as Ray names it, such as H100; null: any."
    )
    placement: Literal["pack", "spread"] = Field(
        "pack", description="Workers on as few hosts as will hold them, or over as many as there are."
    )


class Best(Node):
    """A metric that picks one checkpoint to keep for good."""

    metric: Metric = Field(description="Such as validation/loss; the names are the objective's.")
    mode: Literal["min", "max"] = Field(description="Whether less or more is better.")


class Checkpoint(Node):
    """When the state is saved and which states are kept."""

    every: Every = Field(_EPOCH, description="How often. The last step is always saved.")
    keep_last: Count = Field(2, description="Newest checkpoints kept.")
    keep_best: Best | None = Field(None, description="Keep the best one by a metric, too.")


class Samples(Node):
    """Samples drawn from the model during training. A model takes some of the keys after `count`."""

    every: Every = Field(description="How often.")
    count: Count = Field(16, description="How many are drawn.")
    steps: Count = Field(1000, description="Sampler steps for each; of models with chains.")
    temperature: NotNegative = Field(
        1.0, description="Below 1 likely values become likelier, 0: the likeliest; of autoregressive models."
    )
    top_k: Count | None = Field(None, description="Draw from the k likeliest words only; null: from all.")
    prompt: Text | None = Field(None, description="How a text begins.")
    length: Count = Field(100, description="Most words of a text, those of the prompt included.")


class Validation(Node):
    """When the held-out data is looked at."""

    every: Every = Field(_EPOCH, description="How often.")


class Recovery(Node):
    """What happens after a failure."""

    max_failures: Whole = Field(3, description="Failed attempts in one launch after which it gives up.")
    max_preemptions: Whole = Field(
        100, description="Times in one launch that hosts may be taken away with notice before it gives up."
    )
    exclude_after: Count | None = Field(
        None, description="Failures on one host after which no worker is placed there; null: never."
    )
    hang_minutes: Positive = Field(
        10.0,
        description="How long a step, a validation or a set of samples may take; then the group is hung.",
    )
    on_divergence: Literal["stop", "rollback", "halve_step"] = Field(
        "stop",
        description="When the loss is no number: stop; or go back to a checkpoint, five times at most, "
        "and pass over batches, or halve sampler.step_size (else the learning rate).",
    )
    max_unsaved_minutes: Positive = Field(30.0, description="How long to train on while storage fails.")
    on_storage_outage: Literal["pause", "stop", "continue"] = Field(
        "pause", description="After that: wait for the storage, give up, or train on with nothing saved."
    )
    spool_gib: Positive = Field(
        4.0, description="Disk of its host on which a worker's checkpoints may wait for the storage, in GiB."
    )


class Wandb(Node):
    """Weights & Biases."""

    project: Text = Field(description="The project that runs go to.")
    entity: Text | None = Field(None, description="Team or user; null: your default.")
    mode: Literal["auto", "online", "offline", "disabled"] = Field(
        "auto", description="auto: online when a key is found, else offline."
    )
    group: Text | None = Field(None, description="Groups runs in W&B.")
    name: Text | None = Field(None, description="The run's name in W&B; null: its id.")
    tags: Texts = Field((), description="Labels in W&B.")
    notes: Text | None = Field(None, description="A sentence about the run.")
    api_key: Secret | None = Field(None, description="Where the key is kept: env:NAME or file:PATH.")


class Tracking(Node):
    """What is recorded, and where else it goes than to the journal."""

    every: Every = Field(_TEN_STEPS, description="How often a row of metrics is recorded.")
    wandb: Wandb | None = Field(None, description="Weights & Biases; null: not used.")


class InitFrom(Node):
    """Weights of another run to start from; its optimizer and chains are not taken."""

    run: Source = Field(description="That run's folder or URL.")
    step: Step = Field("latest", description="Which checkpoint.")
    storage_options: Options = Field(
        {}, description="Options of that store; left out, the job's where the scheme is the same."
    )
