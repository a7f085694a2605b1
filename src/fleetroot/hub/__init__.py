"""The hub: identities, trust, authentication, live connections, twins, messages and renewal.

It owns the tables of hubs, of what they trust, of their identities and all that hangs on one, and
the embedded event log. It may import `registry`, `storage` and `bus`; it knows no wire: a
connection is the `model.Connection` that a wire gives it.

- `model`: the values, and the port to a wire.
- `hubs`, `identities`, `subscriptions`, `twins`, `events`, `requests`: each a table's owner.
- `directory`: what provisioning asks of hubs.
- `authentication`: what a hub accepts; every refusal has a reason.
- `standing`: what would decide about a device now, for whoever asks why.
- `sessions`: who is connected; a session by certificate begins with one statement.
- `live`: the live table, and how a revocation reaches a connection.
- `renewal`: certificate requests over a device's own connection.
- `administration`: hubs as operators create, change and delete them.
- `service_access`: who may ask over its service API.
- `statistics`: how many devices it has.
- `hub`: the room's face: sessions of devices, and what an operator asks.

The order that makes a revocation certain: the live table listens for notices about a connecting
device first; then one unit of work judges what it shows and takes its session epoch; then it is
entered in the live table, and told that it is connected. A revocation that commits before that unit
refuses it; one that commits after it finds it in the live table, or has it read again on its way.
"""
