"""Numbers that tell how good a generative model is, from arrays alone.

`frechet`, `kernel` and `precision` compare two sets of features, float [examples, features]: of real examples
and of samples; `likelihood` changes units; `comparison` gives all of them by name. What the features are
decides what the numbers mean: those of another network, of other weights or of another count cannot be
compared.
"""
