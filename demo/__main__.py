"""Runs the demonstration; see the package."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from demo.server import Server, free_address, run
from demo.steps import Failed, Steps, check
from fleetroot.agent.bell import Bell
from fleetroot.agent.client import Connection, Login
from fleetroot.agent.errors import CredentialRefused
from fleetroot.agent.renewal import renew
from fleetroot.agent.state import DeviceFolder
from fleetroot.agent.tls import Endpoint, make_context
from fleetroot.clock import SystemClock

_DEVICE: Final = "sensor-1"
_SDK_DEVICE: Final = "sdk-sensor-1"
_SDK_PYTHON: Final = Path(".venv-sdk/bin/python")
_HUB_VERSION: Final = "2025-08-01-preview"


class Demo:
    """A server, a device of ours in a folder, and what the SDK does."""

    def __init__(self, work: Path, steps: Steps) -> None:
        self.work = work
        self.steps = steps
        self.server: Server
        self.folder = work / _DEVICE
        self._open: list[Connection] = []

    def run(self) -> None:
        """Runs every part.

        Raises:
            Failed: something did not hold.
        """
        with self.steps.step("a server starts on SQLite in a fresh folder") as seen:
            self.server = Server(self.work / "data", free_address())
            self.server.wait_ready()
            seen.append(self.server.address)
        try:
            self.provision_and_work()
            first = self.renew_and_reconnect()
            self.revoke_and_return(first)
            self.verify_with_openssl()
            self.sdk()
            with self.steps.step("the server drains and exits with 0"):
                code = self.server.stop()
                check(code == 0, f"it exited with {code}")
        finally:
            for connection in self._open:
                connection.close()
            self.server.stop()

    # --- a device of ours

    def provision_and_work(self) -> None:
        self.steps.part("A device gets its identity, and works with it")
        with self.steps.step("it attests with its symmetric key and sends a P-384 CSR") as seen:
            self._provision()
            chain = self._chain()
            key = chain[0].public_key()
            check(isinstance(key, ec.EllipticCurvePublicKey), "the key is not EC")
            check(getattr(key, "curve", ec.SECP256R1()).name == "secp384r1", "not P-384")
            seen.append(f"{len(chain)} certificates in the first answer")
        with self.steps.step("it connects with that certificate and sends telemetry") as seen:
            connection = self._connect(self.folder)
            connection.publish(f"devices/{_DEVICE}/messages/events/", b'{"temperature": 21.5}')
            connection.close()
            [event] = self.server.events(_DEVICE)
            check(event["text"] == '{"temperature": 21.5}', "another message")
            seen.append(f"event {event['sequenceNumber']} in `fleetroot events`")

    def renew_and_reconnect(self) -> Path:
        """Returns a folder that has the first certificate still."""
        first = self.work / "first"
        DeviceFolder.create(first).store(DeviceFolder(self.folder).load())
        with self.steps.step("it renews over $iothub/credentials and reconnects") as seen:
            device = DeviceFolder(self.folder).load()
            connection = self._connect(self.folder)
            credential = renew(connection, device)
            connection.close()
            DeviceFolder(self.folder).store(device.renewed(credential, SystemClock().now()))
            self._connect(self.folder).close()
            known = self.server.operator("certificates", "list", "--device", _DEVICE)
            check([c["origin"] for c in known] == ["renewal", "provisioning"], str(known))
            seen.append(f"certificate {credential.sha256[:16]}")
        return first

    def revoke_and_return(self, first: Path) -> None:
        with self.steps.step("the operator revokes it: the live connection drops") as seen:
            live = self._connect(self.folder)
            done = self.server.operator("devices", "revoke", _DEVICE)
            returned = time.perf_counter()
            dropped = "before the command returned" if live.lost else ""
            _wait(lambda: live.lost, 5, "the connection stands")
            seen.append(f"{done['certificatesRevoked']} certificates revoked")
            after = (time.perf_counter() - returned) * 1000
            seen.append(f"dropped {dropped or f'{after:.0f} ms after the command returned'}")
        with self.steps.step("both certificates are refused"):
            for folder in (self.folder, first):
                try:
                    self._connect(folder)
                except CredentialRefused:
                    continue
                raise Failed("a revoked certificate was let in")
        with self.steps.step("it provisions again and is back") as seen:
            self._provision()
            connection = self._connect(self.folder)
            connection.publish(f"devices/{_DEVICE}/messages/events/", b"back")
            connection.close()
            statuses = [
                c["status"]
                for c in self.server.operator("certificates", "list", "--device", _DEVICE)
            ]
            check(statuses == ["valid", "revoked", "revoked"], str(statuses))
            seen.append(", ".join(statuses))

    def verify_with_openssl(self) -> None:
        with self.steps.step("its chain verifies with openssl (-x509_strict, sslclient)") as seen:
            names = ("leaf", "issuing", "root")
            files = {name: self.work / f"{name}.pem" for name in names}
            for name, certificate in zip(names, self._chain(), strict=True):
                files[name].write_bytes(certificate.public_bytes(Encoding.PEM))
            done = subprocess.run(
                [
                    "openssl",
                    "verify",
                    *("-x509_strict", "-purpose", "sslclient"),
                    *("-CAfile", str(files["root"]), "-untrusted", str(files["issuing"])),
                    str(files["leaf"]),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            check(done.returncode == 0, done.stderr.strip())
            seen.append(done.stdout.strip().rpartition(": ")[2])

    # --- the SDK

    def sdk(self) -> None:
        self.steps.part("The unmodified azure-iot-device SDK does the same")
        check(_SDK_PYTHON.exists(), "its environment is missing: run `make demo`")
        with self.steps.step("it provisions by key, without a policy, and sends telemetry") as seen:
            enrollment = self.server.operator("enrollment", "create", _SDK_DEVICE, "--no-policy")
            saw = self._sdk_device(
                "by-key",
                host=self.server.address,
                registrationId=_SDK_DEVICE,
                idScope=self.server.id_scope,
                symmetricKey=enrollment["attestation"]["symmetricKey"]["primaryKey"],
                telemetry='{"humidity": 40}',
            )
            check(saw["status"] == "assigned", saw["status"])
            [event] = self.server.events(_SDK_DEVICE)
            check(event["text"] == '{"humidity": 40}', "another message")
            check(event["properties"] == {"sdk": "azure-iot-device"}, "other properties")
            seen.append(f"{saw['status']} to {saw['hub']}")
            seen.append(f"event {event['sequenceNumber']}")
        with self.steps.step("it connects with an operational certificate, and its twin") as seen:
            device = DeviceFolder(self.folder).load()
            dates = {k: v for k, v in device.credential.described().items() if k.startswith("not")}
            current = self.folder / "current"
            saw = self._sdk_device(
                "by-certificate",
                hub=device.hub,
                deviceId=device.device_id,
                certificate=str(current / "certificate.pem"),
                key=str(current / "key.pem"),
                dates=dates,
            )
            check(saw["reported"] == dates, f"reported {dates}, read {saw['reported']}")
            seen.append(f"reported and read back, valid until {dates['notAfter']}")

    def _sdk_device(self, job: str, **order: Any) -> dict[str, Any]:
        order["ca"] = self.server.ca.read_text()
        done = subprocess.run(
            [str(_SDK_PYTHON), str(Path(__file__).with_name("sdk_device.py")), job],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        check(done.returncode == 0, done.stderr.strip()[-500:])
        saw: dict[str, Any] = json.loads(done.stdout)
        return saw

    # --- the device's folder

    def _provision(self) -> None:
        """With the command that a device would run; the group's key derives its own."""
        run(
            "device",
            "provision",
            *("--host", self.server.address),
            *("--id-scope", self.server.id_scope, "--registration-id", _DEVICE),
            *("--group-key", "--ca", str(self.server.ca), "--out", str(self.folder)),
            symmetric_key=self.server.bootstrap["enrollmentGroup"]["primaryKey"],
        )

    def _connect(self, folder: Path) -> Connection:
        """A connection to the hub, with the certificate in the folder."""
        device = DeviceFolder(folder).load()
        context = make_context(device.hub, device.onboarding.ca)
        DeviceFolder(folder).load_into(context)
        login = Login(
            client_id=device.device_id,
            username=f"{device.hub}/{device.device_id}/?api-version={_HUB_VERSION}",
        )
        endpoint = Endpoint(device.hub, device.hub, device.onboarding.port)
        connection = Connection(endpoint, context, login, Bell())
        self._open.append(connection)
        connection.open()
        return connection

    def _chain(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates((self.folder / "current/chain.pem").read_bytes())


def _wait(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = time.perf_counter() + seconds
    while not holds():
        check(time.perf_counter() < end, otherwise)
        time.sleep(0.002)


def main() -> int:
    """Runs the demonstration; 0 if all held."""
    steps = Steps()
    click.echo("Fleetroot: the main job, from nothing")
    with tempfile.TemporaryDirectory(prefix="fleetroot-demo-") as work:
        demo = Demo(Path(work), steps)
        try:
            demo.run()
        except Failed as failed:
            click.echo(f"\nFailed: {failed}")
            return 1
    click.echo(f"\nAll held, in {steps.total():.1f} s.")
    return 0


sys.exit(main())
