"""Signing in a PKCS#11 token through our custody, beside the bare module (SoftHSM)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import CURVES, HASHES
from bench.measure import Row, Scale, rate, ratio, take_turns
from fleetroot.custody import (
    Custody,
    MasterKey,
    MasterKeyKind,
    MasterKeySource,
    RecordName,
    Sealer,
    Token,
    TokenConfig,
    sign_with,
)
from fleetroot.custody.cryptoki import Mechanism
from fleetroot.custody.session import Session
from fleetroot.custody.token_keys import key_id
from fleetroot.pki import KeyType

MODULE: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
_AT_ONCE: Final = 32
_DATA: Final = bytes(700)  # about what a leaf's certificate signs
_TYPES: Final = {"P-384": KeyType.EC_P384, "P-256": KeyType.EC_P256}


def rows(scale: Scale) -> list[Row]:
    """One row for each curve; none without SoftHSM."""
    if not MODULE.exists() or shutil.which("softhsm2-util") is None:
        return [Row("signatures in a PKCS#11 token", "not measured", "softhsm2: not installed")]
    with _token() as token, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        master = MasterKey(bytes(32), MasterKeySource(MasterKeyKind.ENVIRONMENT))
        custody = Custody(Sealer(master), [token])
        return [_row(runner, custody, token, scale, curve) for curve in scale.curves]


def _row(runner: asyncio.Runner, custody: Custody, token: Token, scale: Scale, curve: str) -> Row:
    name = RecordName("bench", "", curve, 1)
    made = custody.generate(_TYPES[curve], name, keep_in=token.name)
    key = custody.load(name, made.sealed)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    digest = HASHES[CURVES[curve].name]
    algorithm = ec.ECDSA(digest)

    def bare() -> float:
        def sign(session: Session) -> float:
            [handle] = session.private_keys(key_id(name))
            start = time.process_time()
            for _ in range(scale.batch):
                hasher = hashes.Hash(digest)
                hasher.update(_DATA)
                session.module.sign(session.handle, handle, Mechanism.ECDSA, hasher.finalize())
            return time.process_time() - start

        return token.use(sign) / scale.batch

    async def some(times: int) -> None:
        await asyncio.gather(
            *(sign_with(key, lambda: key.sign(_DATA, algorithm)) for _ in range(times))
        )

    def ours() -> float:
        start = time.process_time()
        for _ in range(max(scale.batch // _AT_ONCE, 1)):
            runner.run(some(min(_AT_ONCE, scale.batch)))
        done = max(scale.batch // _AT_ONCE, 1) * min(_AT_ONCE, scale.batch)
        return (time.process_time() - start) / done

    bottom, used = take_turns(scale.rounds, bare, ours)
    return Row(
        f"signatures in a PKCS#11 token, {curve}",
        rate(used),
        f"bare SoftHSM {rate(bottom)}",
        ratio(bottom, used),
    )


@contextmanager
def _token() -> Iterator[Token]:
    """A token of SoftHSM in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        configuration = Path(folder) / "softhsm2.conf"
        tokens = Path(folder) / "tokens"
        tokens.mkdir()
        configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        before = os.environ.get("SOFTHSM2_CONF")
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        label = ["--label", "bench", "--so-pin", "12345678", "--pin", "12345678"]
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", *label], check=True, capture_output=True
        )
        token = Token(TokenConfig("bench", MODULE, "bench", "12345678", timeout=60.0))
        try:
            yield token
        finally:
            token.close()
            if before is None:
                del os.environ["SOFTHSM2_CONF"]
            else:
                os.environ["SOFTHSM2_CONF"] = before
