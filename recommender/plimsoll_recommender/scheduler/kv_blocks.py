"""The pool of KV blocks, with the prefix cache in it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence


class BlockPool:
    """KV blocks: free, free but still holding a hashed content, or in use.

    Blocks have no numbers: one without a hash is like any other. Free blocks that hold nothing are taken before cached
    ones, then cached ones from the least recently released. (vLLM keeps both in one queue by time of release, so it
    drops cached content somewhat earlier than this.)

    Args:
        total: blocks in the pool.
    """

    __slots__ = ("_cached", "_empty", "_references", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._empty = total
        self._cached: OrderedDict[Hashable, None] = OrderedDict()
        self._references: dict[Hashable, int] = {}

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return self._empty + len(self._cached)

    @property
    def used(self) -> int:
        """Blocks in use."""
        return self.total - self._empty - len(self._cached)

    def leading_hits(self, hashes: Sequence[Hashable], most: int) -> int:
        """How many of the first `most` hashes are in the pool, up to the first that is not."""
        references, cached = self._references, self._cached
        found = 0
        for value in hashes[:most]:
            if value not in references and value not in cached:
                break
            found += 1
        return found

    def idle_among(self, hashes: Sequence[Hashable]) -> int:
        """How many of these hashed blocks are free: sharing them uses up free blocks."""
        return sum(value in self._cached for value in hashes)

    def share(self, hashes: Sequence[Hashable]) -> None:
        """Hold blocks that are in the pool already."""
        references, cached = self._references, self._cached
        for value in hashes:
            if value in cached:
                del cached[value]
                references[value] = 1
            else:
                references[value] += 1

    def take(self, count: int) -> None:
        """Take free blocks; the caller has made sure that there are as many. Cached content is lost as needed."""
        empty = min(count, self._empty)
        self._empty -= empty
        for _ in range(count - empty):
            self._cached.popitem(last=False)

    def publish(self, value: Hashable) -> bool:
        """Give a block in use its hash. False when another block carries it already: then this one stays without."""
        if value in self._references or value in self._cached:
            return False
        self._references[value] = 1
        return True

    def release(self, unhashed: int, hashes: Sequence[Hashable]) -> None:
        """Give blocks back. Hashed ones stay findable until they are taken, the end of a prompt before its start."""
        self._empty += unhashed
        references = self._references
        for value in reversed(hashes):
            if references[value] == 1:
                del references[value]
                self._cached[value] = None
            else:
                references[value] -= 1

    def forget(self) -> None:
        """Drop the content of all free cached blocks."""
        self._empty += len(self._cached)
        self._cached.clear()
