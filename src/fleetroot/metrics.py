"""What is counted, for `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_WEBHOOK_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0)
_METHOD_SECONDS: Final = (0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 100.0)
_MAX_REASONS: Final = 200  # more than there are, unless a peer can make them up


class _Gauges(Collector):
    """Values that are read when somebody asks."""

    def __init__(self, read: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for name, (text, value) in self._read().items():
            yield GaugeMetricFamily(name, text, value=value)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._tokens = Gauge(
            "fleetroot_token_up",
            "Whether a PKCS#11 token answers (1) or is away (0).",
            ["token"],
            registry=self.registry,
        )
        self._alerts = Counter(
            "fleetroot_alerts",
            "What people must look at, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._webhook_calls = Counter(
            "fleetroot_webhook_calls",
            "Calls of webhooks that allocate devices, each try for itself, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self._webhook_seconds = Histogram(
            "fleetroot_webhook_call_seconds",
            "How long calls of webhooks took, each try for itself.",
            buckets=_WEBHOOK_SECONDS,
            registry=self.registry,
        )
        self._method_calls = Counter(
            "fleetroot_method_calls",
            "Calls of direct methods, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self._method_seconds = Histogram(
            "fleetroot_method_call_seconds",
            "How long callers of direct methods waited, whatever came of it.",
            buckets=_METHOD_SECONDS,
            registry=self.registry,
        )
        self._reasons: set[tuple[str, str]] = set()
        self._refusals = Counter(
            "fleetroot_refusals",
            "What was refused, by kind and reason.",
            ["kind", "reason"],
            registry=self.registry,
        )

    def count_refusal(self, kind: str, reason: str) -> None:
        """One more refusal. Beyond some hundred reasons, a new one is counted as `other`: whatever
        a wire lets into a reason, the counters are of bounded number.
        """
        if (kind, reason) not in self._reasons:
            if len(self._reasons) >= _MAX_REASONS:
                reason = "other"
            else:
                self._reasons.add((kind, reason))
        self._refusals.labels(kind, reason).inc()

    def count_alert(self, kind: str) -> None:
        """One more alert."""
        self._alerts.labels(kind).inc()

    def count_webhook_call(self, outcome: str, seconds: float) -> None:
        """One more call of a webhook; outcomes are those of `provisioning.webhook_client`."""
        self._webhook_calls.labels(outcome).inc()
        self._webhook_seconds.observe(seconds)

    def count_method_call(self, outcome: str, seconds: float) -> None:
        """One more call of a direct method; outcomes are those of `hub.methods`."""
        self._method_calls.labels(outcome).inc()
        self._method_seconds.observe(seconds)

    def note_token(self, name: str, *, up: bool) -> None:
        """Whether a token answers."""
        self._tokens.labels(name).set(up)

    def add_gauges(self, read: Callable[[], dict[str, tuple[str, float]]]) -> None:
        """Adds gauges: `read` gives a text and a value by name."""
        self.registry.register(_Gauges(read))
