"""What the chart carries is what the code generates, and says what can be looked up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from plimsoll_cli.monitoring import rules
from plimsoll_cli.monitoring.command import monitoring
from plimsoll_cli.monitoring.files import texts

ROOT = Path(__file__).parents[3]
FILES = ROOT / "charts" / "plimsoll" / "files"
TEXTS = texts()


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_the_chart_is_current(name: str) -> None:
    """`make monitoring` writes them."""
    assert (FILES / name).read_text(encoding="utf-8") == TEXTS[name]


def test_check_tells_a_stale_file(tmp_path: Path) -> None:
    """The control of the test above."""
    run = CliRunner()
    assert run.invoke(monitoring, ["--output", str(tmp_path)]).exit_code == 0
    assert run.invoke(monitoring, ["--output", str(tmp_path), "--check"]).exit_code == 0
    (tmp_path / "rules" / "plimsoll.yaml").write_text("groups: []\n")
    refused = run.invoke(monitoring, ["--output", str(tmp_path), "--check"])
    assert refused.exit_code == 1


@pytest.mark.parametrize("alert", rules.alerts(), ids=lambda alert: alert.name)
def test_every_alert_has_a_runbook(alert: rules.Alert) -> None:
    """One page: what it means, how to look, what to do."""
    page = ROOT / alert.as_rule()["annotations"]["runbook"]
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Plimsoll{alert.name}\n")
    assert {"## Meaning", "## Look", "## Do"} <= set(text.splitlines())


def test_every_panel_has_a_title_a_text_and_a_query() -> None:
    """A panel without words is a riddle at three in the morning."""
    for name, text in TEXTS.items():
        if not name.endswith(".json"):
            continue
        panels = json.loads(text)["panels"]
        assert panels
        for panel in panels:
            assert panel["title"]
            assert panel["description"]
            assert all(target["expr"] for target in panel["targets"])


def test_uids_are_stable_and_differ() -> None:
    """Links and upgrades go by them."""
    uids = [json.loads(text)["uid"] for name, text in TEXTS.items() if name.endswith(".json")]
    assert len(set(uids)) == len(uids) == 4
    assert all(re.fullmatch(r"plimsoll-[a-z]+", uid) for uid in uids)
