"""What keys are for: extended key usage, and the key usage of a leaf."""

from cryptography import x509
from limbo_case import Presented, accepted, refused, under_root
from limbo_forge import ANY, CLIENT, SERVER, ca, extension, leaf, raw_extension, sequence
from pki_workshop import usage

from fleetroot.pki import ChainRefusal

NOT_ASKED = "accepts: without the extension every purpose is allowed to it"
ANY_IS_NOT_ALL = "refuses: it does not take anyExtendedKeyUsage for clientAuth"


def for_nothing_but(*, key_encipherment: bool = False, agreement: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        False, False, key_encipherment, False, agreement, False, False, False, False
    )


@refused(ChainRefusal.CLIENT_AUTH_MISSING, openssl=NOT_ASKED)
def leaf_without_purposes() -> Presented:
    """RFC 5280 §4.2.1.12: absent means any purpose; our rule wants clientAuth said."""
    return under_root(leaf(purposes=None), ca())


@refused(ChainRefusal.CLIENT_AUTH_MISSING)
def leaf_for_servers() -> Presented:
    """RFC 5280 §4.2.1.12: the purposes that are listed, and no other."""
    return under_root(leaf(purposes=[SERVER]), ca())


@refused(ChainRefusal.CLIENT_AUTH_MISSING)
def leaf_for_any_purpose() -> Presented:
    """RFC 5280 §4.2.1.12: an application may insist on its own purpose, and we do."""
    return under_root(leaf(purposes=[ANY]), ca())


@accepted()
def leaf_for_any_purpose_and_clients() -> Presented:
    """RFC 5280 §4.2.1.12: clientAuth is among them."""
    return under_root(leaf(purposes=[ANY, CLIENT]), ca())


@accepted()
def leaf_for_servers_and_clients() -> Presented:
    """RFC 5280 §4.2.1.12: clientAuth is among them."""
    return under_root(leaf(purposes=[SERVER, CLIENT]), ca())


@accepted()
def leaf_for_clients_critical() -> Presented:
    """RFC 5280 §4.2.1.12: the extension may be critical."""
    critical = extension(x509.ExtendedKeyUsage([CLIENT]), critical=True)
    return under_root(leaf(purposes=None, extra=[critical]), ca())


@accepted()
def leaf_for_clients_and_something_unheard_of() -> Presented:
    """RFC 5280 §4.2.1.12: an unknown purpose takes nothing away."""
    unheard = x509.ObjectIdentifier("1.3.6.1.4.1.55555.9")
    return under_root(leaf(purposes=[unheard, CLIENT]), ca())


@refused(ChainRefusal.MALFORMED)
def leaf_for_no_purpose() -> Presented:
    """RFC 5280 §4.2.1.12: the list has one purpose at least."""
    return under_root(leaf(purposes=None, extra=[raw_extension("2.5.29.37", sequence())]), ca())


@accepted()
def ca_for_clients() -> Presented:
    """RFC 5280 §4.2.1.12, read as a limit on what is beneath: clientAuth is in it."""
    return under_root(leaf(), ca(purposes=[CLIENT]))


@refused(ChainRefusal.CLIENT_AUTH_MISSING)
def ca_for_servers() -> Presented:
    """RFC 5280 §4.2.1.12, read as a limit on what is beneath: no clients of a CA for servers."""
    return under_root(leaf(), ca(purposes=[SERVER]))


@refused(ChainRefusal.CLIENT_AUTH_MISSING)
def upper_ca_for_servers() -> Presented:
    """RFC 5280 §4.2.1.12: a lower CA cannot widen what an upper one allows."""
    return under_root(
        leaf(issuer="lower"),
        ca("lower", "upper", purposes=[CLIENT]),
        ca("upper", purposes=[SERVER]),
    )


@accepted(openssl=ANY_IS_NOT_ALL)
def ca_for_any_purpose() -> Presented:
    """RFC 5280 §4.2.1.12: a CA that says any purpose limits nothing."""
    return under_root(leaf(), ca(purposes=[ANY]))


@refused(ChainRefusal.DIGITAL_SIGNATURE_MISSING)
def leaf_key_for_encipherment_only() -> Presented:
    """RFC 8446 §4.4.2.3: a client signs, so a key usage that is there must have the bit."""
    return under_root(leaf(key_usage=for_nothing_but(key_encipherment=True)), ca())


@refused(
    ChainRefusal.DIGITAL_SIGNATURE_MISSING,
    openssl="accepts: fixed Diffie-Hellman of TLS 1.2 was a use; no client here has it",
)
def leaf_key_for_agreement_only() -> Presented:
    """RFC 8446 §4.4.2.3: nor is agreeing on keys signing."""
    return under_root(leaf(key_usage=for_nothing_but(agreement=True)), ca())


@accepted()
def leaf_without_key_usage() -> Presented:
    """RFC 5280 §4.2.1.3: without the extension the key is not restricted."""
    return under_root(leaf(key_usage=None), ca())


@accepted()
def leaf_key_usage_not_critical() -> Presented:
    """RFC 5280 §4.2.1.3: it should be critical, and validation does not ask."""
    return under_root(leaf(key_usage=None, extra=[extension(usage(sign=True))]), ca())
