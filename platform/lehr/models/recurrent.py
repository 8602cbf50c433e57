"""Recurrent language models: words in, what the next word may be out. Foster, 2nd ed., chapter 5."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from lehr.errors import UserError, letter
from lehr.models.cells import CELLS, Cell

State = tuple[tuple[Any, ...], ...]
"""Of each layer, what its cell carries from word to word: [rows, units] each."""


class Recurrent(keras.Model):
    """Embedding, layers of LSTM or GRU cells, each on the states of the one before, and a softmax over words.

    With 10,000 words, an embedding of 100 and units [128] an LSTM has 1,000,000 + 117,248 + 1,290,000 =
    2,407,248 parameters; with [128, 128] there are 131,584 more. Weights start as in Keras: the embedding
    uniform in [-0.05, 0.05), input kernels as in Glorot and Bengio (2010), recurrent ones orthogonal, biases
    at 0, those of the LSTM's forget gate at 1.

    With `bidirectional` it is an encoder of whole texts: each layer reads forwards and, with weights of its
    own, backwards from the last word; its call gives the states of both, and nothing can tell the next word.

    Args:
        node: `model` of the spec: `kind` "lstm" or "gru", `vocabulary`, `embedding`, `units`,
        `bidirectional`. shape: of one text, [words].

    Raises:
        UserError: the inputs are no texts.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        if len(shape) != 1:
            came = f"{node.kind} was given inputs of shape {tuple(shape)}"
            raise UserError(letter("model.kind", came, accepted="texts, [words]", do="choose other data"))
        super().__init__(name=node.kind)
        self._cell = CELLS[node.kind]
        self._both = bool(node.bidirectional)
        self.vocabulary = int(node.vocabulary)
        self._embedding = _Embedding(node.vocabulary, node.embedding)
        self._layers_of_cells = _stack(node, self._cell)
        self._words = None if self._both else _Readout(node.units[-1], node.vocabulary)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits of each next word, float32 [batch, words, vocabulary]; of an encoder the last states,
        float32 [batch, words, 2 units], 0 after a text's end.

        Args:
            inputs: ids int32 [batch, words], 0 after a text's end.
            training: not used; models are all called alike.
        """
        shown = self.states(inputs)
        if self._words is None:
            return shown
        kernel, bias = self.readout()
        return tf.cast(_times(shown, kernel, self.compute_dtype), tf.float32) + bias

    def states(self, inputs: Any) -> Any:
        """The last layer's states, float32 [batch, words, units]: what `readout` makes logits of."""
        ids = tf.cast(tf.transpose(inputs), tf.int32)
        shown = self._embedding(ids)
        for forth, back in self._layers_of_cells:
            shown = forth.sequence(shown)[0] if back is None else _both_ways(forth, back, shown, ids)
        return tf.transpose(shown, [1, 0, 2])

    def readout(self) -> tuple[Any, Any]:
        """Kernel [units, vocabulary] and bias [vocabulary] of the softmax, as tensors."""
        assert self._words is not None, "an encoder has no softmax"
        return tf.convert_to_tensor(self._words.kernel), tf.convert_to_tensor(self._words.bias)

    def begin(self, prompt: Any) -> tuple[Any, State]:
        """Read prompts, ids int32 [rows, words]: logits of the next word, [rows, vocabulary], and the
        state."""
        shown, carried = self._embedding(tf.transpose(prompt)), []
        for forth, _ in self._layers_of_cells:
            shown, last = forth.sequence(shown)
            carried.append(last)
        return self._logits(shown[-1]), tuple(carried)

    def advance(self, words: Any, state: State) -> tuple[Any, State]:
        """Read one more word of each row, ids int32 [rows]: as `begin`."""
        shown, carried = self._embedding(words), []
        for (forth, _), before in zip(self._layers_of_cells, state, strict=True):
            after = forth.step(shown, before)
            carried.append(after)
            shown = after[0]
        return self._logits(shown), tuple(carried)

    def _logits(self, shown: Any) -> Any:
        kernel, bias = self.readout()
        return tf.cast(_times(shown, kernel, self.compute_dtype), tf.float32) + bias


class _Embedding(layers.Layer):
    """A row of numbers for each word."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(name="embedding", dtype="float32")
        self.table = self.add_weight(
            shape=(vocabulary, width), initializer="uniform", name="table", autocast=False
        )
        self.built = True

    def call(self, ids: Any) -> Any:
        """float32 [..., width]."""
        return _look_up(tf.convert_to_tensor(self.table), ids)


class _Layer(layers.Layer):
    """The weights of one layer of cells, in Keras' order of gates."""

    def __init__(self, cell: Cell, inputs: int, units: int, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self._cell, self._units = cell, units
        width = cell.gates * units
        self.kernel = self.add_weight(
            shape=(inputs, width), initializer="glorot_uniform", name="kernel", autocast=False
        )
        self.recurrent = self.add_weight(
            shape=(units, width), initializer="orthogonal", name="recurrent_kernel", autocast=False
        )
        self.bias = self.add_weight(shape=(width,), initializer=self._bias, name="bias", autocast=False)
        self.built = True

    def sequence(self, inputs: Any) -> tuple[Any, tuple[Any, ...]]:
        """Over time, which leads: states [times, rows, units], and what the cell carries after the last."""
        flat = self._projected(tf.reshape(inputs, [-1, inputs.shape[-1]]))
        times, rows = tf.unstack(tf.shape(inputs)[:2])
        projected = tf.reshape(flat, [times, rows, flat.shape[-1]])
        return self._cell.sequence(projected, tf.convert_to_tensor(self.recurrent))

    def step(self, inputs: Any, carried: tuple[Any, ...]) -> tuple[Any, ...]:
        """One time: what the cell carries after it."""
        return self._cell.step(self._projected(inputs), carried, tf.convert_to_tensor(self.recurrent))

    def _projected(self, inputs: Any) -> Any:
        return tf.matmul(inputs, tf.convert_to_tensor(self.kernel)) + self.bias

    def _bias(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Zeros; ones for the forget gate of an LSTM (Jozefowicz, Zaremba and Sutskever 2015)."""
        parts = [tf.fill([self._units], float(self._cell.gates == 4 and gate == 1))
                 for gate in range(self._cell.gates)]  # fmt: skip
        return tf.concat(parts, 0)


class _Readout(layers.Layer):
    """The weights of the softmax."""

    def __init__(self, units: int, vocabulary: int) -> None:
        super().__init__(name="words", dtype="float32")
        self.kernel = self.add_weight(
            shape=(units, vocabulary), initializer="glorot_uniform", name="kernel", autocast=False
        )
        self.bias = self.add_weight(shape=(vocabulary,), initializer="zeros", name="bias", autocast=False)
        self.built = True


def _stack(node: Any, cell: Cell) -> list[tuple[_Layer, _Layer | None]]:
    """The layers, each with the one that reads backwards if there are such."""
    width, stacked = node.embedding, []
    for number, units in enumerate(node.units, start=1):
        names = (
            [f"layer_{number}", f"layer_{number}_backwards"] if node.bidirectional else [f"layer_{number}"]
        )
        made = [_Layer(cell, width, units, name) for name in names]
        stacked.append((made[0], made[1] if len(made) > 1 else None))
        width = len(made) * units
    return stacked


def _both_ways(forth: _Layer, back: _Layer, inputs: Any, ids: Any) -> Any:
    """States of both directions side by side, 0 beyond a text's end; backwards means from its last word."""
    inside = ids != 0
    lengths = tf.reduce_sum(tf.cast(inside, tf.int32), axis=0)
    turned = tf.reverse_sequence(inputs, lengths, seq_axis=0, batch_axis=1)
    backwards = tf.reverse_sequence(back.sequence(turned)[0], lengths, seq_axis=0, batch_axis=1)
    states = tf.concat([forth.sequence(inputs)[0], backwards], -1)
    return tf.where(inside[..., tf.newaxis], states, 0.0)


@tf.custom_gradient
def _look_up(table: Any, ids: Any) -> Any:
    """Rows of `table`. The gradient is a whole table, not a list of rows: replicas are to add theirs up."""

    def gradient(upstream: Any) -> tuple[Any, None]:
        flat = tf.reshape(upstream, [-1, table.shape[1]])
        return tf.math.unsorted_segment_sum(flat, tf.reshape(ids, [-1]), table.shape[0]), None

    return tf.gather(table, ids), gradient


def _times(shown: Any, kernel: Any, dtype: str) -> Any:
    return tf.matmul(tf.cast(shown, dtype), tf.cast(kernel, dtype))
