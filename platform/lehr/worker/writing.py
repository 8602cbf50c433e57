"""Texts of a language model, from a prompt, addressed by (seed, text) alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lehr.data import words
from lehr.data.recipes import VOCABULARY
from lehr.dynamics.decoding import LONGEST, Decoder
from lehr.errors import UserError, letter
from lehr.figures.words import next_words
from lehr.plan import Plan
from lehr.samples import Drawn
from lehr.seeds import Purpose
from lehr.spec.language import BEGINNING
from lehr.worker.sampling import Wanted

SHOWN = 5
"""Next words that the picture shows."""
TEMPERATURES = (1.0, 0.2)


class Writer:
    """Writes with a model that reads word by word; compiles once for each seed and top-k.

    What it draws has the array `ids` int32 [texts, length], the prompt first and 0 after a text's end; the
    text `texts`, with an empty line between two; and the picture `next_words`, the likeliest words after the
    prompt at two temperatures. The unknown word is never written. Its facts tell which words of the prompt
    the vocabulary does not have, how long the texts are, and which of them came to an end.

    Args:
        plan: of the run.
        model: its network, built.
        assets: with the vocabulary.

    Raises:
        UserError: the model is an encoder, or there is no vocabulary.
    """

    def __init__(self, plan: Plan, model: Any, assets: Mapping[str, bytes]) -> None:
        where = f"run {plan.run_id}"
        if getattr(plan.spec.model, "bidirectional", False):
            came = (
                f"its {plan.spec.model.kind} reads texts in both directions: it encodes them and writes none"
            )
            raise UserError(letter(where, came, accepted="a run of a model that reads forwards only"))
        if VOCABULARY not in assets:
            came = f"it has no assets/{VOCABULARY}, so its words have no names"
            raise UserError(
                letter(where, came, do="go on with the run once: it is written when a run begins")
            )
        self._model, self._vocabulary = model, words.Vocabulary.restored(assets[VOCABULARY])
        self._by_seed: dict[int, Decoder] = {}

    def draw(self, wanted: Wanted) -> Drawn:
        """`wanted.count` texts of `wanted.length` words at most, after `wanted.prompt`.

        Raises:
            UserError: the prompt has no word, or leaves no room for another one.
        """
        told = words.split(BEGINNING if wanted.prompt is None else wanted.prompt)
        _refuse(told, wanted)
        prompt, decoder = self._vocabulary.ids(told), self._decoder(wanted.seed)
        written = decoder.write(
            prompt, wanted.count, length=wanted.length, temperature=wanted.temperature, top_k=wanted.top_k
        )
        read = self._vocabulary.text(prompt)
        likely = {heat: self._likely(decoder, prompt, heat) for heat in TEMPERATURES}
        return Drawn(
            count=wanted.count,
            arrays={"ids": written},
            pictures={"next_words": next_words(read, likely)},
            texts={"texts": "\n\n".join(self._vocabulary.text(row) for row in written.tolist()) + "\n"},
            facts={
                "prompt": read,
                "unknown_words": self._vocabulary.unknown(told),
                "next_words": {f"{heat:g}": [list(pair) for pair in pairs] for heat, pairs in likely.items()},
                "purposes": {"draw": Purpose.DRAW.name},
                **_told(written),
            },
        )

    def _decoder(self, seed: int) -> Decoder:
        if seed not in self._by_seed:
            nameless = range(len(self._vocabulary), self._model.vocabulary)  # the data had fewer words
            forbidden = (words.UNKNOWN, *nameless)
            self._by_seed[seed] = Decoder(self._model, seed=seed, forbidden=forbidden, end=words.PADDING)
        return self._by_seed[seed]

    def _likely(self, decoder: Decoder, prompt: list[int], temperature: float) -> list[tuple[str, float]]:
        """The likeliest next words and their probabilities."""
        chances = decoder.chances(prompt, temperature)
        named = chances[: len(self._vocabulary)]
        best = np.argsort(-named, kind="stable")[:SHOWN].tolist()
        return [(self._vocabulary.text([word]) or "(end)", float(chances[word])) for word in best]


def _refuse(told: list[bytes], wanted: Wanted) -> None:
    """Letters for prompts and lengths that cannot be."""
    if not told:
        raise UserError(letter("prompt", "there is no word in it", accepted=f"words, such as {BEGINNING!r}"))
    if len(told) >= wanted.length:
        came = f"the prompt has {len(told)} words, and a length of {wanted.length} includes them"
        raise UserError(letter("length", came, do=f"ask for more than {len(told)} words"))
    if wanted.length > LONGEST:
        raise UserError(letter("length", f"{wanted.length} words", accepted=f"at most {LONGEST}"))


def _told(written: np.ndarray) -> dict[str, Any]:
    """How long the texts are, in words, and whether they came to an end."""
    lengths = (written != words.PADDING).sum(axis=1)
    return {"words": lengths.tolist(), "ended": (lengths < written.shape[1]).tolist()}
