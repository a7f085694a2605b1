"""What pkilint finds in a certificate, a revocation list or an OCSP answer: a second opinion."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from pkilint import loader, pkix
from pkilint.pkix import certificate, crl, extension, name, ocsp
from pkilint.validation import ValidationFindingSeverity

# What it asks a library that knows URLs and public domains only, and RFC 5280 §4.2.1.6 does not:
# URIs are those of RFC 3986, with a scheme, so they may be URNs; a name may have a single label
# (RFC 1034 §3.5).
_NO_ERRORS: Final = (
    'pkix.invalid_uri_syntax: Invalid URI syntax: "urn:uuid:',
    'pkix.invalid_domain_name_syntax: Invalid domain name syntax: "localhost"',
)


@cache
def _certificates() -> Any:
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(
            name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS
        ),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@cache
def _lists() -> Any:
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


@cache
def _answers() -> Any:
    return ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )


def of_certificate(der: bytes) -> list[str]:
    """The errors in a certificate."""
    return _errors(_certificates(), loader.load_certificate(der, "certificate"))


def of_list(der: bytes) -> list[str]:
    """The errors in a revocation list."""
    return _errors(_lists(), loader.load_crl(der, "list"))


def of_answer(der: bytes) -> list[str]:
    """The errors in an OCSP answer."""
    return _errors(_answers(), loader.load_ocsp_response(der, "answer"))


def _errors(validators: Any, document: Any) -> list[str]:
    found = [
        f"{finding.finding.code}: {finding.message}"
        for result in validators.validate(document.root)
        for finding in result.finding_descriptions
        if finding.finding.severity <= ValidationFindingSeverity.ERROR
    ]
    return [one for one in found if not one.startswith(_NO_ERRORS)]
