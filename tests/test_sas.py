"""Shared access signatures: what signs, what parses, what a token reaches."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from itertools import permutations
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot import sas
from fleetroot.errors import InvalidArgument, TokenInvalid
from fleetroot.sas import SasToken

KEY = b"0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
RESOURCE = "0ne0000ABCD/registrations/dev-1"

moments = st.integers(min_value=1, max_value=253_370_000_000).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)


def signature_of(sr: str, se: str) -> str:
    return base64.b64encode(hmac.digest(KEY, f"{sr}\n{se}".encode(), hashlib.sha256)).decode()


@given(resource=st.text(min_size=1, max_size=200), at=moments, key=st.binary(min_size=1))
def test_what_is_signed_parses_to_the_same(resource: str, at: datetime, key: bytes) -> None:
    token = SasToken.parse(sas.sign_token(resource, key, at))
    assert token.resource == resource
    assert token.expires_at == at
    assert token.is_signed_by(key)


@given(name=st.text(min_size=1, max_size=50))
def test_a_key_name_survives_the_round_trip(name: str) -> None:
    assert SasToken.parse(sas.sign_token(RESOURCE, KEY, NOW, name)).key_name == name


@given(st.text(max_size=300))
def test_arbitrary_text_is_a_token_or_is_refused_as_one(text: str) -> None:
    for candidate in (text, f"SharedAccessSignature {text}"):
        try:
            SasToken.parse(candidate)
        except TokenInvalid:
            continue


@given(sr=st.text(max_size=60), sig=st.text(max_size=60), se=st.text(max_size=15))
def test_arbitrary_field_values_are_a_token_or_are_refused_as_one(
    sr: str, sig: str, se: str
) -> None:
    try:
        token = SasToken.parse(f"SharedAccessSignature sr={sr}&sig={sig}&se={se}")
    except TokenInvalid:
        return
    assert token.expires_at.tzinfo is UTC


@st.composite
def spellings(draw: st.DrawFn, text: str) -> str:
    """`text` percent-encoded as any client may: what must be, and any of the rest, in any case."""
    written = ""
    for character in text:
        if character in "&=% " or not character.isascii() or draw(st.booleans()):
            escapes = "".join(f"%{octet:02X}" for octet in character.encode())
            written += escapes.lower() if draw(st.booleans()) else escapes
        else:
            written += character
    return written


@given(
    resource=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
        lambda text: text.isprintable()
    ),
    key_name=st.none() | st.text("ab/+=&", min_size=1),
    at=moments,
    data=st.data(),
)
def test_a_token_is_the_same_however_it_is_spelt(
    resource: str, key_name: str | None, at: datetime, data: st.DataObject
) -> None:
    sr, se = data.draw(spellings(resource)), str(int(at.timestamp()))
    fields = [f"sr={sr}", f"se={se}", f"sig={data.draw(spellings(signature_of(sr, se)))}"]
    if key_name is not None:
        fields.append(f"skn={data.draw(spellings(key_name))}")
    token = SasToken.parse("SharedAccessSignature " + "&".join(data.draw(st.permutations(fields))))
    assert token.is_signed_by(KEY)
    assert (token.resource, token.key_name, token.expires_at) == (resource, key_name, at)


@given(place=st.integers(0, 199), character=st.characters(codec="ascii"))
def test_a_token_changed_anywhere_is_refused_or_means_the_same(place: int, character: str) -> None:
    whole = sas.sign_token(RESOURCE, KEY, NOW)
    place %= len(whole)
    try:
        changed = SasToken.parse(whole[:place] + character + whole[place + 1 :])
    except TokenInvalid:
        return
    if changed.is_signed_by(KEY):
        assert changed == SasToken.parse(whole)


@pytest.mark.parametrize("order", list(permutations(["sr", "sig", "se", "skn"])))
def test_fields_may_come_in_any_order(order: tuple[str, ...]) -> None:
    sr, se = quote(RESOURCE, safe=""), "1800000000"
    fields = {
        "sr": sr,
        "sig": quote(signature_of(sr, se), safe=""),
        "se": se,
        "skn": "registration",
    }
    token = SasToken.parse("SharedAccessSignature " + "&".join(f"{k}={fields[k]}" for k in order))
    assert token.is_signed_by(KEY)
    assert token.key_name == "registration"


@pytest.mark.parametrize(
    "sr", [RESOURCE, quote(RESOURCE, safe=""), quote(RESOURCE, safe="").replace("%2F", "%2f")]
)
def test_the_signature_is_over_the_resource_as_it_was_sent(sr: str) -> None:
    token = SasToken.parse(
        f"SharedAccessSignature sr={sr}&sig={quote(signature_of(sr, '1800000000'), safe='')}"
        "&se=1800000000"
    )
    assert token.is_signed_by(KEY)
    assert token.resource == RESOURCE


def test_a_signature_may_hold_raw_slashes_and_pluses() -> None:
    for se in range(1_800_000_000, 1_800_000_100):
        raw = signature_of("r", str(se))
        if "/" in raw and "+" in raw:
            break
    assert SasToken.parse(f"SharedAccessSignature sr=r&sig={raw}&se={se}").is_signed_by(KEY)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "sr=a&sig=YQ==&se=1",
        "sharedaccesssignature sr=a&sig=YQ==&se=1",
        "SharedAccessSignature ",
        "SharedAccessSignature sr=a&se=1",
        "SharedAccessSignature sig=YQ==&se=1",
        "SharedAccessSignature sr=a&sig=YQ==",
        "SharedAccessSignature sr=a&sr=b&sig=YQ==&se=1",
        "SharedAccessSignature sr=a&sig=YQ==&se=1&x=2",
        "SharedAccessSignature sr=a&sig=?&se=1",
        "SharedAccessSignature sr=a b&sig=YQ==&se=1",
        "SharedAccessSignature sr=\u00e9&sig=YQ==&se=1",
        "SharedAccessSignature sr=\ud800&sig=YQ==&se=1",
        "SharedAccessSignature se=1&sig=YQ==&sr=a\x1f",
        "SharedAccessSignature sr=a&sig=YQ==&se=",
        "SharedAccessSignature sr=a&sig=YQ==&se=-1",
        "SharedAccessSignature sr=a&sig=YQ==&se=1e9",
        "SharedAccessSignature sr=a&sig=YQ==&se=\u0661",
        "SharedAccessSignature sr=a&sig=YQ==&se=" + "9" * 13,
        "SharedAccessSignature sr=" + "a" * 4096 + "&sig=YQ==&se=1",
    ],
)
def test_what_is_not_of_the_form_is_refused(token: str) -> None:
    with pytest.raises(TokenInvalid):
        SasToken.parse(token)


def test_an_expiry_beyond_the_calendar_is_the_end_of_the_calendar() -> None:
    token = SasToken.parse("SharedAccessSignature sr=a&sig=YQ==&se=999999999999")
    assert token.expires_at.year == 9999


@pytest.mark.parametrize(("left", "good"), [(1, True), (0, False), (-1, False)])
def test_a_token_ends_at_its_expiry(left: int, good: bool) -> None:
    token = SasToken.parse(sas.sign_token(RESOURCE, KEY, NOW + timedelta(seconds=left)))
    if good:
        token.check_not_expired(NOW)
        return
    with pytest.raises(TokenInvalid):
        token.check_not_expired(NOW)


@given(st.binary(min_size=16, max_size=64).filter(lambda key: key != KEY))
def test_another_key_did_not_sign(key: bytes) -> None:
    assert not SasToken.parse(sas.sign_token(RESOURCE, KEY, NOW)).is_signed_by(key)


def test_a_token_shows_no_signature_in_its_repr() -> None:
    token = SasToken.parse(sas.sign_token(RESOURCE, KEY, NOW))
    assert repr(token.signature) not in repr(token)


@pytest.mark.parametrize(
    ("granted", "wanted", "reaches"),
    [
        ("hub", "hub", True),
        ("HUB", "hub", True),
        ("hub/", "hub/devices/d", True),
        ("hub", "hub/devices/d", True),
        ("hub/devices", "hub/devices/d", True),
        ("hub/dev", "hub/devices/d", False),
        ("hub/devices/d", "hub/devices", False),
        ("hub2", "hub", False),
        ("", "hub", False),
        ("/", "hub", False),
        ("hub/devices/\u212a", "hub/devices/k", False),  # the Kelvin sign
    ],
)
def test_a_token_reaches_its_resource_and_what_is_below(
    granted: str, wanted: str, reaches: bool
) -> None:
    assert sas.covers(granted, wanted) is reaches


segments = st.lists(st.sampled_from(["a", "B", "ab", "\u212a", ""]), min_size=1, max_size=4)


@given(segments, segments)
def test_what_a_token_reaches_is_decided_segment_by_segment(
    granted: list[str], wanted: list[str]
) -> None:
    def lowered(levels: list[str]) -> list[bytes]:
        return [level.encode().lower() for level in levels]

    kept = lowered(granted)
    while kept and not kept[-1]:
        kept.pop()
    expected = bool(kept) and lowered(wanted)[: len(kept)] == kept
    assert sas.covers("/".join(granted), "/".join(wanted)) is expected


def test_a_device_key_is_the_documented_hmac() -> None:
    group_key = base64.b64decode(
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    )
    expected = hmac.new(group_key, b"sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6", hashlib.sha256)
    derived = sas.derive_device_key(group_key, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")
    assert derived == expected.digest()
    assert sas.encode_key(derived) == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="


@given(st.binary(min_size=16, max_size=64))
def test_a_key_survives_the_wire(key: bytes) -> None:
    assert sas.decode_key(sas.encode_key(key)) == key


@pytest.mark.parametrize("size", [0, 15, 65, 100_000])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument):
        sas.decode_key(base64.b64encode(b"k" * size).decode())


@given(st.text(max_size=200))
def test_arbitrary_text_is_a_key_or_is_refused(text: str) -> None:
    try:
        assert 16 <= len(sas.decode_key(text)) <= 64
    except InvalidArgument:
        return
