"""The operator reads why an engine did not start from its log, through the API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plimsoll_api import names
from plimsoll_kube.client import KubeClient
from plimsoll_kube.resources import POD
from plimsoll_operator.pods import PodView, live_pods
from plimsoll_operator.start_log import is_above, with_causes

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("node_agent")]

CAUSE = "ValueError: Free memory on device cuda:0 is less than desired GPU memory utilization"
SCRIPT = f"""
[ -e /state/failed ] && exec sleep 600
touch /state/failed
echo '(EngineCore pid=7) ERROR 11-26 02:30:51 [core.py:1510] {CAUSE}'
for i in $(seq 100); do echo "  File /a/b.py, line $i, in some_function_of_the_server"; done
echo 'RuntimeError: Engine core initialization failed. See root cause above.'
exit 1
"""


def started_again(pod: dict[str, Any]) -> bool:
    """Whether its container failed and runs once more."""
    [status] = pod["status"].get("containerStatuses") or [{}]
    return "running" in (status.get("state") or {}) and "terminated" in (status.get("lastState") or {})


def test_the_cause_is_read_from_the_log_of_the_run_that_failed(space: Any) -> None:
    engine: dict[str, Any] = {"name": names.ENGINE_CONTAINER, "command": ["/bin/sh", "-c", SCRIPT]}
    engine |= {
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": {"exec": {"command": ["false"]}},
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    }
    space.run("p", engine, volumes=[{"name": "state", "emptyDir": {}}])
    space.until("p", started_again)

    async def looked() -> tuple[PodView, PodView]:
        async with await KubeClient.connect(space.agent.plane.admin_kubeconfig, user_agent="test") as api:
            views = live_pods((await api.list(POD, space.name)).items)
            [before], [after] = views, await with_causes(api, space.name, views)
            return before, after

    before, after = asyncio.run(looked())
    assert before.failure is not None
    assert after.failure is not None
    assert is_above(before.failure.message)
    assert CAUSE not in before.failure.message
    assert after.failure.message == CAUSE
