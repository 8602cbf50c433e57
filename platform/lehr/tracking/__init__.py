"""Views of the journal that other systems show: Weights & Biases."""
