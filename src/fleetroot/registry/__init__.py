"""The registry: namespaces, certificate authorities, policies, devices, the inventory of every
certificate issued, and revocation.

It owns the tables of those names and the outbox, and decides who may be issued a certificate and
when one stops counting. It may import `pki`, `custody`, `storage` and `bus`; it knows no wire.

- `model`: the values that the rooms above are given.
- `namespaces`, `credentials`, `authorities`, `requests`, `policies`, `devices`, `inventory`,
  `outbox`, `shared_access`, `service_resources`: each a table's owner: its statements, and
  functions of a transaction that other rooms put into units of theirs.
- `assignment`: what a device is to be on a hub, the words that provisioning and hubs share;
  `hub_trust`: what is asked of hubs when CAs follow each other or end; `hub_references`: what is
  asked of provisioning when a hub goes; `host_names`: of the ports, when one comes.
- `access_keys`, `uploaded_certificates`: what hubs and provisioning services both have;
  `resource_administration`: what operators do alike with the two.
- `issuance`: signing a leaf, and recording it before anybody sees it.
- `succession`: how one issuing CA follows another.
- `namespace_administration`, `policy_administration`, `lifecycle`, `registry`: the room's faces:
  what an operator asks of namespaces and credentials, of policies, of their CAs, of devices.

The order that makes a certificate safe: read the device's generation, sign outside of any
transaction, then insert only where the generation is still that one and the device is enabled. A
revocation rotates the generation, so whichever of the two commits second sees the first.
"""
