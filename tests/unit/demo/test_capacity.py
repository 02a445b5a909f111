"""What one replica carries is measured without a queue that would be scaled for."""

from __future__ import annotations

from plimsoll_cli.demo.capacity import ROUNDS, rounds_of
from plimsoll_cli.demo.report import saved_text
from plimsoll_simulator.traffic import Request

REQUESTS = tuple(Request(float(i), 10 + i, 20 + i) for i in range(100))


def test_no_more_than_asked_are_in_flight() -> None:
    """Every round starts its requests together and has the concurrency asked for."""
    groups = rounds_of(REQUESTS, 2)
    assert len(groups) == ROUNDS
    assert {len(group) for group in groups} == {2}
    assert {request.at_seconds for group in groups for request in group} == {0.0}


def test_lengths_are_those_of_the_traffic() -> None:
    """In their order, and fewer rounds when there is less traffic."""
    groups = rounds_of(REQUESTS[:5], 2)
    assert [r.input_tokens for group in groups for r in group] == [10, 11, 12, 13, 14]


def test_a_loss_is_not_called_a_saving() -> None:
    """A replica that starts and never serves costs without serving."""
    assert saved_text(0.32) == "32 % fewer"
    assert saved_text(-0.52) == "52 % more"
