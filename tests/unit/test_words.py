"""Texts to numbered words as the book's tokeniser numbers them, and recipes from their files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from lehr.data import recipes, words
from lehr.errors import UserError
from lehr.spec import load as load_job
from lehr.spec.language import KNOWN, Recipes

TEXTS = [
    "Recipe for Beef | Cut it; salt it. Cook, cook and COOK!",
    "Recipe for Éclairs (5-minute) | Don't stir. It's done\tin 1/2 hour",
    'Recipe for Crème\u00a0brûlée | a_b \\ c^d ~ [x] {y} "z" | a a b b',
]  # ties, letters beyond ASCII, a blank that ASCII does not know, every kind of mark


def vectorised(texts: list[str], size: int, length: int) -> tuple[list[str], np.ndarray]:
    """The oracle: Keras' own layer on texts whose marks were set apart, as in the book."""
    import string

    apart = [text.translate({ord(mark): f" {mark} " for mark in string.punctuation}) for text in texts]
    layer = keras.layers.TextVectorization(
        standardize="lower", max_tokens=size, output_mode="int", output_sequence_length=length
    )
    layer.adapt(apart)
    return layer.get_vocabulary(), np.asarray(layer(apart))


@pytest.mark.parametrize("size", [9, 1000])
def test_ids_are_those_of_keras(size: int) -> None:
    split = [words.split(text) for text in TEXTS]
    ours = words.Vocabulary.of(split, size)
    names, ids = vectorised(TEXTS, size, 17)
    assert [word.decode() for word in ours.words] == names
    np.testing.assert_array_equal(ours.table(split, 17), ids)


def test_marks_are_words_and_only_ascii_has_a_lower_case() -> None:
    assert words.split("Don't ÉAT, (it)") == [b"don", b"'", b"t", "Éat".encode(), b",", b"(", b"it", b")"]


def test_a_vocabulary_comes_back_from_its_file() -> None:
    vocabulary = words.Vocabulary([b".", "Éat".encode(), b"\xff"])
    again = words.Vocabulary.restored(vocabulary.document())
    assert again.words == vocabulary.words == [b"", b"[UNK]", b".", "Éat".encode(), b"\xff"]
    assert len(again) == 5
    assert again.text([3, 1, 2, 0, 2]) == "Éat [UNK] ."
    assert again.unknown([b".", b"x", b"y", b"x"]) == ["x", "y"]
    with pytest.raises(ValueError, match="once"):
        words.Vocabulary([b"a", b"a"])


def records(count: int) -> list[dict[str, Any]]:
    return [
        {"title": f"dish {n}", "directions": ["Cut it.", f"Add word{n} {'now ' * n}"]} for n in range(count)
    ]


def node(folder: Path, found: Any, **keys: Any) -> Recipes:
    folder.joinpath("some.json").write_text(json.dumps(found))
    given = {"train_examples": 6, "validation_examples": 2, "vocabulary": 40, "length": 12} | keys
    return Recipes.model_validate({"kind": "recipes", "root": str(folder), "file": "some.json", **given})


def test_recipes_without_title_or_directions_are_left_out() -> None:
    found = [{"title": None, "directions": ["a"]}, {"title": "t"}, {"title": "t ", "directions": ["a", "b."]}]
    packed = json.dumps(found).encode()
    assert recipes.texts(packed, "") == recipes.texts(gzip.compress(packed), "") == ["Recipe for t  | a b."]


@pytest.mark.parametrize(
    "data", [b"{}", b"[1]", b"nonsense", b"\x1f\x8b broken", b'[{"title": 1, "directions": 2}]']
)
def test_what_is_no_list_of_recipes_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match="accepted: a JSON list of records"):
        recipes.texts(data, "a.json")


def test_a_target_is_the_word_that_follows(tmp_path: Path) -> None:
    data = node(tmp_path, records(8))
    arrays = recipes.load(data, "train")
    vocabulary = words.Vocabulary.restored(arrays.assets[recipes.VOCABULARY])
    assert arrays.shape == data.shape == (12,)
    assert len(arrays) == 6
    np.testing.assert_array_equal(arrays.input[:, 1:], arrays.target[:, :-1])
    assert all(vocabulary.text(row).startswith("recipe for dish") for row in arrays.input.tolist())
    assert arrays.units is not None
    np.testing.assert_array_equal(arrays.units, (arrays.input != 0).sum(axis=1))


def test_held_out_recipes_do_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    found = records(8)
    one, other = (recipes.load(node(tmp_path, some), "validation") for some in (found, found[::-1]))
    np.testing.assert_array_equal(one.input, other.input)
    train = recipes.load(node(tmp_path, found), "train")
    assert len(one) == 2
    assert not {row.tobytes() for row in one.input} & {row.tobytes() for row in train.input}


def test_the_vocabulary_knows_no_word_that_only_held_out_recipes_have(tmp_path: Path) -> None:
    data = node(tmp_path, records(8), vocabulary=1000)
    held_out = recipes.load(data, "validation")
    assert held_out.assets == recipes.load(data, "train").assets
    assert (held_out.input == words.UNKNOWN).sum(axis=1).min() >= 1  # its wordN, at least


def test_a_file_with_fewer_recipes_than_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 7 recipes .* 6 to train and 2 held out"):
        recipes.load(node(tmp_path, records(7)), "train")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    data = Recipes.model_validate({"kind": "recipes", "root": str(tmp_path)})
    with pytest.raises(UserError, match=r"no recipes/epicurious_recipes\.json\.gz and no epicurious"):
        recipes.load(data, "train")
    with pytest.raises(UserError, match=r"data\.root"):
        recipes.load(Recipes.model_validate({"kind": "recipes"}), "train")


def test_examples_are_known_without_the_data() -> None:
    assert Recipes.model_validate({"kind": "recipes"}).examples() == (16_834, 1_870)
    few = {"kind": "recipes", "train_examples": 100, "validation_examples": 0}
    assert Recipes.model_validate(few).examples() == (100, 0)


JOB = """
version: 1
name: words
model: {kind: lstm, MODEL}
data: {kind: recipes, DATA}
train: {global_batch: 2, duration: {steps: 1}, optimizer: {kind: adam, learning_rate: 1.0e-3}}
SAMPLES
"""


def planned(folder: Path, model: str = "units: [4]", data: str = "length: 9", samples: str = "") -> Any:
    from lehr import plan

    folder.joinpath("a.yaml").write_text(
        JOB.replace("MODEL", model).replace("DATA", data).replace("SAMPLES", samples)
    )
    return plan.make(load_job(str(folder / "a.yaml"), []))


def test_demands_of_a_language_model(tmp_path: Path) -> None:
    assert planned(tmp_path).parameters == 1_000_000 + 4 * (100 + 4 + 1) * 4 + (4 + 1) * 10_000
    with pytest.raises(UserError, match=r"data\.vocabulary: 500 words; model lstm has 10000"):
        planned(tmp_path, data="vocabulary: 500")
    with pytest.raises(UserError, match="a layer that reads backwards has seen the next word"):
        planned(tmp_path, model="bidirectional: true")
    with pytest.raises(UserError, match="for a file that lehr does not know"):
        planned(tmp_path, data="file: other.json")
    with pytest.raises(UserError, match="samples of model lstm have no steps"):
        planned(tmp_path, samples="samples: {every: {steps: 1}, steps: 5}")


def test_the_known_files_and_the_ids_that_the_book_prints(data_root: Path) -> None:
    folder = data_root / "recipes"
    for name, count in KNOWN.items():
        if (folder / name).exists():  # Kaggle's own is not among the test data
            assert len(recipes.texts((folder / name).read_bytes(), name)) == count
    few = {"kind": "recipes", "root": str(data_root), "train_examples": 2000, "validation_examples": 10}
    arrays = recipes.load(Recipes.model_validate(few), "train")
    vocabulary = words.Vocabulary.restored(arrays.assets[recipes.VOCABULARY])
    # Foster, 2nd ed., example 5-4: id 0 is the padding, 1 [UNK], then ".", ",", "and", "to", "in", "the",
    # "with", "a".
    assert vocabulary.words[:10] == [b"", b"[UNK]", b".", b",", b"and", b"to", b"in", b"the", b"with", b"a"]
