"""The HTTP wires: what operators, provisioning clients and certificate users ask over HTTP.

Like every wire it parses, calls one method of a room, and encodes the answer; domain errors become
answers in `errors`, once. It may import the rooms, and the bodies that `gateway` shares with it.

- `ports`: what stands on each port at once; `applications`: the routes that are built on demand.
- `operator`: devices, certificates, events and status, for the CLI and the console.
- `twin_bodies`: twins as services see them, for every route that answers with them.
- `device_registrations`: the provisioning device API; `device_messages`: the hub's.
- `enrollments`: the provisioning service API.
"""
