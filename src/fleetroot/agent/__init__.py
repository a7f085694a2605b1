"""The device side: provision, connect, report, renew, provision again when refused.

It speaks the protocols and nothing of our server's own, so it runs against Azure as well, and it
may import `pki`, `sas`, `clock`, `errors` and `ids` of Fleetroot only. It blocks: one thread works,
and the MQTT library has one of its own.
"""
