"""Full onboardings by attestation and by wire, each with a TLS handshake of its own, against the
cryptography that they cannot do without. Devices' keys are P-256, where the cryptography hides the
server least; the issuing CA is P-384, as a first start makes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bench.credentials import Attestation
from bench.floor import CryptoFloor, HandshakeFloor, to_pem
from bench.load import Job, Wire
from bench.manufacturer import Manufacturer, self_signed
from bench.measure import Row, Scale, cpu_seconds, rate, ratio, take_turns
from bench.processes import Server, generator, new_server
from bench.tpm import Tpm, new_token
from fleetroot import sas
from fleetroot.provisioning.tpm_protection import KEY_BYTES, send_key
from fleetroot.provisioning.tpm_public import read_storage_key

_CURVE: Final = "P-256"
_FLOORS: Final = 50  # a round
_SHARE: Final = 3  # of a batch: there are many sides
_ALL: Final = (Wire.MQTT, Wire.WEBSOCKET, Wire.HTTPS)
_SHOWN: Final[dict[Attestation, tuple[str, tuple[Wire, ...]]]] = {
    Attestation.GROUP_KEY: ("a group's key", _ALL),
    Attestation.KEY: ("a key", _ALL),
    Attestation.CERTIFICATE: ("certificate", _ALL),
    Attestation.CHAIN: ("group's CA, chain of 2", _ALL),
    Attestation.TPM: ("TPM, RSA, two steps", (Wire.HTTPS,)),
}


class Floor:
    """The cryptography of one onboarding: the handshake, with a certificate of the device or
    without; what it attests with; its CSR verified and its certificate signed.

    A chain is verified by its two signatures. A token is an HMAC, and one more where its key is
    derived. A TPM is sent two keys, and each is for both of its own.
    """

    def __init__(self, attestation: Attestation) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        shown, self._attest = None, self._check_token
        match attestation:
            case Attestation.CERTIFICATE:
                shown = to_pem(key, self_signed("floor", key))
                self._attest = lambda: None
            case Attestation.CHAIN:
                manufacturer = Manufacturer()
                leaf, intermediate = manufacturer.device("floor", key)
                shown = to_pem(key, leaf, intermediate)
                self._path = ((leaf, intermediate), (intermediate, manufacturer.root))
                self._attest = self._verify_path
            case Attestation.GROUP_KEY:
                self._attest = self._check_derived
            case Attestation.TPM:
                tpm = Tpm()
                self._tpm = tuple(
                    read_storage_key("key", each)
                    for each in (tpm.endorsement_key, tpm.storage_root_key)
                )
                self._attest = self._challenge
        self._handshake = HandshakeFloor(shown)
        self._issue = CryptoFloor(ec.SECP256R1(), ec.SECP384R1())
        self._key = os.urandom(KEY_BYTES)
        self._token = sas.SasToken.parse(new_token("scope/registrations/floor", self._key))

    def seconds(self, times: int) -> float:
        """The CPU of the server's side, in seconds for one."""
        others = cpu_seconds(self._attest, times) + self._issue.seconds(times)
        return self._handshake.seconds(times) + others

    def _check_token(self) -> None:
        assert self._token.is_signed_by(self._key)

    def _check_derived(self) -> None:
        self._token.is_signed_by(sas.derive_device_key(self._key, "floor"))

    def _verify_path(self) -> None:
        for child, issuer in self._path:
            child.verify_directly_issued_by(issuer)

    def _challenge(self) -> None:
        endorsement, storage_root = self._tpm
        for _ in ("challenge", "key for the hub"):
            send_key(endorsement, storage_root, self._key)
        self._check_token()


def rows(scale: Scale, attestations: Iterable[Attestation] = tuple(_SHOWN)) -> list[Row]:
    """A row for each of these attestations over each wire that has it."""
    with new_server() as server:
        return [row for each in attestations for row in _of_attestation(server, scale, each)]


def _of_attestation(server: Server, scale: Scale, attestation: Attestation) -> list[Row]:
    what, wires = _SHOWN[attestation]
    floor, devices = Floor(attestation), max(2, scale.batch // _SHARE)
    with ExitStack() as running:
        loads = [
            running.enter_context(
                generator(server, Job.ONBOARD, _CURVE, devices, wire=wire, attestation=attestation)
            )
            for wire in wires
        ]
        sides = [lambda load=load: load.cost(server.pid) for load in loads]
        bottom, *costs = take_turns(scale.rounds, lambda: floor.seconds(_FLOORS), *sides)
    return [
        Row(
            f"onboardings by {what}, {wire}",
            rate(used),
            f"floor {rate(bottom)}",
            ratio(bottom, used),
        )
        for wire, used in zip(wires, costs, strict=True)
    ]
