"""The kind `nuclio`: how many replicas, called by what, built how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlfn.backends.kinds.base import Launch, ServiceCall
from mlfn.backends.kinds.nuclio import checks
from mlfn.backends.kinds.nuclio.configuration import configuration
from mlfn.backends.kinds.nuclio.triggers import AnyTrigger, Http, made
from mlfn.backends.places.base import Capabilities
from mlfn.errors import OptionError
from mlfn.settings.secrets import Secret
from mlfn.spec.plan import Plan
from mlfn.spec.values import option_values
from mlfn.worker.task import Extras, Task

DASHBOARD = "dashboard"


@option_values
@dataclass(frozen=True)
class Nuclio:
    """Call the function for each event: deployed it is a service, submitted a run that the service executes.

    Parameters
    ----------
    replicas: how many copies run, or the least and the most of them, between which a cluster scales.
    triggers: what calls it: `mlfn.Http`, `mlfn.Cron`, `mlfn.Kafka` and others. None is one `mlfn.Http`.
    workers: how many processes of a replica handle events of each trigger that does not say so itself.
    target_cpu: the load in per cent at which a cluster adds a replica.
    ready_timeout: how long `deploy` waits until it is ready.
    engine: what serves it on a cluster: ``"deployment"`` is a Deployment of the embedded server, for which nothing is installed;
        ``"dashboard"`` is Nuclio itself, through its dashboard, which the setting `nuclio_dashboard` names.
    prebuilt: `image=` of the function holds Nuclio's processor, and mlfn: nothing is built.
    build_commands: commands that are run while an image is built, as in ``["apt-get install -y libgomp1"]``.
    service_type: ``"ClusterIP"`` or ``"NodePort"``.
    service_account: what its pods are to a cluster.
    security_context: that of its pods, in a cluster's own terms.
    """

    STREAMS: ClassVar[bool] = True
    """A generator function may be declared: what it yields is the answer, piece by piece."""

    ENGINES: ClassVar[Mapping[str, str]] = {"local": "services", "kubernetes": "kubernetes_services"}
    """Its service executes its runs."""

    replicas: int | Sequence[int] = (1, 1)
    triggers: Sequence[AnyTrigger] = ()
    workers: int = 1
    target_cpu: int = 75
    ready_timeout: float | str = 120.0
    engine: str = "deployment"
    prebuilt: bool = False
    build_commands: Sequence[str] = ()
    service_type: str = "ClusterIP"
    service_account: str | None = None
    security_context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set("replicas", self._checked_replicas())
        if isinstance(self.triggers, (str, Mapping)) or not isinstance(self.triggers, Sequence):
            raise checks.refuse(self, "triggers", self.triggers, "a list is allowed, as in triggers=[mlfn.Http()].")
        self._set("triggers", tuple(map(made, self.triggers)))
        checks.whole(self, "workers", least=1, most=100_000)
        checks.whole(self, "target_cpu", least=1, most=100)
        self._set("ready_timeout", checks.seconds(self, "ready_timeout"))
        if not isinstance(self.prebuilt, bool):
            raise checks.refuse(self, "prebuilt", self.prebuilt, "True or False is allowed.")
        self._set("build_commands", checks.texts(self, "build_commands", example="apt-get update", required=False))
        checks.one_of(self, "engine", ("deployment", DASHBOARD))
        checks.one_of(self, "service_type", ("ClusterIP", "NodePort"))
        if self.service_account is not None:
            checks.text(self, "service_account", example="scoring")
        self._set("security_context", checks.mapping(self, "security_context"))
        self._refuse_clashes()

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return the service that is called."""
        if self.prebuilt and not plan.image:
            raise OptionError(
                f"{plan.name}: Nuclio(prebuilt=True) needs the image: @mlfn.function(image='registry/score:1', ...)."
            )
        return ServiceCall(configuration(self, plan))

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Return the only rank."""
        return nullcontext(Extras())

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most replicas."""
        least, most = self.replicas  # type: ignore[misc]
        return least, most

    @property
    def named_triggers(self) -> dict[str, AnyTrigger]:
        """The triggers by name; the only one of a kind is called by its kind, and without any there is one of HTTP."""
        found: dict[str, AnyTrigger] = {}
        for trigger in self.triggers or (Http(),):
            plain = "default-http" if not self.triggers else trigger.KIND.lower()
            name = trigger.name or plain
            number = 2
            while trigger.name is None and name in found:
                name, number = f"{plain}-{number}", number + 1
            if name in found:
                raise OptionError(f"triggers has two that are called {name!r}: give one of them another name=.")
            found[name] = trigger
        return found

    @property
    def passwords(self) -> dict[str, Secret]:
        """The secrets by which triggers log in, by the triggers' names."""
        found = {name: getattr(trigger, "password", None) for name, trigger in self.named_triggers.items()}
        return {name: secret for name, secret in found.items() if secret is not None}

    @property
    def http(self) -> Http:
        """The trigger of HTTP requests; the default one where none is given."""
        return next((trigger for trigger in self.triggers if isinstance(trigger, Http)), Http())

    def _checked_replicas(self) -> tuple[int, int]:
        given = self.replicas
        pair = (given, given) if isinstance(given, int) else tuple(given) if isinstance(given, (list, tuple)) else ()
        whole = all(isinstance(item, int) and not isinstance(item, bool) for item in pair)
        if len(pair) != 2 or not whole or not 0 <= pair[0] <= pair[1] <= 10_000 or pair[1] < 1:
            raise checks.refuse(
                self,
                "replicas",
                given,
                "a number from 1, or the least (0 or more) and the most, as in replicas=(1, 10).",
            )
        return pair[0], pair[1]

    def _refuse_clashes(self) -> None:
        https = [trigger for trigger in self.triggers if isinstance(trigger, Http)]
        if len(https) > 1:
            raise OptionError("triggers has two mlfn.Http: a function has one address; give it more workers= instead.")
        if self.bounds[0] == 0 and self.triggers and not https:
            raise OptionError(
                "Nuclio(replicas=(0, ...)) needs an mlfn.Http trigger: nothing else starts a function that is at 0."
            )
        _ = self.named_triggers

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
