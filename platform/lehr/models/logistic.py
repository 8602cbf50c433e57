"""Mixtures of discretised logistic distributions over levels (Salimans et al. 2017, "PixelCNN++", section 2).

Levels 0..L-1 stand at x = 2 level / (L - 1) - 1 in [-1, 1], each for the interval of half width 1 / (L - 1)
around it; the first and the last one take the tails too. A component with mean m and scale s gives a level

    P = sigmoid(a) - sigmoid(b),    a = (x - m + half) / s,    b = (x - m - half) / s

and, with a = infinity at the last level and b = -infinity at the first, all levels together exactly 1. Far
from m that difference is nothing in float32. But it is sigmoid(a) sigmoid(-b) (1 - e^(b - a)), so that log P
is a sum of three logarithms, each of which is computed stably; no approximation is needed.

With several channels a pixel's components are shared, and the mean of a channel depends linearly on the
values of those before it: m_i + sum over j < i of c_ij x_j (section 2.2). Coefficients are in (-1, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

LEAST_LOG_SCALE = -7.0
"""Of the network's output; below it a component is one level, and the gradient of its scale is 0."""
_SMALL = 1e-3  # intervals, in scales, below which log(1 - e^-d) is taken from its series
_RARE = 1e-7  # a chance of 0 would be a logistic value of minus infinity


class Components(NamedTuple):
    """`logits` [..., K]; `means` and `log_scales` [..., K, channels]; `coefficients` [..., K, pairs], the
    pairs (1, 0), (2, 0), (2, 1), ... of a channel and one before it."""

    logits: Any
    means: Any
    log_scales: Any
    coefficients: Any


@dataclass(frozen=True)
class LogisticMixture:
    """What the numbers that a network gives for a pixel say about its levels.

    Args:
        mixtures: components, K.
        levels: L, at least 2.
        channels: of a pixel.
    """

    mixtures: int
    levels: int = 256
    channels: int = 1

    @property
    def outputs(self) -> int:
        """Numbers that a pixel's distribution takes."""
        return self.mixtures * (1 + 2 * self.channels + self._pairs)

    @property
    def chances(self) -> int:
        """Uniform numbers that it takes to draw a pixel."""
        return 1 + self.channels

    def scaled(self, levels: Any) -> Any:
        """Levels as numbers in [-1, 1]."""
        return levels * (2.0 / (self.levels - 1)) - 1.0

    def components(self, parameters: Any) -> Components:
        """The parts of `parameters` [..., outputs], float32; scales bounded, coefficients through tanh."""
        many, sizes = self.mixtures, [1, self.channels, self.channels, self._pairs]
        parts = tf.split(parameters, [many * size for size in sizes], axis=-1)
        lead = tf.shape(parameters)[:-1]
        logits, means, scales, pairs = (
            tf.reshape(part, tf.concat([lead, [many, size]], 0))
            for part, size in zip(parts, sizes, strict=True)
        )
        return Components(logits[..., 0], means, tf.maximum(scales, LEAST_LOG_SCALE), tf.tanh(pairs))

    def log_probability(self, parameters: Any, levels: Any) -> Any:
        """Of pixels.

        Args:
            parameters: float32 [..., outputs].
            levels: float32 [..., channels], whole numbers 0 to L - 1.

        Returns:
            float32 [...], in nats.
        """
        parts = self.components(parameters)
        values = self.scaled(levels)[..., tf.newaxis, :]
        told = self._of_levels(self._means(parts, values), parts.log_scales, values)
        weights = tf.nn.log_softmax(parts.logits)
        return tf.reduce_logsumexp(weights + tf.reduce_sum(told, axis=-1), axis=-1)

    def draw(self, parameters: Any, chances: Any, temperature: Any = 1.0) -> Any:
        """One level for each channel of each pixel.

        At temperature 1 a component is drawn, then its logistic values, which become the nearest levels. At
        any other, a channel's probabilities p of all levels, given the channels before it, become p^(1 / T),
        scaled to sum to 1; at 0 the likeliest level is taken.

        Args:
            parameters: float32 [pixels, outputs].
            chances: float32 [pixels, `chances`], uniform in [0, 1).
            temperature: T, float32 scalar, 0 or above.

        Returns:
            float32 [pixels, channels], whole numbers 0 to L - 1.
        """
        parts, temperature = self.components(parameters), tf.convert_to_tensor(temperature, tf.float32)
        return tf.cond(
            tf.equal(temperature, 1.0),
            lambda: self._by_component(parts, chances),
            lambda: self._by_table(parts, chances, temperature),
        )

    def _by_component(self, parts: Components, chances: Any) -> Any:
        picked = self._picked(tf.nn.softmax(parts.logits), chances[:, 0])
        means, log_scales, coefficients = (
            tf.gather(part, picked, axis=1, batch_dims=1) for part in parts[1:]
        )
        values: list[Any] = []
        for channel in range(self.channels):
            chance = tf.clip_by_value(chances[:, 1 + channel], _RARE, 1.0 - _RARE)
            mean = means[:, channel]
            for other, value in enumerate(values):
                mean += coefficients[:, self._pair(channel, other)] * value
            free = mean + tf.exp(log_scales[:, channel]) * (tf.math.log(chance) - tf.math.log1p(-chance))
            values.append(self.scaled(self._nearest(free)))
        return self._nearest(tf.stack(values, axis=-1))

    def _by_table(self, parts: Components, chances: Any, temperature: Any) -> Any:
        levels = tf.range(self.levels, dtype=tf.float32)
        weights = tf.nn.log_softmax(parts.logits)
        values: list[Any] = []
        for channel in range(self.channels):
            means = parts.means[..., channel]
            for other, value in enumerate(values):
                means += parts.coefficients[..., self._pair(channel, other)] * value[:, tf.newaxis]
            scales = parts.log_scales[..., channel]
            told = self._of_levels(
                means[:, tf.newaxis], scales[:, tf.newaxis], self.scaled(levels)[:, tf.newaxis]
            )
            table = tf.reduce_logsumexp(weights[:, tf.newaxis] + told, axis=-1)
            level = self._tempered(table, chances[:, 1 + channel], temperature)
            values.append(self.scaled(tf.cast(level, tf.float32)))
            # What the channel turned out to be says which components it may have come from.
            weights += tf.gather(told, level, axis=1, batch_dims=1)
        return self._nearest(tf.stack(values, axis=-1))

    def _tempered(self, table: Any, chance: Any, temperature: Any) -> Any:
        hot = tf.nn.softmax(table / tf.maximum(temperature, 1e-6))
        drawn = self._picked(hot, chance)
        return tf.where(temperature > 0.0, drawn, tf.argmax(table, axis=-1, output_type=tf.int32))

    def _picked(self, probabilities: Any, chance: Any) -> Any:
        """int32 [pixels]: where the sum of `probabilities` [pixels, n] passes `chance` [pixels]."""
        sums = tf.cumsum(probabilities, axis=-1)
        passed = tf.reduce_sum(tf.cast(sums <= chance[:, tf.newaxis] * sums[:, -1:], tf.int32), axis=-1)
        return tf.minimum(passed, probabilities.shape[-1] - 1)

    def _nearest(self, values: Any) -> Any:
        """The levels whose intervals numbers lie in; the tails belong to the first and the last."""
        return tf.clip_by_value(tf.round((values + 1.0) * ((self.levels - 1) / 2)), 0.0, self.levels - 1.0)

    def _means(self, parts: Components, values: Any) -> Any:
        """[..., K, channels]: means, given the values [..., 1, channels] of the channels before each."""
        if self.channels == 1:
            return parts.means
        means = tf.unstack(parts.means, axis=-1)
        for channel in range(self.channels):
            for other in range(channel):
                means[channel] += parts.coefficients[..., self._pair(channel, other)] * values[..., other]
        return tf.stack(means, axis=-1)

    def _of_levels(self, means: Any, log_scales: Any, values: Any) -> Any:
        """log P of each component and channel: all broadcast against one another."""
        half = 1.0 / (self.levels - 1)
        centred, sharpness = values - means, tf.exp(-log_scales)
        below = tf.math.log_sigmoid((centred + half) * sharpness)
        above = tf.math.log_sigmoid((half - centred) * sharpness)
        between = below + above + _log_of_rest(2.0 * half * sharpness, math.log(2.0 * half) - log_scales)
        inner = tf.where(values > 1.0 - half, above, between)
        return tf.where(values < half - 1.0, below, inner)

    @property
    def _pairs(self) -> int:
        return self.channels * (self.channels - 1) // 2

    def _pair(self, channel: int, other: int) -> int:
        return channel * (channel - 1) // 2 + other


def _log_of_rest(width: Any, log_width: Any) -> Any:
    """log(1 - e^-d) of d > 0, given d and log d: near 0 it is log d - d / 2 + d^2 / 24."""
    far = tf.math.log(-tf.math.expm1(-tf.maximum(width, _SMALL)))
    return tf.where(width < _SMALL, log_width - 0.5 * width + width * width / 24.0, far)
