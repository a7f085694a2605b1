"""Every case of the corpus: our verdict to the reason, and OpenSSL's beside it.

OpenSSL is the one in the process, the one that the gateway's handshakes run on: purpose TLS client,
partial chains (an anchor need not be a root), the case's time, nothing stricter. Where it decides
otherwise than we do, the case says so and why; where it does not, the case must not say so.
"""

from __future__ import annotations

import re

import limbo_anchors
import limbo_bounds
import limbo_constraints
import limbo_encoding
import limbo_extensions
import limbo_identifiers
import limbo_issuers
import limbo_keys
import limbo_names
import limbo_paths
import limbo_purposes
import limbo_signatures
import limbo_validity
import pytest
from limbo_case import CASES, UNSAID, Case, Presented
from OpenSSL import crypto
from OpenSSL._util import lib as openssl_library
from pki_workshop import NOW

from fleetroot.pki import (
    Anchors,
    ChainRefusal,
    ChainRefused,
    VerifiedChain,
    common_name_of,
    load_chain,
    to_der,
    verify_chain,
)

TOPICS = (
    limbo_anchors,
    limbo_bounds,
    limbo_constraints,
    limbo_encoding,
    limbo_extensions,
    limbo_identifiers,
    limbo_issuers,
    limbo_keys,
    limbo_names,
    limbo_paths,
    limbo_purposes,
    limbo_signatures,
    limbo_validity,
)

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def verdict(given: Presented) -> VerifiedChain | ChainRefusal:
    anchors = Anchors(load_chain([der])[0] for der in given.anchors)
    try:
        return verify_chain(load_chain(given.chain), anchors, given.at)
    except ChainRefused as refusal:
        return refusal.reason


@every_case
def test_verdict(case: Case) -> None:
    given = case.build()
    found = verdict(given)
    if case.refused is not None:
        assert found is case.refused, case.says
        return
    assert isinstance(found, VerifiedChain), (found, case.says)
    path = tuple(map(to_der, found.path))
    assert path[0] == given.chain[0]
    assert path[-1] in given.anchors
    assert given.path is None or path == given.path
    assert case.common_name is UNSAID or common_name_of(found.leaf) == case.common_name


def openssl_accepts(given: Presented) -> bool:
    try:
        store = crypto.X509Store()
        for anchor in given.anchors:
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, anchor))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        store.set_time(given.at)
        assert openssl_library.X509_STORE_set_purpose(
            store._store, openssl_library.X509_PURPOSE_SSL_CLIENT
        )
        leaf, *others = [
            crypto.load_certificate(crypto.FILETYPE_ASN1, each) for each in given.chain
        ]
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except (crypto.Error, crypto.X509StoreContextError, ValueError):
        return False
    return True


@every_case
def test_openssl_agrees_or_the_case_says_why_not(case: Case) -> None:
    theirs = "accepts" if openssl_accepts(case.build()) else "refuses"
    ours = "accepts" if case.refused is None else "refuses"
    assert case.openssl.partition(":")[0] == ("" if theirs == ours else theirs)


class TestCorpus:
    def test_it_has_over_a_hundred_cases_of_different_names(self) -> None:
        assert len({case.name for case in CASES}) == len(CASES) > 100

    def test_every_topic_has_cases(self) -> None:
        topics = {module.__name__.removeprefix("limbo_") for module in TOPICS}
        assert {case.topic for case in CASES} == topics

    def test_every_case_says_in_a_sentence_which_rule_it_is_about(self) -> None:
        source = re.compile(
            r"(RFC \d+ (§[A-Z\d]|appendix)|X\.690 §|[Oo]ur rule|docs/).*\.$", re.DOTALL
        )
        assert [case.name for case in CASES if not source.search(case.says)] == []

    def test_a_deviation_says_why(self) -> None:
        assert all(len(case.openssl.partition(": ")[2]) > 10 for case in CASES if case.openssl)

    def test_every_reason_that_a_chain_can_have_occurs(self) -> None:
        # INVALID is for what nobody thought of: a case that gets it shows a missing reason.
        expected = set(ChainRefusal) - {ChainRefusal.INVALID}
        assert {case.refused for case in CASES} - {None} == expected


def test_a_hundred_certificates_cost_no_signature_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object) -> None:
        raise AssertionError("a signature was checked")

    given = limbo_bounds.a_hundred_certificates()
    monkeypatch.setattr("fleetroot.pki.chain.is_signed_by", check)
    monkeypatch.setattr("fleetroot.pki.chain._path", check)
    for chain in (given.chain, given.chain[:7]):
        assert verdict(Presented(chain, given.anchors, NOW)) is ChainRefusal.TOO_MANY_CERTIFICATES
    leaf, *others = [load_chain([der])[0] for der in given.chain]
    with pytest.raises(ChainRefused, match="more than"):
        verify_chain([leaf, *others], Anchors(load_chain(given.anchors)), NOW)
