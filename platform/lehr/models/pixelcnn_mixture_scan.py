"""`PixelCNNMixture` taken apart for drawing pixel by pixel (see `dynamics.raster.Scan`).

The vertical stream holds only what is in rows above, so it is worked out for a whole row before the row's
first pixel. So is what the horizontal stream's convolutions see of the row above, and what it is told by the
vertical one: together they are the row's context. At a pixel there remain the products with the features of
the pixel itself and of the one to its left. Sizes below the first are visited at every second row and column
of the size above, and what they give to four of its places is kept.

All in float32. Of a size, `row` counts its own rows. Features of a row are [count, width, channels]; what is
kept pixel by pixel is [width, count, channels], as a scan stacks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from lehr.models.shifted import Gated, Shifted, concat_elu, gated

if TYPE_CHECKING:
    from lehr.models.pixelcnn_mixture import PixelCNNMixture, Scale

State = dict[str, Any]


class MixtureScan:
    """The model with the weights that it has now: made inside of a program, outside of its loops."""

    def __init__(self, model: PixelCNNMixture) -> None:
        self.shape, self.chances = model.image_shape, model.mixture.chances
        self._model = model
        self._sizes: list[Size] = []
        width = self.shape[1]
        for scale in model.scales:
            self._sizes.append(Size(scale, width, doubled=self._sizes[-1].width if self._sizes else 0))
            width = -(-width // 2)
        self._ends = _Dense(model.parameters_of)

    def above(self, count: int) -> Any:
        """Nothing but borders, and the context of the first row."""
        pixels = tf.zeros([count, self.shape[1], self.shape[2] + 1])
        states = [size.start(count) for size in self._sizes]
        return self._advanced(tf.constant(0), (pixels, pixels), states)

    def row(self, above: Any) -> Any:
        """Row and column of each pixel, the context of each size, and what smaller sizes gave to this row."""
        row, _, states = above
        width = self.shape[1]
        contexts = [_spread(state["context"], number, width) for number, state in enumerate(states)]
        lifted = [
            _spread(state["kept"][..., -4 * size.filters :], number, width)
            for number, (size, state) in enumerate(zip(self._sizes, states, strict=True))
        ]
        return tf.fill([width], row), tf.range(width), contexts, lifted[1:]

    def left(self, count: int) -> Any:
        """What the sizes kept of the pixel to the left, and the pixel itself: at a row's start, nothing."""
        return tf.zeros([count, sum(self._kept())]), tf.zeros([count, self.shape[2] + 1])

    def pixel(self, context: Any, left: Any) -> tuple[Any, Any]:
        """Parameters of the mixture [count, outputs], and what all sizes keep [count, ...]."""
        row, column, contexts, lifted = context
        visit = Visit(self._sizes, contexts, lifted, tf.split(left[0], self._kept(), axis=-1))
        features = visit.through(0, row, column, (None, left[1]))
        return self._ends(tf.nn.elu(features)), tf.concat(visit.kept, -1)

    def draw(self, parameters: Any, chances: Any, temperature: Any) -> Any:
        """Levels of the pixel, float32 [count, channels]."""
        return self._model.mixture.draw(parameters, chances, temperature)

    def moved(self, left: Any, kept: Any, value: Any) -> Any:
        """`left` of the next pixel."""
        return kept, self._model.inputs_of(value)

    def finished(self, above: Any, kept: Any, values: Any) -> Any:
        """`above` of the next row: what was kept, where the size has this row, and the next row's context."""
        row, (_, last), states = above
        pixels = tf.transpose(self._model.inputs_of(values), [1, 0, 2])
        parts = tf.split(kept, self._kept(), axis=-1)
        states = [
            size.keeping(state, part[:: 2**number], row % 2**number == 0)
            for number, (size, state, part) in enumerate(zip(self._sizes, states, parts, strict=True))
        ]
        return self._advanced(row + 1, (last, pixels), states)

    def _kept(self) -> list[int]:
        return [size.kept for size in self._sizes]

    def _advanced(self, row: Any, pixels: tuple[Any, Any], states: list[State]) -> Any:
        states = list(states)
        _vertical(self._sizes, states, 0, row, pixels)
        return row, pixels, states


class Visit:
    """One pixel's way through the horizontal stream.

    Args:
        sizes: of the network.
        contexts: of each size at this pixel, [count, ...].
        lifted: of each size but the first, what it gave at the row above: [count, 4 filters].
        kept: of each size, at its place to the left; afterwards, at its place here.
    """

    def __init__(self, sizes: list[Size], contexts: Any, lifted: Any, kept: list[Any]) -> None:
        self._sizes, self._contexts, self._lifted = sizes, contexts, lifted
        self.kept = list(kept)

    def through(self, number: int, row: Any, column: Any, inputs: tuple[Any, Any]) -> Any:
        """The stream's features at the end of size `number`; `inputs` are those here and to the left."""
        size = self._sizes[number]
        context = iter(tf.split(self._contexts[number], size.parts, axis=-1))
        before = iter(tf.split(self.kept[number], size.keeps, axis=-1))
        record: list[Any] = []
        here, left = inputs
        now = next(context) + size.entrance(left if here is None else tf.concat([left, here], -1))
        way = [now]
        for line in size.down:
            now = line.passed(now, None, context, before, record)
            way.append(now)
        if size.innermost:
            now = way.pop()
        else:
            # What goes into the size below is kept too: it is the place to the left of the next one.
            record.append(now)
            now = self._below(number + 1, row, column, (now, next(before)))
        for line in size.up:
            now = line.passed(now, way.pop(), context, before, record)
        if size.lift is not None:
            record.append(size.lift(now))
        self.kept[number] = tf.concat(record, -1)
        return now

    def _below(self, number: int, row: Any, column: Any, inputs: tuple[Any, Any]) -> Any:
        """What size `number` gives to this place, computed where it has a place of its own here."""

        def visited() -> list[Any]:
            inner = Visit(self._sizes, self._contexts, self._lifted, self.kept)
            inner.through(number, row // 2, column // 2, inputs)
            return inner.kept[number:]

        odd_row, odd_column = row % 2, column % 2
        last = self.kept[number:]
        self.kept[number:] = tf.cond(
            odd_row + odd_column == 0, visited, lambda: [tf.identity(k) for k in last]
        )
        filters = self._sizes[number].filters
        given = self.kept[number][:, -4 * filters :]
        block = tf.where(odd_row == 0, given, self._lifted[number - 1])
        place = 2 * odd_row + odd_column
        return tf.reshape(block, [-1, 4, filters])[:, place]


class Size:
    """The horizontal stream's kernels at one size, in the form for single pixels, and the vertical layers.

    Args:
        scale: the layers.
        width: of its rows.
        doubled: width of the size above; 0 where there is none.
    """

    def __init__(self, scale: Scale, width: int, *, doubled: int) -> None:
        self.scale, self.width, self.doubled = scale, width, doubled
        self.filters, self.innermost = scale.filters, scale.innermost
        self.vertical, *self.horizontal = scale.entrances
        self.entrance = _Own(self.horizontal[-1])
        self.down = [Line(pair[1]) for pair in scale.down]
        self.up = [Line(pair[1]) for pair in scale.up]
        self.lift = _Dense(scale.lifts[1].block) if scale.lifts else None

    @property
    def parts(self) -> list[int]:
        """Channels of the context: the entrance's, and each block's two convolutions'."""
        return [self.filters, *[self.filters, 2 * self.filters] * len(self.down + self.up)]

    @property
    def keeps(self) -> list[int]:
        """Channels of what is kept of a pixel: what each convolution takes, and what was lifted."""
        block = [2 * self.filters] * 2
        below = [] if self.innermost else [self.filters]
        lifted = [4 * self.filters] if self.lift is not None else []
        return block * len(self.down) + below + block * len(self.up) + lifted

    @property
    def kept(self) -> int:
        """Their sum."""
        return sum(self.keeps)

    def start(self, count: int) -> State:
        """Before the first row: zeros, as beyond the border."""
        rows = self.keeps if self.lift is None else self.keeps[:-1]
        return {
            "rows": [tf.zeros([count, self.width, channels]) for channels in rows],
            "kept": tf.zeros([self.width, count, self.kept]),
            "above": tf.zeros([count, 2, max(self.doubled, 1), self.filters]),
            "context": tf.zeros([self.width, count, sum(self.parts)]),
        }

    def taken(self, state: State) -> tuple[list[Any], Any]:
        """Of the row above: what each block's convolutions took, and what went into the size below."""
        parts = tf.split(tf.transpose(state["kept"], [1, 0, 2]), self.keeps, axis=-1)
        down, below = 2 * len(self.down), 0 if self.innermost else 1
        up = down + below
        return parts[:down] + parts[up : up + 2 * len(self.up)], parts[down]

    def keeping(self, state: State, kept: Any, now: Any) -> State:
        """`state` with what a finished row left, if it is a row of this size."""
        return state | {"kept": tf.where(now, kept, state["kept"])}


class Line:
    """A gated block of the horizontal stream, at single pixels."""

    def __init__(self, block: Gated) -> None:
        self.block = block
        self._first, self._second = _Own(block.first), _Own(block.second)
        kernel = tf.convert_to_tensor(block.joined.kernel.value)
        # Those of the vertical stream, which are part of the context; and of the same stream's way down.
        self.told, self._joined = kernel[: 2 * block.filters], kernel[2 * block.filters :]

    def passed(self, now: Any, beside: Any, context: Any, before: Any, record: list[Any]) -> Any:
        """Features [count, filters] after the block; what its convolutions take joins the record."""
        outer = concat_elu(now)
        hidden = next(context) + self._first(tf.concat([next(before), outer], -1))
        if beside is not None:
            hidden += concat_elu(beside) @ self._joined
        inner = concat_elu(hidden)
        pair = next(context) + self._second(tf.concat([next(before), inner], -1))
        record += [outer, inner]
        return gated(now, pair)


class _Own:
    """What a convolution sees of its own row: the last row of its kernel, as a matrix. No bias."""

    def __init__(self, layer: Shifted) -> None:
        self._matrix = tf.reshape(layer.kernel.value[-1], [-1, layer.filters])

    def __call__(self, features: Any) -> Any:
        return features @ self._matrix


class _Dense:
    def __init__(self, layer: Any) -> None:
        self._kernel, self._bias = (tf.convert_to_tensor(w.value) for w in (layer.kernel, layer.bias))

    def __call__(self, features: Any) -> Any:
        return features @ self._kernel + self._bias


def _vertical(sizes: list[Size], states: list[State], number: int, row: Any, inputs: tuple[Any, Any]) -> None:
    """Work out a row of the vertical stream, and the context of the row's pixels, from size `number` down.

    Args:
        sizes: of the network.
        states: of each size; those from `number` on are replaced.
        number: of the size.
        row: of this size.
        inputs: the rows that its entrance sees, the last one last.
    """
    size, state = sizes[number], states[number]
    rows, record = iter(state["rows"]), []
    upper = iter(size.taken(state)[0])
    entering = sizes[number - 1].taken(states[number - 1])[1] if number else inputs[-1]
    context = [tf.add_n([_over(layer, entering) for layer in size.horizontal])]

    def seen(layer: Shifted, features: Any) -> Any:
        record.append(features)
        return _over(layer, tf.stack([next(rows), features], 1))

    def passed(pair: Any, now: Any, beside: Any) -> Any:
        block, line = pair[0], pair[1]
        hidden = seen(block.first, concat_elu(now))
        if beside is not None:
            hidden += _Dense(block.joined)(concat_elu(beside))
        now = gated(now, seen(block.second, concat_elu(hidden)))
        told = concat_elu(now) @ line.told + line.block.joined.bias.value
        context.append(_over(line.block.first, next(upper)) + told)
        context.append(_over(line.block.second, next(upper)))
        return now

    now = _over(size.vertical, tf.stack(inputs, 1))
    way = [now]
    for layers, line in zip(size.scale.down, size.down, strict=True):
        now = passed((layers[0], line), now, None)
        way.append(now)
    if size.innermost:
        now = way.pop()
    else:
        record.append(now)
        now = _given(sizes, states, number + 1, row, (next(rows), now))
    for layers, line in zip(size.scale.up, size.up, strict=True):
        now = passed((layers[0], line), now, way.pop())
    made = {"rows": record, "context": tf.transpose(tf.concat(context, -1), [1, 0, 2])}
    if size.doubled:
        block = _Dense(size.scale.lifts[0].block)(now)
        made["above"] = tf.nn.depth_to_space(block[:, tf.newaxis], 2)[:, :, : size.doubled]
    states[number] = state | made


def _given(sizes: list[Size], states: list[State], number: int, row: Any, inputs: tuple[Any, Any]) -> Any:
    """What size `number` gives to row `row` of the size above: worked out at even ones, for two."""

    def worked_out() -> list[State]:
        fresh = list(states)
        _vertical(sizes, fresh, number, row // 2, inputs)
        return fresh[number:]

    old = states[number:]
    states[number:] = tf.cond(row % 2 == 0, worked_out, lambda: tf.nest.map_structure(tf.identity, old))
    return states[number]["above"][:, row % 2]


def _over(layer: Shifted, rows: Any) -> Any:
    """A row of a convolution, with its bias: [count, width, out].

    Args:
        layer: the convolution.
        rows: those that its window sees, [count, height, width, in]; or the first of them alone,
            [count, width, in], as if the others were 0.
    """
    kernel, seen = layer.kernel.value, rows
    if len(rows.shape) == 3:
        kernel, seen = kernel[:1], rows[:, tf.newaxis]
    _, _, left, right = layer.window
    margins = [[0, 0], [0, 0], [left, max(right, 0)], [0, 0]]
    made = tf.nn.conv2d(seen[:, :, : min(right, 0) or None], kernel, layer.stride, margins)
    return tf.nn.bias_add(made, layer.bias.value)[:, 0]


def _spread(row: Any, number: int, width: int) -> Any:
    """A row of size `number`, [its width, ...], at each place of the first size: [width, ...]."""
    return tf.repeat(row, 2**number, axis=0)[:width] if number else row
