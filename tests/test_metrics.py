"""What is counted, and that peers cannot make it grow."""

from __future__ import annotations

from prometheus_client import generate_latest

from fleetroot.metrics import Metrics


def test_refusals_are_counted_by_kind_and_reason() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.count_refusal("hub", "token expired")
    text = generate_latest(metrics.registry).decode()
    assert 'fleetroot_refusals_total{kind="hub",reason="token expired"} 2.0' in text


def test_reasons_that_a_peer_makes_up_are_counted_as_one() -> None:
    metrics = Metrics()
    for number in range(10_000):
        metrics.count_refusal("hub", f"{number}")
    lines = generate_latest(metrics.registry).decode().splitlines()
    counted = [line for line in lines if line.startswith("fleetroot_refusals_total")]
    assert len(counted) < 300
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 10_000


def test_calls_of_webhooks_are_counted_by_outcome_and_timed() -> None:
    metrics = Metrics()
    metrics.count_webhook_call("assigned", 0.2)
    metrics.count_webhook_call("timeout", 10.0)
    text = generate_latest(metrics.registry).decode()
    assert 'fleetroot_webhook_calls_total{outcome="timeout"} 1.0' in text
    assert 'fleetroot_webhook_call_seconds_bucket{le="0.25"} 1.0' in text
    assert "fleetroot_webhook_call_seconds_count 2.0" in text
