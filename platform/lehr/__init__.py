"""lehr: data-parallel training of TensorFlow and Keras 3 models on a Ray cluster."""

__version__ = "0.1.0"
