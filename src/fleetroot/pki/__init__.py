"""X.509: keys, certificate signing requests, profiles, signing and path validation.

This room owns every rule about what a key, a request, a certificate or a chain must be. It decides
nothing about devices or tenants, keeps nothing, reads no clock and touches no file: keys, settings
and the time are passed in. It may import `cryptography` and the standard library, and nothing else
of Fleetroot. Errors that peers cause are typed refusals with a `reason` and a safe `message`.
"""

from fleetroot.pki.activation import (
    ActivatedChain,
    ActivationRefused,
    ActivationRule,
    check_activation,
)
from fleetroot.pki.authority_request import (
    AuthoritySigningRequest,
    read_authority_request,
    sign_authority_request,
)
from fleetroot.pki.certificate import (
    common_name_of,
    generation_of,
    issued_at,
    new_leaf_serial,
    new_serial,
    sha256_fingerprint,
    to_der,
    to_pem,
)
from fleetroot.pki.chain import (
    MAX_CERTIFICATES,
    MAX_CHAIN_BYTES,
    Anchors,
    ChainRefused,
    VerifiedChain,
    check_known,
    load_chain,
    verify_chain,
)
from fleetroot.pki.crl import CrlReason, CrlScope, Revoked, sign_crl
from fleetroot.pki.csr import (
    CertificateRequest,
    CsrRefusal,
    CsrRefused,
    UnverifiedRequest,
    decode_csr,
    decode_csr_pem_or_base64,
    max_csr_characters,
    parse_csr,
    read_csr,
)
from fleetroot.pki.description import CertificateInfo, certificate_info
from fleetroot.pki.foreign_list import ForeignList, ForeignListRefused, read_foreign_list
from fleetroot.pki.issuer import BACKDATE, Issuer, IssuerExpired
from fleetroot.pki.keys import (
    KeyRefusal,
    KeyRefused,
    KeyType,
    PrivateKey,
    PublicKey,
    certified_key,
    generate_key,
    is_strongly_signed,
    key_type_of,
    private_key_from_der,
    private_key_to_der,
    public_key_info,
    signature_hash,
)
from fleetroot.pki.lint import LintFailed
from fleetroot.pki.ocsp import (
    MAX_REQUEST,
    IssuerHash,
    OcspAnswer,
    OcspError,
    OcspRefused,
    OcspRequest,
    Responder,
    Standing,
    Status,
    encode_error,
    issuer_hashes,
    parse_request,
)
from fleetroot.pki.profile import (
    IssuedCertificate,
    IssuingProfile,
    OperationalProfile,
    RootProfile,
)
from fleetroot.pki.responder_profile import ResponderProfile
from fleetroot.pki.rules import ChainRefusal
from fleetroot.pki.server_profile import (
    ServerCaProfile,
    ServerProfile,
    server_ca_permits,
    server_names,
)
from fleetroot.pki.subjects import name_key, parse_subject
from fleetroot.pki.uploaded import (
    MAX_CERTIFICATE_TEXT,
    UploadRefused,
    check_enrolled_ca,
    check_enrolled_device,
    check_possession,
    check_uploaded_ca,
    read_certificate_text,
)
from fleetroot.pki.urls import PkiUrls, offline_authority_id

__all__ = [
    "BACKDATE",
    "MAX_CERTIFICATES",
    "MAX_CERTIFICATE_TEXT",
    "MAX_CHAIN_BYTES",
    "MAX_REQUEST",
    "ActivatedChain",
    "ActivationRefused",
    "ActivationRule",
    "Anchors",
    "AuthoritySigningRequest",
    "CertificateInfo",
    "CertificateRequest",
    "ChainRefusal",
    "ChainRefused",
    "CrlReason",
    "CrlScope",
    "CsrRefusal",
    "CsrRefused",
    "ForeignList",
    "ForeignListRefused",
    "IssuedCertificate",
    "Issuer",
    "IssuerExpired",
    "IssuerHash",
    "IssuingProfile",
    "KeyRefusal",
    "KeyRefused",
    "KeyType",
    "LintFailed",
    "OcspAnswer",
    "OcspError",
    "OcspRefused",
    "OcspRequest",
    "OperationalProfile",
    "PkiUrls",
    "PrivateKey",
    "PublicKey",
    "Responder",
    "ResponderProfile",
    "Revoked",
    "RootProfile",
    "ServerCaProfile",
    "ServerProfile",
    "Standing",
    "Status",
    "UnverifiedRequest",
    "UploadRefused",
    "VerifiedChain",
    "certificate_info",
    "certified_key",
    "check_activation",
    "check_enrolled_ca",
    "check_enrolled_device",
    "check_known",
    "check_possession",
    "check_uploaded_ca",
    "common_name_of",
    "decode_csr",
    "decode_csr_pem_or_base64",
    "encode_error",
    "generate_key",
    "generation_of",
    "is_strongly_signed",
    "issued_at",
    "issuer_hashes",
    "key_type_of",
    "load_chain",
    "max_csr_characters",
    "name_key",
    "new_leaf_serial",
    "new_serial",
    "offline_authority_id",
    "parse_csr",
    "parse_request",
    "parse_subject",
    "private_key_from_der",
    "private_key_to_der",
    "public_key_info",
    "read_authority_request",
    "read_certificate_text",
    "read_csr",
    "read_foreign_list",
    "server_ca_permits",
    "server_names",
    "sha256_fingerprint",
    "sign_authority_request",
    "sign_crl",
    "signature_hash",
    "to_der",
    "to_pem",
    "verify_chain",
]
