"""Writing word by word: temperature, top-k, the end, what is forbidden, and addresses of draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from lehr.data import words
from lehr.data.recipes import VOCABULARY
from lehr.dynamics import decoding
from lehr.dynamics.decoding import Decoder
from lehr.errors import UserError
from lehr.models.recurrent import Recurrent
from lehr.spec.language import LongShortTermMemory
from lehr.worker.sampling import Wanted
from lehr.worker.writing import Writer

RNG = np.random.default_rng(7)
NAMES = [b"recipe", b"for", b"|", b"roasted", b"eggs", b".", b"cut", b"and", b"salt"]
COUNT = len(NAMES) + 2
PROMPT = [2, 3]


@pytest.fixture(scope="module")
def model() -> Recurrent:
    keys = {"kind": "lstm", "vocabulary": COUNT, "embedding": 4, "units": (6, 5)}
    made = Recurrent(LongShortTermMemory.model_validate(keys), (9,))
    for variable in made.variables:
        variable.assign(RNG.normal(size=variable.shape).astype(np.float32))
    bias = made.variables[-1].numpy()
    made.variables[-1].assign(bias - 3.0 * (np.arange(COUNT) == 0))  # texts that do not end at once
    return made


@pytest.fixture(scope="module")
def decoder(model: Recurrent) -> Decoder:
    return Decoder(model, seed=1, forbidden=(words.UNKNOWN,))


def whole_prefix(model: Recurrent, prompt: list[int], length: int, *, barred: int) -> list[int]:
    """The textbook's loop: read all again for each word, and take the likeliest."""
    text = list(prompt)
    while len(text) < length:
        logits = model(tf.constant([text], tf.int32)).numpy()[0, -1]
        logits[barred] = -np.inf
        text.append(int(logits.argmax()))
        if text[-1] == 0:
            break
    return text + [0] * (length - len(text))


def test_the_carried_state_writes_what_reading_all_again_would(model: Recurrent, decoder: Decoder) -> None:
    written = decoder.write(PROMPT, 3, length=12, temperature=0.0)
    wanted = whole_prefix(model, PROMPT, 12, barred=1)
    assert written.tolist() == [wanted] * 3  # temperature 0 divides by nothing: it is the arg-max
    assert decoder.write(PROMPT, 1, length=12, temperature=1.0, top_k=1).tolist() == [wanted]


def test_text_i_depends_on_the_seed_and_on_i_alone(model: Recurrent, decoder: Decoder) -> None:
    many = decoder.write(PROMPT, decoding.GROUP + 3, length=9)
    np.testing.assert_array_equal(decoder.write(PROMPT, 2, length=9), many[:2])
    np.testing.assert_array_equal(decoder.write(PROMPT, 2, length=9, first=5), many[5:7])
    np.testing.assert_array_equal(decoder.write(PROMPT, 2, length=6), many[:2, :6])
    assert len({row.tobytes() for row in many}) > 3
    assert (Decoder(model, seed=2).write(PROMPT, len(many), length=9) != many).any()


def test_words_come_as_often_as_the_model_says(model: Recurrent, decoder: Decoder) -> None:
    logits, _ = model.begin(tf.constant([PROMPT], tf.int32))
    chances = np.exp(logits.numpy()[0].astype(np.float64) / 0.7)
    chances[1] = 0.0
    chances /= chances.sum()
    np.testing.assert_allclose(decoder.chances(PROMPT, 0.7), chances, atol=1e-6)
    drawn = decoder.write(PROMPT, 2000, length=3, temperature=0.7)[:, 2]
    found = np.bincount(drawn, minlength=COUNT) / 2000
    assert found[1] == 0.0
    np.testing.assert_allclose(found, chances, atol=4 * np.sqrt(0.25 / 2000))


def test_top_k_draws_from_the_k_likeliest(decoder: Decoder) -> None:
    best = np.argsort(-decoder.chances(PROMPT, 1.0))[:3]
    drawn = decoder.write(PROMPT, 200, length=3, temperature=5.0, top_k=3)[:, 2]
    assert set(drawn.tolist()) == set(best.tolist())
    everything = decoder.write(PROMPT, 20, length=6, top_k=COUNT + 5)
    np.testing.assert_array_equal(everything, decoder.write(PROMPT, 20, length=6))


class Scripted:
    """Says a word after each word, with certainty."""

    vocabulary = 5

    def __init__(self, follows: list[int]) -> None:
        self._rows = tf.one_hot(follows, 5) * 100.0

    def begin(self, prompt: Any) -> tuple[Any, Any]:
        return self.advance(prompt[:, -1], ())

    def advance(self, words: Any, state: Any) -> tuple[Any, Any]:
        return tf.gather(self._rows, words), state


def test_a_text_ends_with_id_0_and_nothing_follows() -> None:
    ends = Scripted([2, 0, 3, 4, 0])  # after its end this one would go on
    assert Decoder(ends, seed=0).write([2], 2, length=8).tolist() == [[2, 3, 4, 0, 0, 0, 0, 0]] * 2


def test_length_includes_the_prompt_and_must_hold_it() -> None:
    script = Decoder(Scripted([1, 1, 1, 1, 1]), seed=0)
    assert script.write([2, 3], 1, length=4).tolist() == [[2, 3, 1, 1]]
    assert script.write([2, 3], 1, length=2).tolist() == [[2, 3]]
    for prompt, length in (([], 4), ([2, 3], 1)):
        with pytest.raises(ValueError, match="a prompt of"):
            script.write(prompt, 1, length=length)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_indices_are_as_likely_as_their_weights_and_never_one_of_weight_0(count: int) -> None:
    chance, steps = np.random.default_rng(count), 200
    weights = chance.random(count) * (chance.random(count) < 0.6)
    weights[chance.integers(count)] += 0.1
    edges = np.append((np.arange(steps) + 0.5) / steps, [0.0, 1.0 - 2.0**-23])
    unit = np.stack(np.meshgrid(edges, edges), -1).reshape(-1, 2)
    rows = np.broadcast_to(weights, (len(unit), count))
    index = np.asarray(decoding.drawn(tf.constant(rows, tf.float32), tf.constant(unit, tf.float32)))
    assert (weights[index] > 0).all()
    found = np.bincount(index, minlength=count) / len(unit)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.02)


def writer(model: Recurrent, names: list[bytes] = NAMES, **keys: Any) -> Writer:
    plan: Any = SimpleNamespace(
        run_id="a", spec=SimpleNamespace(model=SimpleNamespace(kind="lstm", bidirectional=False, **keys))
    )
    return Writer(plan, model, {VOCABULARY: words.Vocabulary(names).document()})


def test_outputs_without_a_word_are_never_drawn(model: Recurrent) -> None:
    """Data that has fewer words than the model has outputs."""
    drawn = writer(model, NAMES[:4]).draw(Wanted(16, 0, prompt="recipe", length=30, temperature=5.0))
    assert drawn.arrays["ids"].max() < 2 + 4
    assert len(drawn.facts["next_words"]["1"]) == 5


def test_texts_facts_and_the_picture_of_what_may_follow(model: Recurrent) -> None:
    drawn = writer(model).draw(Wanted(3, 0, prompt="Recipe for burnt EGGS, burnt", length=9, temperature=0.2))
    lines = drawn.texts["texts"].split("\n\n")
    assert drawn.count == len(lines) == 3
    assert all(line.startswith("recipe for [UNK] eggs [UNK] [UNK]") for line in lines)
    assert drawn.facts["unknown_words"] == ["burnt", ","]
    assert drawn.arrays["ids"].shape == (3, 9)
    assert not (drawn.arrays["ids"][:, 6:] == words.UNKNOWN).any()
    assert drawn.pictures["next_words"].startswith(b"\x89PNG")
    flat, sharp = (drawn.facts["next_words"][heat] for heat in ("1", "0.2"))
    assert [word for word, _ in flat] == [word for word, _ in sharp]
    assert len(flat) == 5
    assert sharp[0][1] > flat[0][1]
    assert drawn.facts["words"] == [len(line.split()) for line in lines]


def test_without_a_prompt_a_text_begins_as_recipes_do(model: Recurrent) -> None:
    drawn = writer(model).draw(Wanted(1, 0, length=5))
    assert drawn.texts["texts"].startswith("recipe for ")
    assert drawn.facts["prompt"] == "recipe for"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"prompt": " "}, "there is no word in it"),
        ({"prompt": "a b c", "length": 3}, "the prompt has 3 words, and a length of 3 includes them"),
        ({"length": 2**20 + 1}, "at most 1048576"),
    ],
)
def test_what_cannot_be_written_is_told(model: Recurrent, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        writer(model).draw(Wanted(1, 0, **asked))


def test_an_encoder_writes_nothing(model: Recurrent) -> None:
    plan: Any = SimpleNamespace(
        run_id="a", spec=SimpleNamespace(model=SimpleNamespace(kind="gru", bidirectional=True))
    )
    with pytest.raises(UserError, match="encodes them and writes none"):
        Writer(plan, model, {})
    plan.spec.model.bidirectional = False
    with pytest.raises(UserError, match=r"no assets/vocabulary\.txt"):
        Writer(plan, model, {})
