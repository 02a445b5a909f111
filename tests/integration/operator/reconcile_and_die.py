"""Reconciles services in processes of their own, each of which may end, without any farewell, after a given request.

Reads one JSON object per line: `kubeconfig`, `namespace`, `name`, `die_after` (0: never). Answers each with a line:
the exit code of the process, 9 when it died and 0 when it found nothing left to do. Forking saves the imports.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from plimsoll_api.v1alpha1 import LLMServiceSpec, RecommendationStatus
from plimsoll_kube.client import KubeClient
from plimsoll_kube.events import EventRecorder
from plimsoll_kube.transport import Transport
from plimsoll_operator.fleet import Fleet
from plimsoll_operator.model_facts import KnownModel
from plimsoll_operator.reconciler import Reconciler
from plimsoll_operator.settings import Settings
from plimsoll_operator.sizer import Sizer
from plimsoll_operator.sizing import SizingInputs, compute, sizing_inputs
from plimsoll_recommender import ModelFacts

MOST_RECONCILES = 6
WRITES = ("apply", "create", "patch", "delete", "update")


def sized() -> RecommendationStatus:
    """The recommendation of every service of the test, computed once: dying is the subject, not sizing."""
    uri = "hf://meta-llama/Llama-3.1-8B-Instruct"
    model = KnownModel("catalogue", ModelFacts.load(uri))
    product = "NVIDIA-H100-80GB-HBM3"
    return compute(sizing_inputs(LLMServiceSpec.model_validate({"model": {"uri": uri}}), model, Fleet({product: 8})))


async def reconcile(order: dict[str, Any], known: RecommendationStatus) -> int:
    """Reconcile until nothing is written any more; the exit code."""

    def recall(inputs: SizingInputs) -> RecommendationStatus:
        return known.model_copy(update={"input_hash": inputs.digest})

    requests, writes = 0, 0
    send = Transport.call

    async def counted(self: Transport, verb: str, *arguments: Any) -> bytes:
        nonlocal requests, writes
        answer = await send(self, verb, *arguments)
        requests += 1
        writes += verb in WRITES
        if requests == order["die_after"]:
            os._exit(9)
        return answer

    Transport.call = counted  # type: ignore[method-assign,assignment]
    async with await KubeClient.connect(Path(order["kubeconfig"])) as api:
        reconciler = Reconciler(api, Settings(), Sizer(recall), EventRecorder(api, "plimsoll-operator"))
        for _ in range(MOST_RECONCILES):
            before = writes
            outcome = await reconciler.reconcile((order["namespace"], order["name"]))
            if writes == before and outcome.result != "created":
                return 0
    return 1


def main() -> None:
    """Answer orders until the input ends."""
    known = sized()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(asyncio.run(reconcile(json.loads(line), known)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
