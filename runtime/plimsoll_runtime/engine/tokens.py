"""Text to tokens and back, without a model.

A token is four characters: the usual estimate for English in vocabularies of 100,000 and more. Every word of the output
is three letters and a space, so that it is one token, too, when a client sends it back.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Hashable, Sequence
from typing import Final

CHARACTERS_PER_TOKEN: Final = 4

_VOCABULARY: Final = (
    "the and you not for all can her was one our out day get has him his how man new now old see two way who boy did "
    "its let put say she too use sea dog cat sun sky red big top run far low air ice oak ash elm fir yew bay cod eel "
    "hen owl bee ant map key pen ink box cup oar rig"
)
WORDS: Final = tuple(f" {word}" for word in _VOCABULARY.split())
"""What the engine says, over and over."""

NATURAL_OUTPUT_MEDIAN: Final = 200
"""Median tokens before the model would end by itself. An assumption: chat answers of one to three paragraphs."""

NATURAL_OUTPUT_SIGMA: Final = 0.8
"""Sigma of the logarithm of that length: answers vary from a line to a page."""


def count(prompt: str | Sequence[int]) -> int:
    """Tokens of a prompt: a list of token ids counts exactly, text by its characters."""
    if isinstance(prompt, str):
        return -(-len(prompt) // CHARACTERS_PER_TOKEN)
    return len(prompt)


def block_hashes(prompt: str | Sequence[int], block_size: int) -> tuple[Hashable, ...]:
    """A hash for each full block of a prompt's tokens; each covers all tokens before it."""
    width = block_size * (CHARACTERS_PER_TOKEN if isinstance(prompt, str) else 1)
    hashes: list[int] = []
    before = 0
    for start in range(0, len(prompt) - width + 1, width):
        part = prompt[start : start + width]
        before = hash((before, part if isinstance(part, str) else tuple(part)))
        hashes.append(before)
    return tuple(hashes)


def seed_of(prompt: str | Sequence[int], seed: int) -> int:
    """A number that depends on the prompt and a seed, the same in every process."""
    text = prompt if isinstance(prompt, str) else ",".join(map(str, prompt))
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), seed & 0xFFFFFFFF)


def word(seed: int, index: int) -> str:
    """The output's token at an index."""
    return WORDS[(seed + index * (1 + seed % 7)) % len(WORDS)]


def natural_length(seed: int) -> int:
    """Tokens after which the model would end by itself; log-normal over seeds."""
    drawn = random.Random(seed).lognormvariate(math.log(NATURAL_OUTPUT_MEDIAN), NATURAL_OUTPUT_SIGMA)
    return max(1, round(drawn))
