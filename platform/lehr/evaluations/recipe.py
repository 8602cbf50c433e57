"""The feature extractor's own job: our LeNet on the same data, always to the same recipe."""

from __future__ import annotations

from typing import Any

from lehr import plan as plans
from lehr import spec as specs
from lehr.plan import Plan

NAME = "lenet"  # in the names of numbers: fid_lenet; a LeNet's features are not Inception's
STEPS = 2000
_JOB = f"""
version: 1
name: features
model: {{kind: lenet, activation: relu, pooling: max}}
data: {{kind: mnist}}
train: {{global_batch: 128, duration: {{steps: {STEPS}}}, optimizer: {{kind: adam, learning_rate: 0.001}}}}
checkpoint: {{every: {{steps: {STEPS}}}, keep_last: 1}}
validation: {{every: {{steps: {STEPS}}}}}
tracking: {{every: {{steps: 100}}}}
"""


def job(plan: Plan) -> Plan:
    """The plan that trains the extractor for a run's images: on all of its data, at its size, in [0, 1].

    Its `spec_hash` does not depend on where the data is, nor on how many examples the run itself used.
    """
    document = specs.parse(_JOB).document()
    document["data"] = _data(plan.document()["spec"]["data"], plan.spec.data.shape[0])
    document["storage"] = "."
    return plans.make(specs.restore(document), run_id="features")


def _data(node: dict[str, Any], size: int) -> dict[str, Any]:
    taken: dict[str, Any] = {name: node[name] for name in ("kind", "root", "storage_options") if name in node}
    return {**taken, "image_size": size, "range": [0.0, 1.0]}
