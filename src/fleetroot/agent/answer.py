"""An answer to a request over MQTT, and what its status means.

Both services answer on `…/res/{status}/?$rid={request id}`, and where they refuse, with the body
`{"errorCode", "trackingId", "message", …}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from fleetroot.agent.errors import AgentError, RequestRefused, ServerBusy, UnusableAnswer

_TOPIC: Final = re.compile(
    r"\$(?:dps/registrations|iothub/(?:twin|credentials))/res/(\d{3})/\?(.*)", re.ASCII
)
_MAX_MESSAGE_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, the parameters of its topic, and its body."""

    status: int
    parameters: Mapping[str, str]
    payload: bytes = field(repr=False)

    @classmethod
    def parse(cls, topic: str, payload: bytes) -> Answer | None:
        """The answer that a message is; None if it is none."""
        found = _TOPIC.fullmatch(topic)
        if found is None:
            return None
        pairs = (part.partition("=") for part in found[2].split("&"))
        parameters = {unquote(name): unquote(value) for name, _, value in pairs}
        return cls(int(found[1]), parameters, payload)

    @property
    def request_id(self) -> str:
        """Which request it answers."""
        return self.parameters.get("$rid", "")

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to ask again, where the provisioning service says."""
        return _seconds(self.parameters.get("retry-after", ""))

    def json(self) -> dict[str, Any]:
        """The body, a JSON object.

        Raises:
            UnusableAnswer: it is not.
        """
        try:
            body = json.loads(self.payload)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise UnusableAnswer("the server's answer is not a JSON object")
        return body

    def error(self, what: str) -> AgentError:
        """The error that an answer which is no success stands for; its message says `what` was
        asked for.
        """
        code, words, wait = None, f"status {self.status}", self.retry_after
        try:
            body = self.json()
        except UnusableAnswer:
            pass
        else:
            code = body.get("errorCode")
            words = f"{one_line(body.get('message') or words)} ({code or self.status})"
            info = body.get("info")
            if isinstance(info, dict):
                if "credentialMessage" in info:
                    words += f", {one_line(info['credentialMessage'])}"
                if wait is None:  # a hub's topics have no room for it
                    wait = _seconds(str(info.get("retryAfter", "")))
        if self.status == 429 or self.status >= 500:
            return ServerBusy(f"{what} has to wait: {words}", retry_after=wait)
        return RequestRefused(
            f"{what} is refused: {words}",
            status=self.status,
            code=code if isinstance(code, int) else None,
        )


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def one_line(text: object) -> str:
    """A server's words, fit for a line of a log."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(printable.split())[:_MAX_MESSAGE_CHARACTERS]
