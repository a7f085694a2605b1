"""The attackers, a process of its own.

Order: `attacks`, a list of {name, source, attempts, seconds}: does all of them side by side, each
so often or for so long, whichever ends first, from that address; the answer counts how the attempts
of each ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import uvloop
from attacks import ATTACKS, CUT, Armory, Attack
from insiders import INSIDERS

from devices import Place
from processes import answer, orders


async def run(
    attack: Attack, place: Place, armory: Armory, attempts: int, seconds: float
) -> dict[str, int]:
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    numbers = iter(range(attempts))

    async def attacker() -> None:
        for number in numbers:
            if time.monotonic() > deadline:
                return
            try:
                outcomes[await attack.once(place, armory, number)] += 1
            except CUT:
                outcomes["cut"] += 1
                await asyncio.sleep(0)
            except Exception as error:  # noqa: BLE001 - it is an outcome, and an unexpected one
                outcomes[repr(error)] += 1

    await asyncio.gather(*(attacker() for _ in range(attack.at_once)))
    return dict(outcomes)


async def main() -> None:
    armory: Armory | None = None
    async for order in orders():
        if armory is None:
            armory = Armory.stocked(order["bootstrap"])
            answer()
            continue
        done = await asyncio.gather(
            *(
                run(
                    (ATTACKS | INSIDERS)[wanted["name"]],
                    Place(armory.bootstrap, wanted["source"]),
                    armory,
                    wanted["attempts"],
                    wanted["seconds"],
                )
                for wanted in order["attacks"]
            )
        )
        answer(outcomes=done)


if __name__ == "__main__":
    uvloop.run(main())
