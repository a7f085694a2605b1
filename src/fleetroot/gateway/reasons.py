"""Every reason for a refusal that is counted by, and what to do about it.

A closed set: metrics count by these words and no others, whatever a peer or a library says. The
words are those that errors carry as `reason`, the values of `RefusalReason` (TLS) and `Violation`
(MQTT), and the names of error codes for refusals whose reason is made of the request.
"""

from __future__ import annotations

from typing import Final

from fleetroot.errors import ErrorCode, FleetrootError
from fleetroot.gateway.mqtt import Violation
from fleetroot.gateway.tls import RefusalReason

OTHER: Final = "other"

_TOKEN: Final = "The token is not in the form of a shared access signature; see docs/wire.md."  # noqa: S105
_MQTT: Final = "The client breaks MQTT 3.1.1: use a library that keeps it, or update it."
_CSR: Final = "The certificate request breaks the rule that the answer names: make a new one."
_TLS_LIMIT: Final = "No client needs this much in a handshake: look at who it is."
_LATER: Final = "It passes by itself: the device shall try again."

ADVICE: Final[dict[str, str]] = {
    # Provisioning.
    "unknown ID scope": "Compare the device's ID scope with the one of `bootstrap.json`.",
    "no enrollment": "Create an enrollment for this id: `fleetroot enrollment create ID`.",
    "not a registration id": "Ids are 1 to 128 letters, digits and `. _ : -`.",
    "no credential": (
        "The device sent no token, and showed no certificate that counts here: configure either."
    ),
    "no client certificate, and the enrollment wants one": (
        "The device must show its onboarding certificate in TLS; a token does not help here."
    ),
    "certificate is not the enrollment's": (
        "The device shows another certificate than the enrollment's primary or secondary."
    ),
    "certificate of another registration id": (
        "The common name of the device's certificate must be its registration id."
    ),
    "onboarding certificate refused": (
        "The detail names the rule that the chain breaks: docs/path-validation.md. `untrusted`: no "
        "enrollment group has a CA above the certificate, or the device leaves intermediates out."
    ),
    "onboarding certificate on a revocation list": (
        "Its CA, or one above it, revoked it: give the device another certificate."
    ),
    "onboarding certificate was issued here and revoked": (
        "It is an operational certificate of this installation that counts no more: give the "
        "device another onboarding certificate."
    ),
    "another TPM": (
        "The device's endorsement key is not the enrollment's: another device, or a mistaken key."
    ),
    "TPM where another attestation is due": (
        "The device came with a TPM: give it an enrollment with its endorsement key."
    ),
    "TPM not challenged": (
        "The device must register over HTTPS with the keys of its TPM and no token, and sign with "
        "the key that the answer holds."
    ),
    "TPM over another wire than HTTPS": "TPM attestation is over HTTPS only: configure the device.",
    "TPM key refused": "The answer says which rule the key breaks; docs/wire.md has them.",
    "TPM challenge": "The device's TPM is to prove that it is there: nothing was refused.",
    "enrollment disabled": "Enable it: `fleetroot enrollment enable ID`.",
    "enrollment expired": "Give it a later expiry, or none: its devices may come again then.",
    "waits for approval": "Let it in: `fleetroot quarantine approve ID`; or `reject` it.",
    "rejected": "An operator rejected it; `fleetroot quarantine approve ID` lets it in again.",
    "device provisions under another enrollment": (
        "The device belongs to another enrollment: use that one's key, or delete that enrollment."
    ),
    "token names another key": "The token's `skn` must be `registration`, or be left out.",
    "missing api-version": "Say which api-version the client speaks; docs/wire.md lists them.",
    "unknown api-version": "Use an api-version that docs/wire.md lists.",
    "no issuing CA": (
        "The policy has no CA yet: `fleetroot policy show NAME` says what it waits for."
    ),
    "external root": "The CA of a root of another is revoked where it was signed.",
    "external root and devices that are not revoked": (
        "Revoke the policy's devices first: nobody else can end what its CA issued."
    ),
    "leaf validity out of range": (
        "Ask for 7 to 90 days, or widen `leaf_validity_min_days` and `leaf_validity_max_days`."
    ),
    "property change not allowed": "It is said once, when the resource is made: make another.",
    "no such subscription": "Use the subscription of `bootstrap.json`.",
    "host name outside the server CA": (
        "Choose a name under the server's domain, or start a server with the other domain."
    ),
    "host name not in the operator's certificate": (
        "The operator's own server certificate must have the name: renew it with the name first."
    ),
    "no domain for host names": "Set `services_domain`, or say the host name.",
    "own CA": "The CA is one of this installation: its devices are known by the inventory.",
    "not pending": "Let it ask for another CA first: `fleetroot policy renew-issuer NAME`.",
    "activation refused": "The answer names the rule that the chain breaks; docs/authorities.md.",
    "no linked hub": "Link a hub to the service, or correct the enrollment's `iotHubs`.",
    "static allocation without a hub": (
        "Name the hub in the enrollment (`iotHubs`), or allocate in another way."
    ),
    "certificate issued after the backup": (
        "The server was restored to before it was issued: the device shall provision again."
    ),
    "token is away": "The token with the CA's key does not answer: see `fleetroot status`.",
    "key is not in its token": "The token answers without the CA's key: was it replaced?",
    "token does not sign": "The token refuses to sign: see the reason, and its own log.",
    "token is not configured": "Name the token in the setting `tokens` again.",
    "CSR without a policy": (
        "Give the enrollment a policy (`credentialPolicyName`), or let the device send no CSR."
    ),
    "too_long": _CSR,
    "not_base64": _CSR,
    "not_pkcs10": _CSR,
    "bad_signature": _CSR,
    "wrong_common_name": "The CSR's common name must be the registration id, in the same spelling.",
    "key_not_allowed": "Use a key type that the policy allows: `fleetroot status` lists them.",
    "idle": "The device connected to provision and did not attest in time: look at its client.",
    "too many failed attestations": (
        "The device goes on with a credential that was refused: correct it; see its other refusals."
    ),
    "source provisions too often": (
        "`requests_per_source` is reached: devices try again. Is it a site behind one address?"
    ),
    "provisioning service is busy": (
        "`registrations_per_scope` is reached: devices try again. Raise it if the server can."
    ),
    "device registers too often": (
        "It provisions in a loop: look at its client, or for two devices with one id."
    ),
    "device asks for certificates too often": (
        "It does not keep what it is given: look at its client, or for two devices with one id."
    ),
    "device polls too often": "Its client does not wait as long as it is told.",
    "too many keys tried for this source": (
        "Somebody guesses from this address, or its devices have no group here: see the others "
        "that were refused from it."
    ),
    "CSR in a look-up": "Ask for a certificate by registering (`PUT …/register`).",
    "wrong method": "The answer's `Allow` names the method.",
    # WebSocket.
    "no WebSocket at this path": "MQTT over WebSocket is at `/$iothub/websocket`.",
    "subprotocol is not mqtt": "The client must offer the WebSocket subprotocol `mqtt`.",
    "cross-origin": "A page of another host opened a WebSocket here: browsers are no devices.",
    "text message": "MQTT goes in binary messages (MQTT 3.1.1 §6).",
    # Tokens.
    "token signed with another key": (
        "The device's key is not the one here. A group's devices use a key derived from the "
        "group's over the registration id as it was first spelled; look for a truncated key, too."
    ),
    "token expired": "Set the device's clock, or let its tokens live longer.",
    "token is for another resource": (
        "The token's `sr` must name this service and this device; compare host name, scope and id."
    ),
    "token too long": _TOKEN,
    "not a shared access signature": _TOKEN,
    "token has an unknown or repeated field": _TOKEN,
    "token lacks a field": _TOKEN,
    "token expiry is not a number": _TOKEN,
    "token signature is not base64": _TOKEN,
    "token is not percent-encoded": _TOKEN,
    "password is not a token": _TOKEN,
    "no such shared access policy": "The token's `skn` names a policy that is not here.",
    # Hub.
    "no such hub": "Compare the hub's host name in the user name with `fleetroot status`.",
    "no such device on this hub": "Provision the device first; it is not on this hub.",
    "no such module on this hub": (
        "Create it (`PUT /devices/{id}/modules/{module}`), or correct the ids that it gives."
    ),
    "too many calls wait for one device": (
        "Services call it faster than it answers: look at the device, or `method_calls_per_device`."
    ),
    "too many queries wait": "Services ask more than the hub can search: see docs/queries.md.",
    "too many calls wait": "Services call more than devices answer: see `method_calls`.",
    "answer to no call": (
        "The device answered a direct method whose caller waits no more, or twice: is it slow?"
    ),
    "method answer without a status": "The answer's topic must have an integer as status.",
    "method answer too large": "An answer is at most 128 KB: let the device send telemetry.",
    "method answer is not JSON": "The device's answer must be JSON, or empty.",
    "device deleted": (
        "An operator deleted it from the registry. Provision it anew, if it shall come back."
    ),
    "device disabled": (
        "Enable it: `fleetroot devices enable ID` in the registry, `fleetroot hub identity enable "
        "ID` on its hub."
    ),
    "no client certificate, and the identity is pinned to a policy": (
        "The device must show its operational certificate in TLS: provision with a CSR, and "
        "configure certificate and key; without a certificate a token does not help."
    ),
    "no certificate was issued": "The device shall provision with a CSR.",
    "certificate not in the inventory": (
        "ALARM: the certificate chains to a CA of yours and was not issued here. Unless the "
        "database was restored from a backup, treat the CA's key as stolen."
    ),
    "certificate of a foreign CA": (
        "The device shows a certificate that was not issued here: provision it with a CSR."
    ),
    "certificate of another namespace": "It was issued elsewhere: the device shall provision here.",
    "certificate of another device": "It is another device's: look for a copied image.",
    "certificate of another policy": "The device's policy changed: it shall provision again.",
    "issuing CA not synchronized to this hub": "Synchronize the namespace's CAs to the hub.",
    "issuing CA revoked": "The policy's issuer was revoked: the device shall provision again.",
    "issuing CA on a revocation list": (
        "A CA above it revoked it: renew the policy's CA and activate another one."
    ),
    "certificate revoked": "The device shall provision again, if it is to come back.",
    "certificate not yet valid": "Compare the server's clock with the certificate's dates.",
    "certificate expired": "The device did not renew in time: it shall provision again.",
    "no client certificate, and the identity is pinned to thumbprints": (
        "The device must show in TLS the certificate that it provisioned with."
    ),
    "certificate of another thumbprint": (
        "The device shows another certificate than it provisioned with: it shall provision again."
    ),
    "certificate of a thumbprint refused": (
        "The detail names the rule: docs/path-validation.md. Give the device a new certificate."
    ),
    "no client certificate, and the identity is pinned to CAs": (
        "The device must show in TLS its certificate, with those of the CAs between it and the one "
        "that was uploaded."
    ),
    "certificate of an uploaded CA refused": (
        "The detail names the rule: docs/path-validation.md. `untrusted`: upload its CA to the hub "
        "and verify it, or let the device send the CAs between."
    ),
    "certificate of a CA of this installation": (
        "The identity is pinned to uploaded CAs, and what CAs of policies issue does not count for "
        "it: provision the device under the policy."
    ),
    "uploaded CA not on this hub": (
        "Its CA certificate was taken from the hub meanwhile: upload it again, or another."
    ),
    "certificate on a revocation list": (
        "Its CA revoked it, or the CA between: the device needs another certificate."
    ),
    "no CA was uploaded and verified": (
        "Upload the device's CA to the hub and verify it: `fleetroot hub certificate --help`."
    ),
    "no token, and the identity is pinned to keys": (
        "The device must send a token signed with its key, or provision under a policy with a CSR."
    ),
    "the identity has no keys": "Provision the device again: its identity lost its keys.",
    "changed while connecting": _LATER,
    "removed while connecting": "The device was deleted from the hub: provision it again.",
    "ended while connecting": "It was revoked, disabled or replaced meanwhile: see its state.",
    "will on a topic that is not the device's events": (
        "A will must go to `devices/{id}/messages/events/`."
    ),
    "device connects too often": (
        "It reconnects in a loop: two clients with one id drive each other out, or it crashes."
    ),
    "not a topic of this device": "The client published to what docs/wire.md does not list.",
    "not a filter of this device": "The client subscribed to what docs/wire.md does not list.",
    "not a topic of provisioning": "Only the register and poll topics of `$dps` are offered.",
    "malformed properties in a topic": "Percent-encode the property bag's keys and values.",
    "the policy's CA is on a revocation list": (
        "A CA above it revoked it: renew the policy's CA and activate another one."
    ),
    "policy deleted": "The enrollment names a policy that was deleted: give it another.",
    "policy waits for the activation of its CA": (
        "Sign the policy's request and activate it: `fleetroot policy activate`."
    ),
    "device revoked or disabled": "It was revoked or disabled meanwhile: see its state.",
    "session ended": "It was revoked, disabled or replaced meanwhile: see its state.",
    "session replaced": "A newer connection of the same id took over: are there two clients?",
    # Why live connections end.
    "replaced by a newer connection": "Expected after a fault; else, are there two clients?",
    "revoked": "The device shall provision again, if it is to come back.",
    "disabled": "Enable it: `fleetroot devices enable ID`.",
    "uploaded CA not trusted any more": (
        "Its CA certificate was taken from the hub, or replaced: upload it again, or another."
    ),
    "identity changed": "Its enrollment or keys changed: it shall connect, or provision, again.",
    "credential expired": "What it was let in by is over: it shall connect with a new one.",
    "the node cannot reach the database": _LATER,
    "shutdown": _LATER,
    "the device went away": _LATER,
    # One connection.
    "silent": "The device fell silent for 1.5 times its keep-alive: power or network.",
    "gone without CONNECT": "It set TLS up and left: a health check, or a client without trust.",
    "gone without attesting": "It connected to provision, asked nothing and left.",
    "no CONNECT in time": "TLS was set up and no MQTT CONNECT came: look at the client.",
    "write buffer over its limit": "The device asks and does not read the answers.",
    "no operator token": "The caller's bearer token is not the operator's.",
    # HTTP, before there is a request.
    "head too large": "The request's headers are over `http_head_bytes`.",
    "head too slow": "The request's headers took longer than `http_head_seconds`.",
    "body too slow": "The request's body took longer than `http_body_seconds`.",
    "gone without a request": "It set TLS up and left: a health check, or a client without trust.",
    "not HTTP": "What came is not HTTP/1.1: is it the right port?",
    "too many connections": "Raise the limit, or find out who holds them.",
    # MQTT.
    **{violation.value: _MQTT for violation in Violation},
    Violation.TOO_LARGE.value: "The packet is over the limit for it; see docs/limits.md.",
    Violation.QOS_2.value: "QoS 2 is not offered: publish at QoS 0 or 1.",
    Violation.PROTOCOL_LEVEL.value: "Only MQTT 3.1.1 (level 4) is offered.",
    Violation.PROTOCOL_NAME.value: "Only MQTT 3.1.1 is offered: MQTT 3.1 is not.",
    Violation.CLIENT_ID.value: "Send the device id as client id.",
    # TLS.
    RefusalReason.FIRST_FLIGHT_TIMEOUT.value: "It connected and sent no ClientHello in time.",
    RefusalReason.HANDSHAKE_TIMEOUT.value: "The handshake took too long: look at the network.",
    RefusalReason.TOO_MANY_CONNECTIONS.value: "`max_connections` is reached, or open files are.",
    RefusalReason.TOO_MANY_HANDSHAKES.value: "`max_handshakes` is reached; devices try again.",
    RefusalReason.TOO_MANY_FROM_SOURCE.value: (
        "`max_handshakes_per_source` or `max_strangers_per_source` is reached: a NAT, or an attack."
    ),
    RefusalReason.TOO_MANY_FAILURES.value: (
        "The address wasted `failures_per_source`: it, or one behind the same NAT, is refused over "
        "and over; see the other refusals from it."
    ),
    RefusalReason.TOO_LARGE.value: _TLS_LIMIT,
    RefusalReason.TOO_MANY_STEPS.value: _TLS_LIMIT,
    RefusalReason.NOT_TLS.value: "The port speaks TLS, and the peer something else: a scanner?",
    RefusalReason.TLS_ERROR.value: (
        "TLS failed; the log line has OpenSSL's words. An alert from the device (unknown ca, bad "
        "certificate) means that it does not trust the server: give it `server-ca.pem`."
    ),
    RefusalReason.PROXY_HEADER.value: "The balancer must send PROXY protocol version 2.",
    RefusalReason.UNTRUSTED_PROXY.value: "It came past the balancers of `trusted_proxies`.",
    RefusalReason.PEER_CLOSED.value: "The peer went away during the handshake: a health check?",
    RefusalReason.BUSY.value: (
        "More handshakes wait than the server makes in `handshake_wait_seconds`: devices try again."
    ),
    RefusalReason.KEPT_WAITING.value: (
        "It left while it waited for the server, busy with others' handshakes; devices try again."
    ),
    RefusalReason.STOPPING.value: _LATER,
    # By code, where the reason is made of the request.
    **{code.name: "The device was told what is wrong: read the detail." for code in ErrorCode},
    ErrorCode.UNAVAILABLE.name: _LATER,
    ErrorCode.SERVER_ERROR.name: "The server failed; the log has an error at the same time.",
    ErrorCode.THROTTLED.name: _LATER,
    OTHER: "Read the detail.",
}


def label_of(reason: str) -> str:
    """The reason as it is counted: one of `ADVICE`. A reason may end in figures, a name or a
    library's words, behind a colon or a bracket.
    """
    head = reason.partition(":")[0].partition("(")[0].strip()
    return head if head in ADVICE else OTHER


def label_of_error(error: FleetrootError) -> str:
    """The same of an error, whose code counts where its reason is made of the request."""
    label = label_of(error.reason)
    return error.code.name if label == OTHER else label
