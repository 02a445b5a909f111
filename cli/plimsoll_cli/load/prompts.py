"""Request bodies: prompts of an exact number of tokens, made fast enough to send at the scheduled time."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Final

import numpy as np

from plimsoll_cli.load.plan import LoadPlan

# Token ids that every vocabulary has and none uses as a special token: bytes or their like in byte-level and
# sentence-piece vocabularies, whose smallest has 256 entries; the first few ids are specials in many.
_FIRST_ID: Final = 10
_IDS: Final = 240
_POOL_TOKENS: Final = 65_536
_HEAD_TOKENS: Final = 8
"""Tokens at the front of each prompt that write its number in base 240, so that no two prompts share a prefix."""
_WORDS: Final = ("the", "a", "in", "on", "at", "to", "of", "by", "and", "or", "but", "so", "up", "out", "we", "it")
"""Each is one token in the common vocabularies, with the space before it."""


class Bodies:
    """Makes the JSON body of any request of a plan.

    Prompts are slices of one random text made at the start, behind a head that is unique to the request and the run:
    without it a server's prefix cache would answer instead of its GPU.

    Args:
        plan: the test.
        salt: distinguishes this run's prompts from another's.
    """

    def __init__(self, plan: LoadPlan, salt: int) -> None:
        self._plan = plan
        self._salt = salt
        longest = max((r.input_tokens for r in plan.requests), default=1)
        rng = np.random.default_rng(plan.seed)
        count = _POOL_TOKENS + longest
        if plan.api == "completions":
            pieces = [b"%d," % token for token in rng.integers(_FIRST_ID, _FIRST_ID + _IDS, count).tolist()]
        else:
            pieces = [b"%s " % _WORDS[word].encode() for word in rng.integers(0, len(_WORDS), count).tolist()]
        self._pool = b"".join(pieces)
        self._offsets = list(accumulate(map(len, pieces), initial=0))
        self._starts = rng.integers(0, _POOL_TOKENS, max(len(plan.requests), 1)).tolist()

    def of(self, index: int) -> bytes:
        """The body of the request with this index in the plan."""
        request = self._plan.requests[index]
        start = self._starts[index]
        if self._plan.api == "completions":
            head = self._head(index)[: request.input_tokens]
            rest = self._slice(start, request.input_tokens - len(head))
            prompt = b'"prompt":[' + (b",".join(b"%d" % t for t in head) + b"," + rest).rstrip(b",") + b"]"
        else:
            # The number takes a few tokens itself: a chat prompt's length is approximate anyway.
            words = self._slice(start, max(request.input_tokens - _HEAD_TOKENS, 0)).rstrip()
            content = json.dumps(f"{self._salt:x}-{index:x} {words.decode()}")
            prompt = b'"messages":[{"role":"user","content":' + content.encode() + b"}]"
        return b"{%s,%s}" % (prompt, self._settings(request.output_tokens))

    def _settings(self, output_tokens: int) -> bytes:
        return (
            b'"model":%s,"max_tokens":%d,"ignore_eos":true,"temperature":0,"stream":true,'
            b'"stream_options":{"include_usage":true}' % (json.dumps(self._plan.model).encode(), output_tokens)
        )

    def _head(self, index: int) -> list[int]:
        number = self._salt << 32 | index
        digits = []
        for _ in range(_HEAD_TOKENS):
            number, digit = divmod(number, _IDS)
            digits.append(_FIRST_ID + digit)
        return digits

    def _slice(self, start: int, count: int) -> bytes:
        return self._pool[self._offsets[start] : self._offsets[start + count]]
