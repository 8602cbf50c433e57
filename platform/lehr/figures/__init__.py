"""Pictures as PNG bytes, from arrays alone: grids of images, strips along a chain, curves."""
