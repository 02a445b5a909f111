"""A question to an API server that does not answer is asked again, but not for ever."""

from __future__ import annotations

import pytest

from plimsoll_cli.demo.patience import answered
from plimsoll_cli.errors import CommandError
from plimsoll_kube.errors import ApiUnavailable


class Server:
    """Answers after it has not for a number of times.

    Args:
        silent: how many questions stay without an answer.
    """

    def __init__(self, silent: int) -> None:
        self.asked = 0
        self._silent = silent

    async def ask(self) -> str:
        """The answer."""
        self.asked += 1
        if self.asked <= self._silent:
            raise ApiUnavailable(0, "", "GET https://127.0.0.1:1/api: not answered within 10 s")
        return "here"


@pytest.mark.parametrize("silent", [0, 1, 3])
async def test_asked_until_answered(silent: int) -> None:
    server = Server(silent)
    assert await answered(server.ask, pause=0.0) == "here"
    assert server.asked == silent + 1


async def test_a_server_that_never_answers_is_named() -> None:
    server = Server(10**9)
    with pytest.raises(CommandError, match=r"^no answer for 0 s: GET https://127.0.0.1:1/api: not answered"):
        await answered(server.ask, within=0.01, pause=0.001)
    assert server.asked > 1


async def test_another_failure_is_not_waited_out() -> None:
    async def ask() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await answered(ask, pause=0.0)
