"""What a data source gives: one split, whole, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Arrays:
    """Examples of one split, found by index.

    Inputs may be kept in a form smaller than the model wants (bytes, unpadded): `render` then turns the
    rows of one batch into what it wants. It must treat each row by itself, because which rows come
    together depends on the number of workers.

    Args:
        input: [examples, ...]; without `render`, float32 [examples, *shape].
        target: [examples, ...]; class numbers are int64 [examples].
        render: from rows of `input` to float32 [rows, *shape]; None where `input` is that already.
        units: what each example counts, such as the words of a text: int64 [examples]; None: 1.
        assets: files that samples need without the data, such as a vocabulary, by name.

    Raises:
        ValueError: the two differ in length, or there are no examples.
    """

    input: np.ndarray
    target: np.ndarray
    render: Callable[[np.ndarray], np.ndarray] | None = None
    units: np.ndarray | None = None
    assets: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.input) != len(self.target) or len(self.input) == 0:
            raise ValueError(
                f"a split needs as many targets as inputs and at least one: got {len(self.input)} inputs "
                f"and {len(self.target)} targets"
            )

    def __len__(self) -> int:
        return len(self.input)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example as the model gets it: [height, width, channels] for images."""
        return self.take(np.zeros(1, np.int64))[0].shape[1:]

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Examples `rows`, int64 [rows]: inputs [rows, *shape] and targets [rows, ...]."""
        picked = self.input[rows]
        return (picked if self.render is None else self.render(picked)), self.target[rows]

    def first(self, count: int | None) -> Arrays:
        """The first `count` examples; all of them when `count` is None or more than there are."""
        units = None if self.units is None else self.units[:count]
        return Arrays(self.input[:count], self.target[:count], self.render, units, self.assets)

    def counted(self, rows: np.ndarray) -> float:
        """Units of examples `rows`, int64 [rows], in all."""
        return float(len(rows) if self.units is None else self.units[rows].sum())
