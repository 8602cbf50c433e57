"""Writing texts and a training step of the recipes' LSTM, against the textbook's loop and Keras' own layers.

    python tests/benchmarks/text.py [--rounds 3] [--threads 2] [--length 100]

The network is that of Foster, "Generative Deep Learning", 2nd ed., chapter 5 (10,000 words, an embedding of
100, 128 units; 2,407,248 parameters), with the same weights on all sides; they are random, which changes no
time. The textbook's loop gives the whole text to `model.predict` for each word, divides the logarithm of the
last probabilities by the temperature, and draws with NumPy. Contenders take turns; told are the ratios of the
medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lehr.dynamics.decoding import Decoder
from lehr.models.recurrent import Recurrent
from lehr.objectives.language import Language
from lehr.spec.language import LongShortTermMemory

WORDS, WIDTH, UNITS = 10_000, 100, 128
PROMPT = [26, 13]  # two words, as "recipe for" has
BATCH, READ = 32, 200


def of_keras() -> keras.Model:
    """The book's network, table 5-1."""
    inputs = keras.Input((None,), dtype="int32")
    states = keras.layers.LSTM(UNITS, return_sequences=True)(keras.layers.Embedding(WORDS, WIDTH)(inputs))
    return keras.Model(inputs, keras.layers.Dense(WORDS, activation="softmax")(states))


def alike(theirs: keras.Model) -> Recurrent:
    """Ours with the same weights."""
    node = {"kind": "lstm", "vocabulary": WORDS, "embedding": WIDTH, "units": (UNITS,)}
    ours = Recurrent(LongShortTermMemory.model_validate(node), (READ,))
    for mine, other in zip(ours.variables, theirs.weights, strict=True):
        mine.assign(other.numpy())
    inputs = np.arange(40, dtype=np.int32).reshape(2, 20) + 1
    np.testing.assert_allclose(tf.nn.softmax(ours(inputs)), theirs(inputs), atol=1e-6)
    return ours


def textbook(model: keras.Model, length: int) -> int:
    """The whole text through the network for each word; how many words were written."""
    text, generator = list(PROMPT), np.random.default_rng(0)
    while len(text) < length:
        chances = model.predict(np.array([text]), verbose=0)[0, -1].astype(np.float64)
        text.append(int(generator.choice(WORDS, p=chances / chances.sum())))
    return len(text) - len(PROMPT)


def lehr(decoder: Decoder, count: int, length: int) -> int:
    """`count` texts at once; how many words were written, those after a text's end not counted."""
    written = decoder.write(PROMPT, count, length=length)
    return int((written[:, len(PROMPT) :] != 0).sum())


def batch() -> dict[str, Any]:
    """32 texts as long as recipes are: 150 of 200 words, on average."""
    generator = np.random.default_rng(0)
    ids = generator.integers(1, WORDS, (BATCH, READ + 1)).astype(np.int32)
    for row, words in zip(ids, np.clip(generator.normal(150, 60, BATCH), 20, READ), strict=True):
        row[int(words) :] = 0
    given, target = ids[:, :-1], ids[:, 1:]
    units = np.float32((given != 0).sum())
    made = {"input": given, "target": target, "weight": np.ones(BATCH, np.float32), "units": units}
    return {name: tf.constant(value) for name, value in made.items()}


def step_of(model: Any, loss_of: Callable[[], Any]) -> Callable[[], Any]:
    """One update by Adam, compiled; the same on both sides but for the loss."""
    optimizer, variables = keras.optimizers.Adam(1e-3), [v.value for v in model.trainable_variables]
    optimizer.build(model.trainable_variables)

    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of()
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    compiled = tf.function(step, autograph=False)
    return lambda: float(compiled())


def race(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, Any]]:
    """Median seconds of each, after one time that does not count, and its last result."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    results: dict[str, Any] = {}
    for number in range(rounds + 1):
        for name, does in work.items():
            begin = time.perf_counter()
            results[name] = does()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: (statistics.median(seconds[name]), results[name]) for name in work}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=100)
    given = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(given.threads)
    tf.config.threading.set_inter_op_parallelism_threads(min(given.threads, 2))
    theirs = of_keras()
    ours = alike(theirs)
    # Of random weights the end is as likely as any word: forbidden, so that all texts are as long.
    decoder = Decoder(ours, seed=0, forbidden=(0, 1))
    told = race(
        {
            "textbook": lambda: textbook(theirs, given.length),
            "one": lambda: lehr(decoder, 1, given.length),
            "many": lambda: lehr(decoder, 64, given.length),
        },
        given.rounds,
    )
    rate = {name: words / seconds for name, (seconds, words) in told.items()}
    print(f"{given.threads} threads, texts of {given.length} words, median of {given.rounds}: words a second")
    print(f"the textbook's predict for each word  {rate['textbook']:.1f}")
    print(f"lehr, one text                        {rate['one']:.1f}  {rate['one'] / rate['textbook']:.0f}x")
    print(f"lehr, 64 texts                        {rate['many']:.1f}  {rate['many'] / rate['textbook']:.0f}x")
    data, objective = batch(), Language(None, SimpleNamespace(train=SimpleNamespace(compile="auto")))
    plain = keras.losses.SparseCategoricalCrossentropy()
    steps = race(
        {
            "keras": step_of(theirs, lambda: plain(data["target"], theirs(data["input"], training=True))),
            "lehr": step_of(ours, lambda: objective.loss(ours, data)[0]),
        },
        given.rounds,
    )
    keras_s, lehr_s = steps["keras"][0], steps["lehr"][0]
    print(f"training step, batch 32 of 200 words: Keras {keras_s * 1e3:.0f} ms, lehr {lehr_s * 1e3:.0f} ms, "
          f"{keras_s / lehr_s:.2f}x")  # fmt: skip


if __name__ == "__main__":
    main()
