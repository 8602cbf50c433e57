"""LeNet: shapes, counts and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from lehr.errors import UserError
from lehr.models.lenet import LeNet


def node(activation: str = "sigmoid", pooling: str = "average") -> Any:
    return SimpleNamespace(activation=activation, pooling=pooling)


@pytest.fixture
def policy() -> Iterator[None]:
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def test_the_book_s_shapes_and_count() -> None:
    model = LeNet(node(), (28, 28, 1))
    assert [(layer.name, layer.output.shape[1:]) for layer in model.layers] == [
        ("conv_1", (28, 28, 6)),
        ("pool_1", (14, 14, 6)),
        ("conv_2", (10, 10, 16)),
        ("pool_2", (5, 5, 16)),
        ("flatten", (400,)),
        ("dense_1", (120,)),
        ("dense_2", (84,)),
        ("logits", (10,)),
    ]
    assert model.count_params() == 61_706


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 1), (12, 12, 3), (96, 96, 1)])
def test_the_plan_counts_the_same_parameters(shape: tuple[int, int, int]) -> None:
    from lehr.spec.models import LeNet as Row

    row = Row(kind="lenet")
    assert LeNet(row, shape).count_params() == row.parameters(shape)


def test_weights_start_as_glorot_says() -> None:
    keras.utils.set_random_seed(1)
    model = LeNet(node(), (28, 28, 1))
    convolutions = {"conv_1": (25, 150), "conv_2": (150, 400)}
    dense = {"dense_1": (400, 120), "dense_2": (120, 84), "logits": (84, 10)}
    for name, (fan_in, fan_out) in (convolutions | dense).items():
        kernel, bias = (v.numpy() for v in model.get_layer(name).trainable_variables)
        limit = np.sqrt(6 / (fan_in + fan_out))
        assert 0.9 * limit < np.abs(kernel).max() <= limit, name
        assert not bias.any()


def test_the_first_output_by_hand() -> None:
    """Convolution with a border of two zeros, sigmoid, mean of 2x2, against plain NumPy."""
    model = LeNet(node(), (28, 28, 1))
    image = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    kernel, bias = (v.numpy() for v in model.get_layer("conv_1").trainable_variables)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, 2), (5, 5))
    convolved = np.einsum("hwij,ijf->hwf", windows, kernel[:, :, 0]) + bias
    pooled = (1 / (1 + np.exp(-convolved))).reshape(14, 2, 14, 2, 6).mean(axis=(1, 3))
    part = keras.Model(model.inputs[0], model.get_layer("pool_1").output)
    np.testing.assert_allclose(part(image[None, :, :, None])[0], pooled, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("pooling", "kind"), [("average", "AveragePooling2D"), ("max", "MaxPooling2D")])
def test_pooling_and_activation_are_the_spec_s(pooling: str, kind: str) -> None:
    model = LeNet(node("relu", pooling), (28, 28, 1))
    assert {type(model.get_layer(f"pool_{i}")).__name__ for i in (1, 2)} == {kind}
    named = {layer.name: layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")}
    assert named == dict.fromkeys(("conv_1", "conv_2", "dense_1", "dense_2"), "relu") | {"logits": "linear"}


def test_variables_have_names_of_their_own() -> None:
    paths = [v.path for v in LeNet(node(), (28, 28, 1)).variables]
    assert len(set(paths)) == 10
    assert all(path.startswith("lenet/") for path in paths)


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_logits_are_float32_under_every_precision(precision: str) -> None:
    keras.config.set_dtype_policy(precision)
    model = LeNet(node(), (28, 28, 1))
    logits = model(np.zeros((3, 28, 28, 1), np.float32))
    assert logits.dtype == "float32"
    assert tuple(logits.shape) == (3, 10)
    assert {v.dtype for v in model.variables} == {"float32"}
    assert model.get_layer("conv_1").compute_dtype == precision.removeprefix("mixed_")


@pytest.mark.parametrize("shape", [(8, 8, 1), (11, 28, 1), (784,)])
def test_images_that_are_too_small(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError) as caught:
        LeNet(node(), shape)
    assert str(caught.value).splitlines() == [
        f"data.image_size: lenet was given inputs of shape {shape}",
        "  accepted: images of 12 pixels or more",
        "  do: set data.image_size: 28",
    ]
