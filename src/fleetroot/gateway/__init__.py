"""The device-facing wires: the TLS listener, MQTT, and HTTP on the same listener.

A wire parses, calls one method of a room (`provisioning`, `hub`), and encodes the answer. No rule
about certificates, attestation or devices lives here.
"""
