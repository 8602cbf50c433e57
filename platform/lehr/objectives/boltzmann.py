"""Maximum likelihood of Boltzmann machines by contrastive divergence (Hinton 2002; Tieleman 2008)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.dynamics.gibbs import Chains
from lehr.errors import UserError, letter
from lehr.objectives.connected import Connected
from lehr.objectives.objective import Batch, Memory, Shares
from lehr.objectives.phases import Phases, Settings
from lehr.objectives.restricted import Restricted
from lehr.objectives.stacked import Stacked

KINDS: dict[str, type[Any]] = {"rbm": Restricted, "boltzmann": Connected, "dbn": Stacked}


def _phases(kind: str) -> type[Any]:
    if kind not in KINDS:
        came = f"{kind} is no Boltzmann machine that objective boltzmann knows"
        raise UserError(letter("model.kind", came, accepted=", ".join(KINDS)))
    return KINDS[kind]


class Boltzmann:
    """Makes the data likely and what the machine's own chains dream of unlikely.

    With E the energy of all units, or the free energy F where the hidden units sum out,

        loss = mean E(data) - mean E(chains) + weight_decay / 2 |W|^2

    with no gradient through the chains: the first two terms then have the gradient of the negative
    log-likelihood, mean dE(data) - mean dE(model), if the chains follow the machine's law. Their value is no
    likelihood: it is near 0 as long as data and chains are as likely as each other.

    Chains start from the data at every step (CD-k) or go on from where they were (`persistent`, PCD-k).

    Args:
        node: `objective` of the spec: `weight_decay`, `settle`, `layer`.
        spec: `model`, `sampler`, `train` and `data`.

    Raises:
        UserError: the model is no Boltzmann machine of lehr's.
    """

    metrics = ("loss", "energy_gap", "data_energy", "chain_energy")
    validation_metrics = ("pseudo_log_likelihood", "reconstruction", "data_energy")

    def __init__(self, node: Any, spec: Any) -> None:
        kind = _phases(spec.model.kind)
        self._settings = Settings.of(node, spec)
        self._decay, self._model = float(node.weight_decay), spec.model
        self._phases: Phases = kind(self._settings)
        self.products = ("chain",) if self._settings.is_persistent else ()
        if self._settings.layer_steps:
            self.anew = self._begins

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Run the chains; `chain` [batch, units] is where they end."""
        added = self._phases.prepare(model, batch)
        return batch | {name: tf.stop_gradient(value) for name, value in added.items()}

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, and those of `metrics`."""
        of_data, of_chains = self._phases.energies(model, batch)
        data = tf.reduce_sum(batch["weight"] * of_data) / batch["count"]
        if self._settings.is_persistent:  # each slot's chain is the machine's, whatever row stands there
            chain = tf.reduce_sum(of_chains) / batch["slots"]
        else:  # one that began at a row without an example counts as little as the row
            chain = tf.reduce_sum(batch["weight"] * of_chains) / batch["count"]
        shares = {"energy_gap": data - chain, "data_energy": data, "chain_energy": chain}
        shares["loss"] = shares["energy_gap"]
        if self._decay:
            here = tf.cast(tf.shape(of_chains)[0], tf.float32) / batch["slots"]
            shares["loss"] += 0.5 * self._decay * here * self._phases.squares(model, batch)
        return shares["loss"], shares

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics` on held-out rows."""
        share = batch["weight"] / batch["count"]
        return {name: tf.reduce_sum(share * v) for name, v in self._phases.validate(model, batch).items()}

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """The persistent chains of a worker that owns global slots [first_slot, first_slot + slots)."""
        if not self._settings.is_persistent:
            return None
        units = self._model.chain(shape)
        return Chains(units, first_slot=first_slot, slots=slots, seed=self._settings.seed)

    def _begins(self, batch: Batch) -> Any:
        """Whether this step is the first one of a layer: the optimizer then starts anew."""
        steps = self._settings.layer_steps
        return (batch["step"] % steps == 0) & (batch["step"] < steps * self._settings.layers)
