from collections.abc import Iterator

import pytest
from pki_workshop import OpenSSL


@pytest.fixture
def openssl() -> Iterator[OpenSSL]:
    tool = OpenSSL()
    yield tool
    tool.close()
