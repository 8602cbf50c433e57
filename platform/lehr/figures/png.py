"""PNG bytes of arrays and of figures. The same input gives the same bytes: nothing in them tells a time."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_SILENT: Any = {"Software": None}
DPI = 100  # so that an inch of a figure is 100 pixels


def of_pixels(pixels: np.ndarray) -> bytes:
    """uint8 [height, width, 3] as it is, no pixel resampled."""
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, pixels, format="png", metadata=_SILENT)
    return buffer.getvalue()


def of_figure(figure: Figure) -> bytes:
    """A figure, at `DPI`; its canvas becomes Agg, whatever the environment prefers."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata=_SILENT)
    return buffer.getvalue()
