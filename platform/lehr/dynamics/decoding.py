"""Texts written word by word, by one compiled loop that carries the model's state.

The textbook's loop reads the whole text again for each word, so a text of n words costs n^2 / 2 readings. A
recurrent model has all that it has read in its state: here the prompt is read once, and each word costs one
step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from lehr.dynamics.noise import CHAIN_STEPS, Noise
from lehr.seeds import Purpose

GROUP = 8
"""Texts that are written side by side. The program always has as many rows, so that no rounding of a product
depends on how many were asked for, and text i is the same among any number."""
LONGEST = CHAIN_STEPS
"""Words of a text for which there are random numbers."""
_COLD = 1e-30  # a temperature at which nothing but the likeliest is left
_CHANCES = 2  # uniform numbers that a word takes


class Reader(Protocol):
    """A model that reads words and says how likely each next one is."""

    vocabulary: int

    def begin(self, prompt: Any) -> tuple[Any, Any]:
        """Read prompts, int32 [rows, words]: logits of the next word float32 [rows, vocabulary], and a
        state."""
        ...

    def advance(self, words: Any, state: Any) -> tuple[Any, Any]:
        """Read one more word of each row, int32 [rows]: as `begin`."""
        ...


class Decoder:
    """Writes texts with `model`, whose weights are read at each call; compiles once for each `top_k`.

    Text i depends on the seed, on i, on the prompt and on the weights alone: not on the training step, nor on
    how many are written at once.

    Args:
        model: which reads and tells.
        seed: of the draws.
        forbidden: ids that are never written, such as that of the unknown word.
        end: the id that ends a text.
    """

    def __init__(self, model: Reader, *, seed: int, forbidden: Sequence[int] = (), end: int = 0) -> None:
        self._model, self._noise, self._end = model, Noise(seed, Purpose.DRAW), end
        barred = np.zeros(model.vocabulary, np.float32)
        barred[list(forbidden)] = -np.inf
        self._barred = tf.constant(barred)
        self._programs: dict[int | None, Any] = {}
        self._next = tf.function(self._chances, autograph=False, reduce_retracing=True)

    def write(
        self, prompt: Sequence[int], count: int, *, length: int, temperature: float = 1.0,
        top_k: int | None = None, first: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """Texts `first` to `first` + `count`.

        Args:
            prompt: ids that each begins with; one at least.
            count: how many.
            length: words of a text at most, the prompt's included.
            temperature: what logits are divided by; 0 takes the likeliest word.
            top_k: draw from the k likeliest words only, the first of equals; None: from all.
            first: number of the first.

        Returns:
            Texts with their prompts, int32 [count, length]; the end's id from the end of a text on.

        Raises:
            ValueError: the prompt is empty, or `length` is too short for it or beyond `LONGEST`.
        """
        if not 0 < len(prompt) <= length <= LONGEST:
            raise ValueError(f"a prompt of {len(prompt)} words and texts of {length}")
        program = self._program(top_k)
        heat = tf.constant(temperature, tf.float32)
        given = tf.constant(prompt, tf.int32), tf.constant(length, tf.int32)
        starts = range(first, first + count, GROUP)
        drawn = [program(*given, heat, tf.constant(start, tf.int64)) for start in starts]
        return np.concatenate(drawn)[:count]

    def chances(self, prompt: Sequence[int], temperature: float) -> np.ndarray:
        """How likely each word comes next after `prompt`: float32 [vocabulary], at a temperature above 0."""
        return np.asarray(self._next(tf.constant([prompt], tf.int32), tf.constant(temperature, tf.float32)))

    def _chances(self, prompt: Any, temperature: Any) -> Any:
        logits, _ = self._model.begin(prompt)
        return tf.nn.softmax((logits[0] + self._barred) / temperature)

    def _program(self, top_k: int | None) -> Any:
        if top_k is not None and top_k >= self._model.vocabulary:
            top_k = None
        if top_k not in self._programs:

            def program(prompt: Any, length: Any, temperature: Any, first: Any) -> Any:
                return self._write(prompt, length, first, (temperature, top_k))

            shapes = [((None,), tf.int32), ((), tf.int32), ((), tf.float32), ((), tf.int64)]
            signature = [tf.TensorSpec(*shape) for shape in shapes]
            self._programs[top_k] = tf.function(program, autograph=False, input_signature=signature)
        return self._programs[top_k]

    def _write(self, prompt: Any, length: Any, first: Any, rule: tuple[Any, int | None]) -> Any:
        told = tf.size(prompt)
        begun = tf.tile(prompt[tf.newaxis], [GROUP, 1])
        logits, state = self._model.begin(begun)
        logits = tf.ensure_shape(logits, [GROUP, self._model.vocabulary])

        def body(number: Any, logits: Any, state: Any, going: Any, ids: Any) -> tuple[Any, ...]:
            unit = self._uniform(told + number, first)
            word = tf.where(going, chosen(logits + self._barred, unit, *rule), self._end)
            # The last word of all is read for nothing: one step, against a condition in each.
            logits, state = self._model.advance(word, state)
            return number + 1, logits, state, going & (word != self._end), ids.write(number, word)

        room = tf.TensorArray(tf.int32, size=length - told, element_shape=[GROUP])
        *_, ids = tf.while_loop(
            lambda number, _logits, _state, going, _: (number < length - told) & tf.reduce_any(going),
            body, (0, logits, state, tf.ones([GROUP], tf.bool), room), parallel_iterations=1,
        )  # fmt: skip
        return tf.concat([begun, tf.transpose(ids.stack())], 1)

    def _uniform(self, place: Any, first: Any) -> Any:
        """In [0, 1), float32 [GROUP, _CHANCES], for the words at `place`."""
        return 0.5 * (self._noise.uniform((GROUP, _CHANCES), step=0, k=place, first=first) + 1.0)


def chosen(logits: Any, unit: Any, temperature: Any, top_k: int | None) -> Any:
    """One word of each row: int32 [rows].

    Args:
        logits: float32 [rows, words]; minus infinity for what cannot be.
        unit: uniform in [0, 1), float32 [rows, 2].
        temperature: float32 scalar; 0 takes the likeliest word, the first of equals.
        top_k: draw from so many only; None: from all.
    """
    words = None
    if top_k is not None:
        logits, words = tf.math.top_k(logits, top_k)
    # At 0 the likeliest words have weight 1 and the others 0, and the lowest number takes the first of them.
    sharpness = 1.0 / tf.maximum(temperature, _COLD)
    weights = tf.exp((logits - tf.reduce_max(logits, axis=-1, keepdims=True)) * sharpness)
    place = drawn(weights, tf.where(temperature > 0.0, unit, 0.0))
    return place if words is None else tf.gather(words, place, batch_dims=1)


def drawn(weights: Any, unit: Any) -> Any:
    """An index of each row, as likely as its weight: int32 [rows]. Never one of weight 0.

    First a block of neighbours by its sum, then one of the block: two short running sums, where one over all
    would be slower and less exact.

    Args:
        weights: float32 [rows, n], none negative, one of each row positive.
        unit: uniform in [0, 1), float32 [rows, 2].
    """
    count = weights.shape[-1]
    width = math.ceil(math.sqrt(count))
    blocks = -(-count // width)
    if count < blocks * width:
        weights = tf.pad(weights, [[0, 0], [0, blocks * width - count]])
    parts = tf.reshape(weights, [-1, blocks, width])
    block = _first_beyond(tf.reduce_sum(parts, axis=-1), unit[:, 0])
    return block * width + _first_beyond(tf.gather(parts, block, batch_dims=1), unit[:, 1])


def _first_beyond(weights: Any, unit: Any) -> Any:
    """The first index whose running sum is above `unit` times the whole: int32 [rows].

    There is one, and its weight is positive: `unit` is at most 1 - 2**-23, so the product is rounded to a
    number below the whole, and where a weight is 0 the running sum stays what it was.
    """
    sums = tf.cumsum(weights, axis=-1)
    beyond = sums > unit[:, tf.newaxis] * sums[:, -1:]
    return tf.argmax(tf.cast(beyond, tf.int32), axis=-1, output_type=tf.int32)
