"""The command line."""

from __future__ import annotations

import pytest

from plimsoll_detector.settings import parse

URL = "--prometheus-url=http://p:9090"


def test_defaults_are_the_contracts() -> None:
    """As docs/contracts.md has them."""
    settings = parse([URL], {})
    assert (settings.interval, settings.window, settings.lease_duration) == (15.0, 60.0, 15.0)
    assert (settings.health_port, settings.metrics_port) == (8082, 8083)
    assert settings.lease_namespace == "plimsoll-system"
    assert not settings.wake_signal


def test_the_environment_stands_for_every_flag_and_the_flag_wins() -> None:
    """`PLIMSOLL_<FLAG>`."""
    environment = {"PLIMSOLL_PROMETHEUS_URL": "http://e:1", "PLIMSOLL_INTERVAL": "5s", "PLIMSOLL_HEALTH_PORT": "0"}
    settings = parse(["--interval=7s"], environment)
    assert (settings.prometheus_url, settings.interval, settings.health_port) == ("http://e:1", 7.0, 0)


def test_namespaces_come_several_times_or_with_commas() -> None:
    """None of either looks after all."""
    assert parse([URL], {}).namespaces == ()
    assert parse([URL, "--namespace=a", "--namespace=b"], {"PLIMSOLL_NAMESPACE": "c"}).namespaces == ("a", "b")
    assert parse([URL], {"PLIMSOLL_NAMESPACE": "a,b"}).namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --prometheus-url"),
        (["--prometheus-url=p:9090"], "must start with http"),
        ([URL, "--interval=15"], "is not a duration"),
        ([URL, "--window=0s"], "must be more than 0"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the flag, in one line."""
    with pytest.raises(SystemExit):
        parse(arguments, {})
    assert says in capsys.readouterr().err
