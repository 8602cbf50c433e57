"""Recurrent cells over whole sequences: LSTM and GRU, with gradients of their own.

The part of a cell that depends on its input alone is one product over all times, before the loop
(`projected`). The loop keeps what the cell did at each time; the backward loop only carries the gradient of
the state, and those of the weights are again one product over all times. TensorFlow's own gradient of such a
loop makes that product anew at every time, and adds up.

Time is the leading axis. Everything is float32, whatever the precision: the state is a long sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import tensorflow as tf


class Cell(Protocol):
    """One kind of cell, of `units` = U units and `gates` = G matrices."""

    gates: int

    def start(self, rows: Any, units: int) -> tuple[Any, ...]:
        """The state before the first word: zeros; its first part [rows, U] is what the cell shows."""
        ...

    def step(self, projected: Any, state: tuple[Any, ...], kernel: Any) -> tuple[Any, ...]:
        """The next state, from what its input comes to [rows, G U] and the recurrent kernel [U, G U]."""
        ...

    def sequence(self, projected: Any, kernel: Any) -> tuple[Any, tuple[Any, ...]]:
        """From `start`: what the cell shows at each time, [times, rows, U], and the last state.

        The gradient flows through what it shows, not through the last state.

        Args:
            projected: float32 [times, rows, G U].
            kernel: float32 [U, G U].
        """
        ...


class LongShortTermMemory:
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000.

    f = sigmoid(W_f x + U_f h + b_f), i and o alike, g = tanh(W_g x + U_g h + b_g), then
    c <- f c + i g and h <- o tanh(c): the tanh first, then the product. The state is (h, c). Matrices stand
    side by side in Keras' order: i, f, g, o.
    """

    gates = 4

    def start(self, rows: Any, units: int) -> tuple[Any, ...]:
        return tf.zeros([rows, units]), tf.zeros([rows, units])

    def step(self, projected: Any, state: tuple[Any, ...], kernel: Any) -> tuple[Any, ...]:
        _, shown, memory = self._step(projected, state, kernel)
        return shown, memory

    def sequence(self, projected: Any, kernel: Any) -> tuple[Any, tuple[Any, ...]]:
        shown, last = _lstm(projected, kernel)
        return shown, (tf.stop_gradient(shown[-1]), tf.stop_gradient(last))

    def _step(self, projected: Any, state: tuple[Any, ...], kernel: Any) -> tuple[Any, Any, Any]:
        shown, memory = state
        raw = projected + tf.matmul(shown, kernel)
        i, f, g, o = tf.split(raw, 4, axis=-1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        memory = f * memory + i * g
        return tf.concat([i, f, g, o], -1), o * tf.tanh(memory), memory


class GatedRecurrentUnit:
    """Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", equations 5 to 8.

    z = sigmoid(W_z x + U_z h + b_z), r alike, n = tanh(W_n x + U_n (r h) + b_n), then
    h <- z h + (1 - z) n: the update gate z weighs the OLD state, as in Cho's paper, in Keras and in "Dive
    into Deep Learning"; Foster's book has 1 - z in its place. The reset gate acts before the product with
    U_n: Keras' `reset_after=False`. Matrices stand side by side in Keras' order: z, r, n. The state is (h,).
    """

    gates = 3

    def start(self, rows: Any, units: int) -> tuple[Any, ...]:
        return (tf.zeros([rows, units]),)

    def step(self, projected: Any, state: tuple[Any, ...], kernel: Any) -> tuple[Any, ...]:
        return (self._step(projected, state, kernel)[1],)

    def sequence(self, projected: Any, kernel: Any) -> tuple[Any, tuple[Any, ...]]:
        shown = _gru(projected, kernel)
        return shown, (tf.stop_gradient(shown[-1]),)

    def _step(self, projected: Any, state: tuple[Any, ...], kernel: Any) -> tuple[Any, Any]:
        (shown,), units = state, kernel.shape[0]
        raw = tf.sigmoid(projected[:, : 2 * units] + tf.matmul(shown, kernel[:, : 2 * units]))
        z, r = tf.split(raw, 2, axis=-1)
        n = tf.tanh(projected[:, 2 * units :] + tf.matmul(r * shown, kernel[:, 2 * units :]))
        return tf.concat([z, r, n], -1), z * shown + (1.0 - z) * n


LSTM, GRU = LongShortTermMemory(), GatedRecurrentUnit()
CELLS: dict[str, Cell] = {"lstm": LSTM, "gru": GRU}


class _Kept(NamedTuple):
    """What one pass over time kept: [times, rows, ...] each."""

    gates: Any
    states: tuple[Any, ...]


def _forward(cell: Any, projected: Any, kernel: Any) -> _Kept:
    """Activated gates and states of each time."""
    times, rows, units = tf.shape(projected)[0], tf.shape(projected)[1], kernel.shape[0]
    start = cell.start(rows, units)
    shapes = [(projected.shape[1], cell.gates * units)] + [(projected.shape[1], units)] * len(start)
    arrays = [tf.TensorArray(tf.float32, size=times, element_shape=shape) for shape in shapes]
    inputs = tf.TensorArray(tf.float32, size=times).unstack(projected)

    def body(time: Any, state: tuple[Any, ...], arrays: list[Any]) -> tuple[Any, ...]:
        made = cell._step(inputs.read(time), state, kernel)
        arrays = [array.write(time, value) for array, value in zip(arrays, made, strict=True)]
        return time + 1, made[1:], arrays

    _, _, arrays = tf.while_loop(
        lambda time, *_: time < times,
        body,
        (0, start, arrays),
        parallel_iterations=1,
        maximum_iterations=times,
    )
    gates, *states = (array.stack() for array in arrays)
    return _Kept(gates, tuple(states))


def _before(states: Any) -> Any:
    """States one time earlier: zeros first."""
    return tf.concat([tf.zeros_like(states[:1]), states[:-1]], 0)


def _product(inputs: Any, outputs: Any) -> Any:
    """Gradient of a kernel: sum over times and rows of input x output."""
    flat = [tf.reshape(part, [-1, part.shape[-1]]) for part in (inputs, outputs)]
    return tf.matmul(flat[0], flat[1], transpose_a=True)


def _backward(given: list[Any], step: Any, carried: tuple[Any, ...], width: int) -> Any:
    """Walk back over time: `step(given at a time, carried) -> (made [rows, width], carried)`; all that was
    made."""
    times = tf.shape(given[0])[0]
    inputs = [tf.TensorArray(tf.float32, size=times).unstack(part) for part in given]
    array = tf.TensorArray(tf.float32, size=times, element_shape=(given[0].shape[1], width))

    def body(time: Any, carried: tuple[Any, ...], array: Any) -> tuple[Any, ...]:
        made, carried = step([part.read(time) for part in inputs], carried)
        return time - 1, carried, array.write(time, made)

    _, _, array = tf.while_loop(
        lambda time, *_: time >= 0, body, (times - 1, carried, array), parallel_iterations=1,
        maximum_iterations=times,
    )  # fmt: skip
    return array.stack()


@tf.custom_gradient
def _lstm(projected: Any, kernel: Any) -> Any:
    gates, (shown, memory) = _forward(LSTM, projected, kernel)

    def gradient(of_shown: Any, _: Any) -> tuple[Any, Any]:
        i, f, g, o = tf.split(gates, 4, axis=-1)
        bent = tf.tanh(memory)
        # How each gate's raw value moves c (the first three) and h (the last): all times at once.
        slopes = tf.concat(
            [g * i * (1.0 - i), _before(memory) * f * (1.0 - f), i * (1.0 - g * g), bent * o * (1.0 - o)], -1
        )

        def step(given: list[Any], carried: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
            of_shown, slopes, through, forget = given
            of_shown = of_shown + carried[0]
            of_memory = of_shown * through + carried[1]
            raw = slopes * tf.concat([of_memory, of_memory, of_memory, of_shown], -1)
            return raw, (tf.matmul(raw, kernel, transpose_b=True), of_memory * forget)

        start = LSTM.start(tf.shape(projected)[1], kernel.shape[0])
        raw = _backward([of_shown, slopes, o * (1.0 - bent * bent), f], step, start, 4 * kernel.shape[0])
        return raw, _product(_before(shown), raw)

    return (shown, memory[-1]), gradient


@tf.custom_gradient
def _gru(projected: Any, kernel: Any) -> Any:
    gates, (shown,) = _forward(GRU, projected, kernel)
    units = kernel.shape[0]
    both, new = kernel[:, : 2 * units], kernel[:, 2 * units :]

    def gradient(of_shown: Any) -> tuple[Any, Any]:
        z, r, n = tf.split(gates, 3, axis=-1)
        old = _before(shown)
        to_new, to_z, to_r = (1.0 - z) * (1.0 - n * n), (old - n) * z * (1.0 - z), old * r * (1.0 - r)

        def step(given: list[Any], carried: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
            of_shown, to_new, to_z, to_r, z, r = given
            of_shown = of_shown + carried[0]
            raw_new = of_shown * to_new
            of_reset = tf.matmul(raw_new, new, transpose_b=True)
            raw = tf.concat([of_shown * to_z, of_reset * to_r], -1)
            back = of_shown * z + of_reset * r + tf.matmul(raw, both, transpose_b=True)
            return tf.concat([raw, raw_new], -1), (back,)

        start = GRU.start(tf.shape(projected)[1], units)
        raw = _backward([of_shown, to_new, to_z, to_r, z, r], step, start, 3 * units)
        of_kernel = [_product(old, raw[..., : 2 * units]), _product(r * old, raw[..., 2 * units :])]
        return raw, tf.concat(of_kernel, -1)

    return shown, gradient
