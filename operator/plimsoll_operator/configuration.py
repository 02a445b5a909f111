"""The configuration a service runs with: the one in force while its grounds hold, else a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from plimsoll_api.v1alpha1 import LLMServiceSpec, MemoryStep, RecommendationStatus
from plimsoll_kube.client import KubeApi
from plimsoll_operator import memory_ceilings, memory_steps
from plimsoll_operator.errors import InvalidSpecError
from plimsoll_operator.fleet import Fleet, FleetReader
from plimsoll_operator.manifests.inputs import engine_image
from plimsoll_operator.memory_ceilings import Subject
from plimsoll_operator.memory_steps import Case, Finding, Outlook
from plimsoll_operator.model_facts import KnownModel, known_model
from plimsoll_operator.observe import Observed
from plimsoll_operator.sizer import Sizer
from plimsoll_operator.sizing import sizing_inputs, still_in_force


@dataclass(frozen=True)
class Grounds:
    """What a configuration follows from, beside the spec and the steps taken.

    Attributes:
        model: the model.
        fleet: the cluster's GPUs.
        image: the engine's.
    """

    model: KnownModel
    fleet: Fleet
    image: str


@dataclass(frozen=True)
class Configuration:
    """A recommendation and its grounds."""

    recommendation: RecommendationStatus
    grounds: Grounds

    @property
    def subject(self) -> Subject:
        """What memory settings are remembered for."""
        grounds = self.grounds
        return Subject(grounds.model.identity, self.recommendation.config.accelerator, grounds.image)


class Configurations:
    """Finds the configuration of a service, and a smaller one after a start that ran out of GPU memory."""

    def __init__(self, api: KubeApi, sizer: Sizer, default_image: str) -> None:
        self._api = api
        self._sizer = sizer
        self._default_image = default_image
        self._fleet = FleetReader(api)

    async def of(self, observed: Observed, spec: LLMServiceSpec) -> Configuration:
        """The configuration to run.

        Raises:
            InvalidSpecError: there is none.
            BlockedError: what it depends on is not there yet.
            ApiError: what it depends on cannot be read.
        """
        grounds = Grounds(
            model=await known_model(self._api, observed.namespace, spec.model),
            fleet=await self._fleet.read(),
            image=engine_image(spec, self._default_image),
        )
        steps = memory_ceilings.remembered(observed.status)
        ceilings = memory_ceilings.ceilings(steps, grounds.model.identity, grounds.image, spec.engine)
        in_force = observed.recommendation
        if in_force is not None and still_in_force(in_force, spec, grounds.model, grounds.fleet, ceilings):
            return Configuration(in_force, grounds)
        found = Configuration(await self._sized(spec, grounds, steps), grounds)
        step = memory_ceilings.step_for(found.subject, steps)
        explained = memory_ceilings.explained(found.recommendation, step, spec.engine)
        return Configuration(explained.model_copy(update={"applied_generation": observed.generation}), grounds)

    async def outlook(self, spec: LLMServiceSpec, grounds: Grounds, case: Case, now: datetime) -> Outlook:
        """What is to be done about a start that ran out of GPU memory; a step that is due is one that can be sized."""
        found = memory_steps.outlook(case, now)
        if found.finding is not Finding.DUE:
            return found
        refusals = []
        for proposal in found.proposals:
            try:
                await self._sized(spec, grounds, memory_ceilings.with_step(case.remembered, proposal.step))
            except InvalidSpecError as error:
                refusals.append(f"{proposal.change} is refused: {error.message}")
            else:
                return memory_steps.chosen(found, proposal)
        return memory_steps.refused(found, refusals)

    async def _sized(self, spec: LLMServiceSpec, grounds: Grounds, steps: Sequence[MemoryStep]) -> RecommendationStatus:
        ceilings = memory_ceilings.ceilings(steps, grounds.model.identity, grounds.image, spec.engine)
        return await self._sizer.size(sizing_inputs(spec, grounds.model, grounds.fleet, ceilings))
