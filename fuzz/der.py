"""DER as trees: a mutator that keeps lengths right, so that a change gets past the first reader.

Source: ITU-T X.690 §8.1 and §10.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

_CONSTRUCTED: Final = 0x20
_OCTET_STRING: Final = 0x04
_SEQUENCE: Final = 0x30
# Octets that mean something somewhere: tags, small numbers, the first ones of object identifiers.
_WORDS: Final = (
    b"",
    b"\x00",
    b"\x01",
    b"\xff",
    b"\x05\x00",
    b"\x30\x00",
    b"\x01\x01\xff",
    b"\x06\x03\x55\x04\x03",
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x03\x55\x1d\x13",
    b"\x06\x03\x55\x1d\x1e",
    b"\xa3\x02\x30\x00",
    b"\xa5\x02\x30\x00",
    b"\x1e\x02\xd8\x00",
    b"\x03\x01\x00",
    b"\x18\x0f99991231235959Z",
    b"\x17\x0d500101000000Z",
)
# BOOLEAN to BMPString, SEQUENCE and SET; [0] to [7] as names and extensions have them.
_TAGS: Final = bytes.fromhex("010203040506 0c13141617181c1e 3031 80818285 8687 a0a1a3a4")


@dataclass(slots=True)
class Node:
    """An element: its tag, and what is in it, elements or octets."""

    tag: int
    octets: bytes = b""
    below: list[Node] = field(default_factory=list)

    def encode(self) -> bytes:
        """The element, with the length that it has."""
        contents = b"".join(each.encode() for each in self.below) or self.octets
        size = len(contents)
        if size < 0x80:
            return bytes((self.tag, size)) + contents
        octets = size.to_bytes((size.bit_length() + 7) // 8)
        return bytes((self.tag, 0x80 | len(octets))) + octets + contents

    def copy(self) -> Node:
        """The same, of which nothing is shared."""
        return Node(self.tag, self.octets, [each.copy() for each in self.below])


def elements(der: bytes) -> list[bytes]:
    """The elements that stand one after the other in `der`; what is none is the last of them."""
    found = []
    while der:
        end = _end(der)
        found.append(der[:end])
        der = der[end:]
    return found


def trees(der: bytes, depth: int = 0) -> list[Node] | None:
    """What `der` is made of, into everything that can be taken apart; None if it is not DER."""
    nodes: list[Node] = []
    while der:
        end = _end(der)
        if len(der) < 2 or end > len(der):
            return None
        start = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
        tag, contents = der[0], der[start:end]
        below: list[Node] | None = None
        if depth < 16 and len(contents) > 1:
            is_extension = tag == _OCTET_STRING and contents[0] == _SEQUENCE
            if tag & _CONSTRUCTED or is_extension:
                below = trees(contents, depth + 1)
        nodes.append(Node(tag, b"", below) if below else Node(tag, contents))
        der = der[end:]
    return nodes


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """One to three changes that leave DER well formed; now and then one that does not."""
    random = Random(seed)
    roots = trees(data)
    if not roots or random.random() < 0.1:
        changed = bytearray(data or b"\x30\x00")
        changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed[:max_size])
    for _ in range(random.randint(1, 3)):
        _change(roots, random)
    changed_trees = b"".join(each.encode() for each in roots)
    return changed_trees if len(changed_trees) <= max_size else data[:max_size]


def _change(roots: list[Node], random: Random) -> None:
    places: list[tuple[list[Node], int]] = []
    pending = [roots]
    while pending:
        siblings = pending.pop()
        places += [(siblings, at) for at in range(len(siblings))]
        pending += [each.below for each in siblings if each.below]
    if not places:
        return
    siblings, at = random.choice(places)
    node = siblings[at]
    match random.randrange(8):
        case 0 if len(places) > 1:
            del siblings[at]
        case 1:
            siblings.insert(at, node.copy())
        case 2:
            others, there = random.choice(places)
            siblings[at] = others[there].copy()
        case 3:
            siblings[at] = Node(random.choice(_TAGS), node.octets, node.below)
        case 4:
            siblings[at] = Node(node.tag, random.choice(_WORDS))
        case 5:
            siblings.insert(at, Node(random.choice(_TAGS), random.choice(_WORDS)))
        case _:
            octets = bytearray(node.octets or node.encode())
            for _ in range(random.randint(1, 3)):
                if octets:
                    octets[random.randrange(len(octets))] = random.choice(
                        (0, 1, 0x7F, 0x80, 0xFF, random.randrange(256))
                    )
            if random.random() < 0.2:
                octets += random.choice(_WORDS)
            siblings[at] = Node(node.tag, bytes(octets))


def _end(der: bytes) -> int:
    """Where the first element of `der` ends; behind its end if it is cut short."""
    if len(der) < 2:
        return len(der) + 1
    if der[1] < 0x80:
        return 2 + der[1]
    octets = der[1] & 0x7F
    return 2 + octets + int.from_bytes(der[2 : 2 + octets])
