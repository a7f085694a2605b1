"""What `cryptography` raises over a certificate or request that it cannot read.

It takes a structure apart when it is asked for a part, not when it is loaded, and says what it does
not like in several types without a common one. Whoever asks for a name, an extension or a key of
what a stranger sent catches all of these, and refuses.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE: Final = (
    ValueError,
    # A common name that is a BIT STRING.
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    # An x400Address or ediPartyName among alternative names, constraints or addresses of CRLs.
    x509.UnsupportedGeneralNameType,
)
