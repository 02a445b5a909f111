"""Paths of mounts, rewritten where a container is told them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.sandbox.node.paths import Mount, rewrite, rewrite_all

MOUNTS = (
    Mount("/data", "/s/1"),
    Mount("/data/deep", "/s/2"),
    Mount("/data/own", "/data/own"),
    Mount("/same", "/same"),
    Mount("/etc/a.conf", "/s/3"),
)


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/data", "/s/1"),
        ("/data/", "/s/1/"),
        ("/data/x/y", "/s/1/x/y"),
        ("/data/deep/x", "/s/2/x"),
        ("/data/deeper", "/s/1/deeper"),
        ("/data2", "/data2"),
        ("/data-2", "/data-2"),
        ("/data.bak", "/data.bak"),
        ("/my/data", "/my/data"),
        ("./data", "./data"),
        ("--dir=/data", "--dir=/s/1"),
        ("cat /data/a '/data/b';ls /data", "cat /s/1/a '/s/1/b';ls /s/1"),
        ("echo x >/data/f.", "echo x >/s/1/f."),
        ("look in /data.", "look in /s/1."),
        ("/same/x", "/same/x"),
        ("--model=/data/own/x", "--model=/data/own/x"),
        ("/etc/a.conf", "/s/3"),
        ("a:/data:/data/deep", "a:/s/1:/s/2"),
    ],
)
def test_cases(text: str, rewritten: str) -> None:
    """At a path's beginning and end only; the longest mount wins."""
    assert rewrite(text, MOUNTS) == rewritten


@given(st.text(max_size=40))
def test_without_mounts_nothing_changes(text: str) -> None:
    """Also for a mount at its own path and for one at the root, which would change everything."""
    assert rewrite(text, ()) == text
    assert rewrite(text, (Mount("/x", "/x"), Mount("/", "/elsewhere"))) == text


@given(st.lists(st.sampled_from(["a", "bc", "d.e", "f-g"]), max_size=4))
def test_everything_below_a_mount_moves_with_it(parts: list[str]) -> None:
    """The path below is kept."""
    below = "".join(f"/{part}" for part in parts)
    assert rewrite_all([f"/mnt{below}"], (Mount("/mnt/", "/t"),)) == (f"/t{below}",)
