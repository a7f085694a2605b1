"""Subjects of CAs: as operators write them, and when two are the same.

Source: RFC 4514 (the text), RFC 5280 §7.1 (comparing: case and white space do not matter).
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

MAX_SUBJECT_CHARACTERS: Final = 256


def parse_subject(text: str) -> x509.Name:
    """The name that `text` means: RFC 4514 (`CN=Plant 7,O=Example`), or just a common name.

    Raises:
        ValueError: it is neither, or too long.
    """
    if not text.strip() or len(text) > MAX_SUBJECT_CHARACTERS or not text.isprintable():
        raise ValueError(f"not 1 to {MAX_SUBJECT_CHARACTERS} printable characters")
    if "=" not in text:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text.strip())])
    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError:
        raise ValueError("not a name as RFC 4514 writes it") from None
    if not all(attribute.value for attribute in name):
        raise ValueError("a part of the name is empty")
    return name


def name_key(name: x509.Name) -> str:
    """What two names have in common that differ in nothing but case and white space.

    Raises:
        ValueError: a value of the name cannot be read.
    """
    parts = []
    for attributes in name.rdns:
        values = sorted(f"{a.oid.dotted_string}={_folded(a.value)}" for a in attributes)
        parts.append("+".join(values))
    return "\n".join(parts)


def _folded(value: str | bytes) -> str:
    return " ".join(value.split()).casefold() if isinstance(value, str) else value.hex()
