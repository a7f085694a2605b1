"""The provisioning service: enrollments, attestation, allocation and registrations.

It owns the tables of those names and decides whether a device is who it says, which hub it goes to
and what its identity there is pinned to. It may import `registry`, `storage` and `bus`. What it
needs of a hub it says in `registry.assignment`; the composition root gives it a hub's.

- `model`: enrollments and registrations.
- `enrollments`, `registrations`: each a table's owner.
- `limits`: how often devices may ask, and what a wrong credential may cost.
- `attestation`: the proof that a device gives, held against its enrollment.
- `tpm_attestation`, with `tpm_public` and `tpm_protection`: what a TPM proves, and how to ask it.
- `standing`: what would decide about a registration id now, for whoever asks why.
- `service_administration`, `hub_links`: services as operators create, link and delete them.
- `service`: the room's face: register, look up, and what an operator does with enrollments.

An enrollment that names a policy never gives a device something weaker: with a CSR the device gets
a certificate of that policy or an error, without one its identity is pinned to the policy all the
same.
"""

from fleetroot.provisioning.service import Provisioning

__all__ = ["Provisioning"]
