"""Cross-entropy of the next word: what counts, that shares add, and that slices change nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lehr.data.arrays import Arrays
from lehr.data.feed import Feed
from lehr.loop.train import score
from lehr.models.recurrent import Recurrent
from lehr.objectives import softmax
from lehr.objectives.language import Language
from lehr.spec.language import LongShortTermMemory

RNG = np.random.default_rng(5)
LENGTHS = (9, 3, 7, 8, 1)  # words of each text, of which a model reads 7
IDS = np.array([[*RNG.integers(1, 11, words), *[0] * (9 - words)] for words in LENGTHS], np.int32)[:, :8]
UNITS = (IDS[:, :-1] != 0).sum(axis=1)


@pytest.fixture(scope="module")
def model() -> Recurrent:
    node = LongShortTermMemory.model_validate(
        {"kind": "lstm", "vocabulary": 11, "embedding": 4, "units": (5,)}
    )
    made = Recurrent(node, (7,))
    for variable in made.variables:
        variable.assign(RNG.normal(size=variable.shape).astype(np.float32))
    return made


def objective(compiled: str = "auto") -> Language:
    return Language(
        SimpleNamespace(kind="language"), SimpleNamespace(train=SimpleNamespace(compile=compiled))
    )


def batches(*, workers: int, rows: int) -> list[list[dict[str, Any]]]:
    """Every batch of one epoch in file order, by worker."""
    arrays = Arrays(IDS[:, :-1], IDS[:, 1:], units=UNITS.astype(np.int64))
    share = {"seed": 0, "global_batch": workers * rows, "rows": rows}
    return [list(Feed(arrays, first=rank * rows, **share).validation_batches()) for rank in range(workers)]


def words(model: Any, text: int) -> list[float]:
    """Minus the log-probability of each word after the first of a text, and of its end, in float64."""
    logits = model(tf.constant(IDS[text : text + 1, :-1])).numpy()[0].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    told = []
    for place in range(7):
        told.append(-log_p[place, IDS[text, place + 1]])
        if IDS[text, place + 1] == 0:
            break  # its end, which counts; what follows does not
    return told


def test_the_words_and_the_end_of_a_text_count_and_other_padding_does_not(model: Recurrent) -> None:
    ((batch,),) = batches(workers=1, rows=5)
    told = [words(model, text) for text in range(5)]
    assert [len(of_text) for of_text in told] == UNITS.tolist() == [7, 3, 7, 7, 1]
    loss, shares = objective().loss(model, batch)
    assert float(loss) == pytest.approx(np.concatenate(told).mean(), rel=1e-5)
    assert float(objective().validate(model, batch)["loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert set(shares) == set(Language.metrics)


@pytest.mark.parametrize(("workers", "rows"), [(2, 3), (6, 1), (1, 8)])
def test_shares_of_workers_add_up_and_rows_without_an_example_do_not_count(
    model: Recurrent, workers: int, rows: int
) -> None:
    ((whole,),) = batches(workers=1, rows=5)
    parts = [of_worker[0] for of_worker in batches(workers=workers, rows=rows)]
    shares = [float(objective().loss(model, part)[0]) for part in parts]
    assert sum(shares) == pytest.approx(float(objective().loss(model, whole)[0]), rel=1e-5)


def test_held_out_loss_is_the_mean_over_words_not_over_batches(model: Recurrent) -> None:
    one = objective()

    def program(parts: list[Any]) -> list[Any]:
        return [{"metrics": [one.validate(model, parts[0])["loss"]]}]

    (batched,) = batches(workers=1, rows=2)
    found = score(program, batched, ("loss",), 1, Language.per)
    assert found["loss"] == pytest.approx(
        np.concatenate([words(model, n) for n in range(5)]).mean(), rel=1e-5
    )


@pytest.mark.parametrize("compiled", ["auto", "on"])
@pytest.mark.parametrize("rows", [4, 512])
def test_slices_have_the_gradients_of_the_whole(
    model: Recurrent, compiled: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "SLICE", rows)
    ((batch,),) = batches(workers=1, rows=5)
    variables = [v.value for v in model.trainable_variables]

    def gradients(reader: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            loss = 3.0 * objective(compiled).loss(reader, batch)[0]
        found: list[Any] = tape.gradient(loss, variables)
        return found

    plain = gradients(
        lambda inputs, training: model(inputs, training=training)
    )  # without `states`: all logits
    sliced = tf.function(lambda: gradients(model), autograph=False, jit_compile=compiled == "on")()
    for ours, wanted in zip(sliced, plain, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)


def test_a_worker_without_words_has_no_loss_and_no_gradient(model: Recurrent) -> None:
    ((batch,),) = batches(workers=1, rows=5)
    batch["weight"] = np.zeros(5, np.float32)
    with tf.GradientTape() as tape:
        loss, _ = objective().loss(model, batch)
    assert float(loss) == 0.0
    assert not any(np.any(gradient) for gradient in tape.gradient(loss, [v.value for v in model.variables]))


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_words(model: Recurrent) -> None:
    ((batch,),) = batches(workers=1, rows=5)
    knows_nothing = Recurrent(
        LongShortTermMemory.model_validate({"kind": "lstm", "vocabulary": 11, "embedding": 4, "units": (5,)}),
        (7,),
    )
    for variable in knows_nothing.variables:
        variable.assign(tf.zeros_like(variable.value))
    assert np.exp(float(objective().validate(knows_nothing, batch)["loss"])) == pytest.approx(11.0, rel=1e-5)
