"""What the table of kinds says of the code, without TensorFlow, is what the code says."""

from __future__ import annotations

import pytest

from lehr import spec as specs
from lehr.spec import kinds
from lehr.spec.models import EnergyModel

TRAIN = "train: {global_batch: 128, duration: {epochs: 1}, optimizer: {kind: adam, learning_rate: 1.0e-4}}\n"
BUILT_IN = [(family, kind) for family, rows in kinds.FAMILIES.items() for kind in rows if kind != "custom"]


@pytest.mark.parametrize(("family", "kind"), BUILT_IN)
def test_every_kind_leads_to_code(family: str, kind: str) -> None:
    assert callable(kinds.load(kinds.FAMILIES[family][kind].model_construct(kind=kind)))


@pytest.mark.parametrize("shape", [(32, 32, 1), (16, 16, 1), (28, 28, 1), (9, 7, 3)])
@pytest.mark.parametrize("filters", [[16, 32, 64, 64], [5]])
def test_the_energy_model_has_as_many_parameters(shape: tuple[int, int, int], filters: list[int]) -> None:
    node = EnergyModel.model_validate({"kind": "ebm", "filters": filters, "hidden": 10})
    model = kinds.load(node)(node, shape)
    assert model.count_params() == node.parameters(shape)


@pytest.mark.parametrize(("model", "data"), [("ebm", "digits"), ("lenet", "fashion_mnist")])
def test_objectives_report_the_metrics_that_the_spec_knows(model: str, data: str) -> None:
    kinds_of = f"model: {{kind: {model}}}\ndata: {{kind: {data}}}\nsampler: {{kind: langevin}}\n"
    spec = specs.parse(f"version: 1\nname: x\n{kinds_of}{TRAIN}")
    objective = kinds.load(spec.objective)(spec.objective, spec)
    assert objective.metrics == spec.objective.metrics
    assert objective.validation_metrics == spec.objective.validation_metrics
