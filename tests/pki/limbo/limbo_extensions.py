"""Extensions: unknown, critical, of policies, twice, unreadable."""

from cryptography import x509
from limbo_case import Presented, accepted, presented, refused, under_root
from limbo_forge import (
    CLIENT,
    NULL,
    ca,
    extension,
    integer,
    key,
    key_identifier,
    leaf,
    names,
    oid,
    raw_extension,
    root,
    sequence,
    unknown,
)

from fleetroot.pki import ChainRefusal
from fleetroot.pki.der import element

ANY_POLICY = sequence(sequence(oid("2.5.29.32.0")))
NO_POLICIES = "accepts: it knows the extension, and works out policies only where told to"
KNOWN_THERE = "accepts: it knows the extension"
OVERLOOKED = "accepts: it reads only what it needs"
SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
# Forms of names that the library knows to exist and does not read.
X400 = sequence(element(0xA3, b""))
EDI_PARTY = sequence(element(0xA5, element(0xA1, element(0x0C, b"party"))))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION)
def unknown_critical_of_the_leaf() -> Presented:
    """RFC 5280 §6.1.5 (f): what is critical and not understood is refused."""
    return under_root(leaf(extra=[unknown(critical=True)]), ca())


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION)
def unknown_critical_of_the_intermediate() -> Presented:
    """RFC 5280 §6.1.4 (o): so in a CA."""
    return under_root(leaf(), ca(extra=[unknown(critical=True)]))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION)
def unknown_critical_of_the_anchor() -> Presented:
    """RFC 5280 §6.1.4 (o): an anchor's certificate is held to the same."""
    return presented(leaf(), ca(), anchors=(root(extra=[unknown(critical=True)]),))


@accepted()
def unknown_not_critical() -> Presented:
    """RFC 5280 §4.2: what is not critical and not understood is ignored."""
    loose = unknown(critical=False)
    return presented(leaf(extra=[loose]), ca(extra=[loose]), anchors=(root(extra=[loose]),))


@accepted()
def unknown_not_critical_with_garbage_inside() -> Presented:
    """RFC 5280 §4.2: nor is it parsed."""
    garbage = raw_extension("1.3.6.1.4.1.55555.2", b"\xff\xff\xff")
    return under_root(leaf(extra=[garbage]), ca())


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION, openssl=NO_POLICIES)
def policies_critical_of_the_intermediate() -> Presented:
    """RFC 5280 §4.2.1.4: we work out no policies, so where they are critical we refuse."""
    return under_root(leaf(), ca(extra=[raw_extension("2.5.29.32", ANY_POLICY, critical=True)]))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION, openssl=NO_POLICIES)
def policies_critical_of_the_leaf() -> Presented:
    """RFC 5280 §4.2.1.4: so in a leaf."""
    return under_root(leaf(extra=[raw_extension("2.5.29.32", ANY_POLICY, critical=True)]), ca())


@accepted()
def policies_not_critical() -> Presented:
    """RFC 5280 §4.2.1.4: policies that bind nobody."""
    policies = raw_extension("2.5.29.32", ANY_POLICY)
    return under_root(leaf(extra=[policies]), ca(extra=[policies]))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION, openssl=NO_POLICIES)
def explicit_policy_required() -> Presented:
    """RFC 5280 §4.2.1.11: policyConstraints must be critical, and we cannot keep them."""
    required = raw_extension("2.5.29.36", sequence(element(0x80, b"\x00")), critical=True)
    return under_root(leaf(), ca(extra=[required]))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION, openssl=NO_POLICIES)
def any_policy_inhibited() -> Presented:
    """RFC 5280 §4.2.1.14: inhibitAnyPolicy must be critical, and we cannot keep it."""
    return under_root(leaf(), ca(extra=[raw_extension("2.5.29.54", integer(0), critical=True)]))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION, openssl=NO_POLICIES)
def policies_mapped() -> Presented:
    """RFC 5280 §4.2.1.5: policyMappings should be critical, and we do not map."""
    mappings = sequence(sequence(oid("1.2.3"), oid("1.2.4")))
    return under_root(leaf(), ca(extra=[raw_extension("2.5.29.33", mappings, critical=True)]))


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION, openssl=KNOWN_THERE)
def distribution_points_critical() -> Presented:
    """RFC 5280 §4.2.1.13: they should not be; revocation is not decided here."""
    points = sequence(sequence(element(0xA0, element(0xA0, element(0x86, b"http://x.example/c")))))
    return under_root(leaf(extra=[raw_extension("2.5.29.31", points, critical=True)]), ca())


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION)
def issuer_alternative_names_critical() -> Presented:
    """RFC 5280 §4.2.1.7: they should not be, and nothing here reads them."""
    issuers = raw_extension("2.5.29.18", sequence(element(0x82, b"a.example")), critical=True)
    return under_root(leaf(extra=[issuers]), ca())


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION)
def precertificate() -> Presented:
    """RFC 6962 §3.1: poison makes sure that a precertificate is not used as a certificate."""
    poison = raw_extension("1.3.6.1.4.1.11129.2.4.3", NULL, critical=True)
    return under_root(leaf(extra=[poison]), ca())


@refused(ChainRefusal.UNKNOWN_CRITICAL_EXTENSION)
def proxy_certificate() -> Presented:
    """RFC 3820 §3.8: proxy certificates are not known here."""
    policy = sequence(sequence(oid("1.3.6.1.5.5.7.21.1")))
    proxy = raw_extension("1.3.6.1.5.5.7.1.14", policy, critical=True)
    return under_root(leaf(extra=[proxy]), ca())


@accepted(openssl="refuses: it still obeys Netscape's certificate types, which no RFC has")
def netscape_server_type() -> Presented:
    """RFC 5280 §4.2: not critical and not understood, so ignored; purposes are in the EKU."""
    return under_root(
        leaf(extra=[raw_extension("2.16.840.1.113730.1.1", b"\x03\x02\x06\x40")]), ca()
    )


@accepted(openssl="refuses: it does not handle the extension where it is critical")
def subject_key_identifier_critical() -> Presented:
    """RFC 5280 §4.2.1.2: it must not be, and it is understood."""
    identifier = x509.SubjectKeyIdentifier(key_identifier(key("device-1")))
    critical = extension(identifier, critical=True)
    return under_root(leaf(identifier=None, extra=[critical]), ca())


@accepted()
def alternative_names_critical() -> Presented:
    """RFC 5280 §4.2.1.6: they should not be beside a subject, and are understood."""
    return under_root(leaf(extra=[names(x509.DNSName("a.example"), critical=True)]), ca())


@refused(ChainRefusal.MALFORMED)
def alternative_names_twice() -> Presented:
    """RFC 5280 §4.2: an extension occurs once."""
    twice = [names(x509.DNSName(host)) for host in ("a.example", "b.example")]
    return under_root(leaf(extra=twice), ca())


@refused(ChainRefusal.MALFORMED, openssl="accepts: it does not count extensions it ignores")
def unknown_twice() -> Presented:
    """RFC 5280 §4.2: an unknown one too."""
    return under_root(leaf(extra=[unknown(critical=False)] * 2), ca())


@refused(ChainRefusal.MALFORMED)
def basic_constraints_twice() -> Presented:
    """RFC 5280 §4.2: CA:FALSE and CA:TRUE in one certificate."""
    again = extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return under_root(leaf(), ca(ca=False, extra=[again]))


@refused(ChainRefusal.CLIENT_AUTH_MISSING, openssl="accepts: without purposes any is allowed to it")
def none_in_a_list_of_them() -> Presented:
    """RFC 5280 §4.1.2.9: an empty list of extensions, so no purpose."""
    return under_root(leaf(extensions=element(0xA3, sequence())), ca())


@refused(ChainRefusal.MALFORMED, openssl=OVERLOOKED)
def alternative_names_with_an_x400_address() -> Presented:
    """RFC 5280 §4.2.1.6: a form of name that the library loads and does not read."""
    return under_root(leaf(extra=[raw_extension(SUBJECT_ALTERNATIVE_NAME, X400)]), ca())


@refused(ChainRefusal.MALFORMED, openssl=OVERLOOKED)
def alternative_names_with_an_edi_party() -> Presented:
    """RFC 5280 §4.2.1.6: another."""
    return under_root(leaf(extra=[raw_extension(SUBJECT_ALTERNATIVE_NAME, EDI_PARTY)]), ca())


@refused(ChainRefusal.MALFORMED, openssl=OVERLOOKED)
def alternative_names_of_a_ca_with_an_edi_party() -> Presented:
    """RFC 5280 §4.2.1.6: so in a CA."""
    return under_root(leaf(), ca(extra=[raw_extension(SUBJECT_ALTERNATIVE_NAME, EDI_PARTY)]))


@refused(ChainRefusal.MALFORMED, openssl=OVERLOOKED)
def key_usage_of_another_type() -> Presented:
    """RFC 5280 §4.2.1.3: a NULL in place of bits, in a certificate that has no part in the path."""
    odd = leaf("stranger", "nobody", key_usage=None, extra=[raw_extension("2.5.29.15", NULL)])
    return under_root(leaf(), ca(), odd)


@refused(ChainRefusal.MALFORMED)
def purposes_cut_short() -> Presented:
    """RFC 5280 §4.2.1.12: a length that runs past the end."""
    cut = sequence(oid(CLIENT.dotted_string))[:-1]
    return under_root(leaf(purposes=None, extra=[raw_extension("2.5.29.37", cut)]), ca())
