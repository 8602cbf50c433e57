"""Pictures as PNG bytes, from arrays alone.

grid(images)                    many images on one sheet
strip(frames, steps)            one chain's way from noise to an image
energies(values)                the energy along chains
pictures(...)                   these three, of one set of samples
curves(entries)                 a run's metrics by step
sweeps                          a sweep: its best, its parameters, its copies (a module of its own)
"""

from lehr.figures.curves import curves
from lehr.figures.energies import energies
from lehr.figures.grid import grid
from lehr.figures.pictures import pictures
from lehr.figures.strip import strip

__all__ = ["curves", "energies", "grid", "pictures", "strip"]
