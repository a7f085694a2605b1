"""What happens while a token is away, and when it is back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleetroot.custody import Custody, RecordName, TokenAway, TokenState, sign_with
from fleetroot.custody.cryptoki import Module
from fleetroot.pki import KeyType, PrivateKey
from softhsm import Daemon, SoftHsm, needs_daemon, needs_softhsm

pytestmark = needs_softhsm

Open = Callable[..., Custody]
NAME = RecordName("authority-key", "default", "issuing-1", 1)
ECDSA = ec.ECDSA(hashes.SHA256())


def key_of(custody: Custody) -> ec.EllipticCurvePrivateKey:
    made = custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    return signing(custody.load(NAME, made.sealed))


def signing(key: PrivateKey) -> ec.EllipticCurvePrivateKey:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def signs(key: ec.EllipticCurvePrivateKey) -> bool:
    key.public_key().verify(key.sign(b"data", ECDSA), b"data", ECDSA)
    return True


def test_a_token_that_was_taken_away_is_unavailable(hsm: SoftHsm, open_custody: Open) -> None:
    key = key_of(open_custody(hsm.config()))
    hsm.take_away()
    with pytest.raises(TokenAway) as refused:
        signs(key)
    assert refused.value.reason.startswith("token is away: hsm, CKR_")
    assert refused.value.code.status == 503
    assert "hsm" not in refused.value.message  # what a peer is told


def test_the_same_key_signs_when_its_token_is_back(hsm: SoftHsm, open_custody: Open) -> None:
    key = key_of(open_custody(hsm.config()))
    hsm.take_away()
    with pytest.raises(TokenAway):
        signs(key)
    hsm.put_back()
    assert signs(key)


def test_it_is_told_once_that_a_token_is_away_and_once_that_it_is_back(
    hsm: SoftHsm, open_custody: Open, states: list[TokenState]
) -> None:
    key = key_of(open_custody(hsm.config()))
    hsm.take_away()
    for _ in range(3):
        with pytest.raises(TokenAway):
            signs(key)
    [away] = states
    assert away.away is not None
    hsm.put_back()
    assert signs(key)
    assert signs(key)
    assert states == [away, TokenState("hsm", None)]


def test_a_token_that_is_away_is_not_asked_again_before_its_time(
    hsm: SoftHsm, open_custody: Open
) -> None:
    key = key_of(open_custody(hsm.config(retry_seconds=3600.0)))
    hsm.take_away()
    with pytest.raises(TokenAway):
        signs(key)
    hsm.put_back()
    with pytest.raises(TokenAway):
        signs(key)


def test_it_is_found_to_be_back_without_anybody_signing(
    hsm: SoftHsm, open_custody: Open, states: list[TokenState]
) -> None:
    custody = open_custody(hsm.config())
    key_of(custody)
    hsm.take_away()
    custody.look()
    custody.look()
    hsm.put_back()
    custody.look()
    assert [state.away is None for state in states] == [False, True]
    assert custody.states() == [TokenState("hsm", None)]


def test_a_token_that_is_away_at_the_start_signs_when_it_comes(
    hsm: SoftHsm, open_custody: Open
) -> None:
    first = open_custody(hsm.config())
    made = first.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    first.close()
    hsm.take_away()
    key = signing(open_custody(hsm.config()).load(NAME, made.sealed))
    with pytest.raises(TokenAway):
        signs(key)
    hsm.put_back()
    assert signs(key)


def test_every_thread_signs_again(hsm: SoftHsm, open_custody: Open) -> None:
    """Each has a session of before, and a handle of the key in it."""
    key = key_of(open_custody(hsm.config(threads=4)))
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: signs(key), range(64)))
        hsm.take_away()
        with pytest.raises(TokenAway):
            signs(key)
        hsm.put_back()
        assert all(threads.map(lambda _: signs(key), range(64)))


def test_other_tokens_of_the_module_go_on(hsm: SoftHsm, open_custody: Open) -> None:
    """Initialising the module anew ends the sessions of all its tokens."""
    hsm.add("second")
    custody = open_custody(hsm.config(), hsm.config(name="other", label="second"))
    key = key_of(custody)
    other = RecordName("authority-key", "default", "other", 1)
    made = custody.generate(KeyType.EC_P256, other, keep_in="other")
    theirs = signing(custody.load(other, made.sealed))
    hsm.take_away()
    with pytest.raises(TokenAway):
        signs(key)
    hsm.put_back()
    assert signs(theirs)
    assert signs(key)


def test_a_refused_pin_is_tried_once(
    hsm: SoftHsm, open_custody: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token locks itself after a few."""
    tried: list[str] = []
    login = Module.login

    def counted(self: Module, session: int, pin: str) -> None:
        tried.append(pin)
        login(self, session, pin)

    monkeypatch.setattr(Module, "login", counted)
    custody = open_custody(hsm.config(pin="not it", threads=4))

    def ask(_: int) -> str:
        with pytest.raises(TokenAway) as refused:
            custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
        return refused.value.reason

    with ThreadPoolExecutor(8) as threads:
        reasons = list(threads.map(ask, range(16)))
    assert all("CKR_PIN_INCORRECT" in reason for reason in reasons)
    assert tried == ["not it"]


@needs_daemon
def test_signing_goes_on_after_the_daemon_was_restarted(daemon: Daemon, open_custody: Open) -> None:
    key = key_of(open_custody(daemon.config()))
    daemon.kill()
    with pytest.raises(TokenAway):
        signs(key)
    daemon.start()
    assert signs(key)


@needs_daemon
def test_nobody_notices_a_daemon_that_was_restarted_between_two_signatures(
    daemon: Daemon, open_custody: Open, states: list[TokenState]
) -> None:
    key = key_of(open_custody(daemon.config()))
    daemon.kill()
    daemon.start()
    assert signs(key)
    assert states == []


@needs_daemon
async def test_a_token_that_hangs_does_not_hold_up_the_loop(
    daemon: Daemon, open_custody: Open
) -> None:
    key = key_of(open_custody(daemon.config(timeout=1.0)))
    daemon.hang()
    asking = asyncio.create_task(sign_with(key, lambda: signs(key)))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10
    with pytest.raises(TokenAway) as refused:
        asking.result()
    assert refused.value.reason == "token is away: hsm, no answer within 1 seconds"
    daemon.go_on()


@needs_daemon
async def test_a_token_that_hung_signs_when_it_goes_on(daemon: Daemon, open_custody: Open) -> None:
    key = key_of(open_custody(daemon.config(timeout=1.0)))
    daemon.hang()
    with pytest.raises(TokenAway):
        await sign_with(key, lambda: signs(key))
    daemon.go_on()
    async with asyncio.timeout(60):
        while True:
            try:
                assert await sign_with(key, lambda: signs(key))
                break
            except TokenAway:
                await asyncio.sleep(0)


@needs_daemon
def test_a_custody_is_closed_while_its_token_hangs(daemon: Daemon, open_custody: Open) -> None:
    custody = open_custody(daemon.config(timeout=0.5))
    key = key_of(custody)
    daemon.hang()
    with pytest.raises(TokenAway):
        signs(key)
    closing = threading.Thread(target=custody.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
