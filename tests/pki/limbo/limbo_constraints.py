"""Name constraints (RFC 5280 §4.2.1.10): of names in the SAN, in the subject, and of odd forms."""

from ipaddress import ip_address, ip_network
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from limbo_case import Presented, accepted, presented, refused, under_root
from limbo_forge import (
    NULL,
    ca,
    common_name,
    constraints,
    key,
    leaf,
    name,
    names,
    raw_extension,
    root,
    sequence,
)

from fleetroot.pki import ChainRefusal
from fleetroot.pki.der import element

FLEET = "fleet.example"
NAME_CONSTRAINTS = "2.5.29.30"
WITH_MAIL = name((NameOID.COMMON_NAME, "device-1"), (NameOID.EMAIL_ADDRESS, "a@bank.example"))
URN = "urn:uuid:0b6b0f2a-7f5c-4a6d-9f1e-3c2b1a098765"

HOST_NAMES_IN_CN = "refuses: it takes a common name that looks like a host name for one"
NO_DIRECTORY_NAMES = "accepts: it compares directory names; our library does not, so they fail"
NO_URIS = "accepts: it compares hosts of URIs; our library does not, so they fail"

dns, uri, mail = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name


def address(text: str) -> x509.IPAddress:
    return x509.IPAddress(ip_network(text) if "/" in text else ip_address(text))


def held(
    *alternatives: x509.GeneralName,
    permitted: list[x509.GeneralName] | None = None,
    excluded: list[x509.GeneralName] | None = None,
    **spoilt: Any,
) -> Presented:
    """A leaf with these names beneath a CA with these constraints."""
    extra = [names(*alternatives)] if alternatives else []
    return under_root(leaf(extra=extra, **spoilt), ca(extra=[constraints(permitted, excluded)]))


def oddly(subtrees: bytes, *alternatives: x509.GeneralName) -> Presented:
    """A leaf with these names beneath a CA whose constraints are written by hand."""
    extra = [names(*alternatives)] if alternatives else []
    written = raw_extension(NAME_CONSTRAINTS, sequence(subtrees), critical=True)
    return under_root(leaf(extra=extra), ca(extra=[written]))


def permitted_subtree(*parts: bytes) -> bytes:
    return element(0xA0, sequence(*parts))


@accepted()
def host_beneath_the_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: labels may be added to the left."""
    return held(dns("a.b.fleet.example"), permitted=[dns(FLEET)])


@accepted()
def host_that_is_the_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: none need be added."""
    return held(dns(FLEET), permitted=[dns(FLEET)])


@accepted()
def host_in_another_case() -> Presented:
    """RFC 5280 §7.2: host names compare without case."""
    return held(dns("A.FLEET.example"), permitted=[dns("fleet.EXAMPLE")])


@accepted()
def host_of_the_second_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: one of the permitted is enough."""
    return held(dns("a.fleet.example"), permitted=[dns("depot.example"), dns(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def host_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): not within what is permitted."""
    return held(dns("bank.example"), permitted=[dns(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def host_that_only_ends_alike() -> Presented:
    """RFC 5280 §4.2.1.10: whole labels are added, not letters."""
    return held(dns("notfleet.example"), permitted=[dns(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def one_host_of_two_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): each of the names has to be within."""
    return held(dns("a.fleet.example"), dns("bank.example"), permitted=[dns(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def host_excluded() -> Presented:
    """RFC 5280 §6.1.3 (c): within what is excluded."""
    return held(dns("a.bank.example"), excluded=[dns("bank.example")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def host_excluded_within_the_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: exclusion wins."""
    return held(dns("a.b.fleet.example"), permitted=[dns(FLEET)], excluded=[dns("b.fleet.example")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def every_host_excluded() -> Presented:
    """RFC 5280 §4.2.1.10: every host is within the empty name."""
    return held(dns("a.fleet.example"), excluded=[dns("")])


@refused(
    ChainRefusal.NAME_CONSTRAINT,
    openssl="accepts: a dot in front, which is for URIs, is fine to it",
)
def host_beneath_a_dot() -> Presented:
    """RFC 5280 §4.2.1.10: a constraint on hosts begins with no dot."""
    return held(dns("a.fleet.example"), permitted=[dns(".fleet.example")])


@accepted()
def wildcard_beneath_the_permitted() -> Presented:
    """RFC 6125 §6.4.3: every host that it stands for is within."""
    return held(dns("*.fleet.example"), permitted=[dns(FLEET)])


@refused(
    ChainRefusal.NAME_CONSTRAINT,
    openssl="accepts: it compares the wildcard as it is written",
)
def wildcard_that_covers_the_excluded() -> Presented:
    """RFC 6125 §6.4.3: one of the hosts that it stands for is excluded."""
    return held(dns("*.fleet.example"), excluded=[dns("a.fleet.example")])


@refused(ChainRefusal.NAME_CONSTRAINT, openssl="accepts: it compares endings of anything")
def host_that_is_none() -> Presented:
    """RFC 5280 §4.2.1.6: an empty label; what cannot be compared is not within."""
    return held(dns("a..fleet.example"), permitted=[dns(FLEET)])


@accepted()
def hosts_constrained_and_none_named() -> Presented:
    """RFC 5280 §4.2.1.10: without a name of that form the constraint says nothing."""
    return held(permitted=[dns(FLEET)])


@accepted(openssl=HOST_NAMES_IN_CN)
def host_permitted_and_another_as_common_name() -> Presented:
    """RFC 5280 §4.2.1.10: constraints on hosts are on the SAN; here common names are device ids."""
    return held(permitted=[dns(FLEET)], subject="bank.example")


@accepted(openssl=HOST_NAMES_IN_CN)
def host_excluded_and_the_same_as_common_name() -> Presented:
    """RFC 5280 §4.2.1.10: nor does an exclusion of hosts exclude a device id."""
    return held(excluded=[dns("bank.example")], subject="bank.example")


@accepted()
def mail_at_the_permitted_host() -> Presented:
    """RFC 5280 §4.2.1.10: all mailboxes of a host."""
    return held(mail("a@fleet.example"), permitted=[mail(FLEET)])


@accepted()
def mail_in_the_permitted_domain() -> Presented:
    """RFC 5280 §4.2.1.10: all hosts beneath a dot."""
    return held(mail("a@x.fleet.example"), permitted=[mail(".fleet.example")])


@accepted()
def mail_that_is_the_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: one mailbox."""
    return held(mail("a@fleet.example"), permitted=[mail("a@fleet.example")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def mail_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): another host."""
    return held(mail("a@bank.example"), permitted=[mail(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def mail_excluded() -> Presented:
    """RFC 5280 §6.1.3 (c): an excluded host."""
    return held(mail("a@bank.example"), excluded=[mail("bank.example")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def mail_in_the_subject_elsewhere() -> Presented:
    """RFC 5280 §4.2.1.10: emailAddress in the subject is under the constraint too."""
    return held(permitted=[mail(FLEET)], subject=WITH_MAIL)


@refused(ChainRefusal.NAME_CONSTRAINT)
def mail_in_the_subject_excluded() -> Presented:
    """RFC 5280 §4.2.1.10: so under an exclusion."""
    return held(excluded=[mail("bank.example")], subject=WITH_MAIL)


@refused(
    ChainRefusal.NAME_CONSTRAINT,
    openssl="accepts: it compares the address; our library does not, so it fails",
)
def mail_in_the_subject_within() -> Presented:
    """RFC 5280 §4.2.1.10: within, and refused, for nobody compares it here."""
    return held(permitted=[mail("bank.example")], subject=WITH_MAIL)


@refused(ChainRefusal.NAME_CONSTRAINT)
def mail_in_the_subject_of_a_ca() -> Presented:
    """RFC 5280 §6.1.3 (b): intermediates are under the constraints of those above."""
    lower = name((NameOID.COMMON_NAME, "lower"), (NameOID.EMAIL_ADDRESS, "ca@bank.example"))
    return under_root(
        leaf(issuer=lower, signer=key("lower")),
        ca(lower, "upper", own_key=key("lower")),
        ca("upper", extra=[constraints([mail(FLEET)])]),
    )


@accepted()
def mail_in_the_subject_and_hosts_constrained() -> Presented:
    """RFC 5280 §4.2.1.10: constraints of another form say nothing of mail."""
    return held(permitted=[dns(FLEET)], subject=WITH_MAIL)


@accepted()
def address_within() -> Presented:
    """RFC 5280 §4.2.1.10: an address in the permitted network."""
    return held(address("10.1.1.1"), permitted=[address("10.0.0.0/8")])


@accepted()
def address_of_version_6_within() -> Presented:
    """RFC 5280 §4.2.1.10: so with IPv6."""
    return held(address("fd00::1"), permitted=[address("fd00::/8")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def address_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): an address of another network."""
    return held(address("11.1.1.1"), permitted=[address("10.0.0.0/8")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def address_excluded() -> Presented:
    """RFC 5280 §6.1.3 (c): an address of an excluded network."""
    return held(address("10.1.1.1"), excluded=[address("10.0.0.0/8")])


@refused(ChainRefusal.NAME_CONSTRAINT)
def address_of_version_6_where_version_4_is_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: both are of the form iPAddress, so the one permitted network binds."""
    return held(address("fd00::1"), permitted=[address("10.0.0.0/8")])


@accepted()
def address_of_version_6_where_version_4_is_excluded() -> Presented:
    """RFC 5280 §4.2.1.10: it is not within the network that is excluded."""
    return held(address("fd00::1"), excluded=[address("10.0.0.0/8")])


@refused(ChainRefusal.MALFORMED)
def network_with_a_torn_mask() -> Presented:
    """RFC 4632 §3.1: a mask of 255.0.255.0 is no prefix."""
    torn = permitted_subtree(element(0x87, bytes([10, 0, 0, 0, 255, 0, 255, 0])))
    return oddly(torn, address("10.1.1.1"))


@refused(ChainRefusal.MALFORMED)
def network_of_five_octets() -> Presented:
    """RFC 5280 §4.2.1.10: eight octets or thirty-two."""
    return oddly(permitted_subtree(element(0x87, bytes(5))), address("10.1.1.1"))


@refused(ChainRefusal.NAME_CONSTRAINT, openssl=NO_URIS)
def uri_of_the_permitted_host() -> Presented:
    """RFC 5280 §4.2.1.10: within, and refused, for our library compares no URIs."""
    return held(uri("https://fleet.example/"), permitted=[uri(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def uri_of_another_host() -> Presented:
    """RFC 5280 §6.1.3 (b): not within what is permitted."""
    return held(uri("https://bank.example/"), permitted=[uri(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT)
def uri_without_a_host() -> Presented:
    """RFC 5280 §4.2.1.10: a URI without authority must be refused, our own generations too."""
    return held(uri(URN), excluded=[uri(FLEET)])


@accepted()
def uris_constrained_and_none_named() -> Presented:
    """RFC 5280 §4.2.1.10: without a URI the constraint says nothing."""
    return held(dns("a.fleet.example"), permitted=[uri(FLEET)])


@refused(ChainRefusal.NAME_CONSTRAINT, openssl=NO_DIRECTORY_NAMES)
def subject_that_is_the_permitted() -> Presented:
    """RFC 5280 §4.2.1.10: within, and refused: our library does not apply these to subjects."""
    return held(permitted=[x509.DirectoryName(common_name("device-1"))])


@refused(ChainRefusal.NAME_CONSTRAINT)
def subject_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): a subject outside the permitted directory name."""
    return held(permitted=[x509.DirectoryName(common_name("device-2"))])


@refused(ChainRefusal.NAME_CONSTRAINT)
def subject_excluded() -> Presented:
    """RFC 5280 §6.1.3 (c): the subject is the excluded directory name."""
    return held(excluded=[x509.DirectoryName(common_name("device-1"))])


@refused(ChainRefusal.NAME_CONSTRAINT, openssl=NO_DIRECTORY_NAMES)
def subject_that_is_not_the_excluded() -> Presented:
    """RFC 5280 §4.2.1.10: nor is an exclusion of directory names ever taken as kept."""
    return held(excluded=[x509.DirectoryName(common_name("device-2"))])


@accepted()
def odd_form_constrained_and_none_named() -> Presented:
    """RFC 5280 §4.2.1.10: a form that we do not compare matters only where it occurs."""
    return held(permitted=[x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))])


@refused(ChainRefusal.NAME_CONSTRAINT)
def odd_form_constrained_and_named() -> Presented:
    """RFC 5280 §4.2.1.10: where it occurs, the certificate is refused."""
    form = x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))
    return held(form, permitted=[form])


@refused(ChainRefusal.NAME_CONSTRAINT, openssl="accepts: it compares otherNames of other types")
def other_name_where_another_is_excluded() -> Presented:
    """RFC 5280 §4.2.1.10: the form is compared by nobody here, whatever type is inside."""
    other = [x509.OtherName(x509.ObjectIdentifier(f"1.2.{arc}"), NULL) for arc in (3, 4)]
    return held(other[0], excluded=[other[1]])


@refused(ChainRefusal.MALFORMED, openssl="accepts: it skips constraints where no name has the form")
def constraint_of_an_x400_address() -> Presented:
    """RFC 5280 §4.2.1.6: a form that the library cannot read is not understood."""
    return oddly(permitted_subtree(element(0xA3, b"")))


@refused(ChainRefusal.NAME_CONSTRAINT)
def subtree_with_a_maximum() -> Presented:
    """RFC 5280 §4.2.1.10: maximum must be absent, and what has one processed or refused."""
    subtree = permitted_subtree(element(0x82, FLEET.encode()), element(0x81, b"\x00"))
    return oddly(subtree, dns("a.fleet.example"))


@refused(ChainRefusal.NAME_CONSTRAINT)
def subtree_with_a_minimum() -> Presented:
    """RFC 5280 §4.2.1.10: minimum must be zero."""
    subtree = permitted_subtree(element(0x82, FLEET.encode()), element(0x80, b"\x01"))
    return oddly(subtree, dns("a.fleet.example"))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it reads a default that is written out")
def subtree_with_a_minimum_of_zero_written_out() -> Presented:
    """X.690 §11.5: in DER, a default is left out."""
    subtree = permitted_subtree(element(0x82, FLEET.encode()), element(0x80, b"\x00"))
    return oddly(subtree, dns("a.fleet.example"))


@refused(ChainRefusal.MALFORMED, openssl="accepts: nothing is constrained")
def constraints_of_nothing() -> Presented:
    """RFC 5280 §4.2.1.10: one of permitted and excluded must be there."""
    return oddly(b"")


@refused(ChainRefusal.NAME_CONSTRAINT)
def constraints_not_critical() -> Presented:
    """RFC 5280 §4.2.1.10: they must be critical, and bind if they are not."""
    loose = constraints([dns(FLEET)], critical=False)
    return under_root(leaf(extra=[names(dns("bank.example"))]), ca(extra=[loose]))


@refused(ChainRefusal.NAME_CONSTRAINT)
def constraints_of_the_anchor() -> Presented:
    """RFC 5280 §6.1.1: what an anchor's certificate constrains binds here."""
    anchor = root(extra=[constraints([dns(FLEET)])])
    return presented(leaf(extra=[names(dns("bank.example"))]), ca(), anchors=(anchor,))


@refused(ChainRefusal.NAME_CONSTRAINT)
def constraints_of_two_cas_without_a_name_in_common() -> Presented:
    """RFC 5280 §6.1.4 (g): the name has to be within what each CA permits."""
    anchor = root(extra=[constraints([dns("depot.example")])])
    issuing = ca(extra=[constraints([dns(FLEET)])])
    return presented(leaf(extra=[names(dns("a.fleet.example"))]), issuing, anchors=(anchor,))


@refused(ChainRefusal.NAME_CONSTRAINT)
def host_of_a_ca_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): the names of intermediates are constrained."""
    anchor = root(extra=[constraints([dns(FLEET)])])
    return presented(leaf(), ca(extra=[names(dns("bank.example"))]), anchors=(anchor,))


@accepted()
def host_of_a_self_issued_ca_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): those of a self-issued intermediate are not."""
    anchor = root(extra=[constraints([dns(FLEET)])])
    renewed = ca("root", "root", own_key=key("new"), extra=[names(dns("bank.example"))])
    return presented(leaf(issuer="root", signer=key("new")), renewed, anchors=(anchor,))


@refused(ChainRefusal.NAME_CONSTRAINT)
def host_of_a_self_issued_leaf_elsewhere() -> Presented:
    """RFC 5280 §6.1.3 (b): a leaf's are, self-issued or not."""
    anchor = root(extra=[constraints([dns(FLEET)])])
    device = leaf("root", "root", own_key=key("d"), extra=[names(dns("bank.example"))])
    return presented(device, anchors=(anchor,))


@accepted()
def constraints_of_a_leaf() -> Presented:
    """RFC 5280 §4.2.1.10: they are for CAs; beneath a leaf there is nothing to constrain."""
    return under_root(leaf(extra=[constraints([dns(FLEET)])]), ca())
