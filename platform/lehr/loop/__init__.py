"""The training loop and what it repeats."""
