"""Where judges answer: an OpenAI-compatible endpoint, as a person names it."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

LENGTH_KEYS = frozenset({"max_tokens", "max_completion_tokens"})
"""What only limits how long a completion may become; all else may change what it says."""


class EndpointError(ValueError):
    """An endpoint that cannot be used as it was named; the message says why, and never holds a key."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and how it is asked.

    `url` ends before `/chat/completions`. The key is in the environment, under the name `key_variable`; an endpoint
    of one's own may need none. `body` is added to what is sent; None takes a key out of it. Times are in seconds:
    `connect` to get a connection, `total` for the whole answer.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 2048
    body: Mapping[str, Any] = field(default_factory=dict)
    connect: float = 10.0
    total: float = 300.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            parts.port  # noqa: B018 - raises for one that is no number
        except ValueError as error:
            raise EndpointError(f"the judge's URL is no URL: {error}") from None
        if "@" in parts.netloc or parts.query:
            # Not shown: it may well be a key.
            raise EndpointError(f"keep keys out of the judge's URL; set them in the environment (${self.key_variable})")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(f"the judge's URL is {self.url!r}; write it as http://localhost:8000/v1")
        if self.max_tokens < 1:
            raise EndpointError(f"max_tokens is {self.max_tokens}, expected 1 or more")
        for name in sorted(LENGTH_KEYS & self.body.keys()):
            value = self.body[name]
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise EndpointError(f"{name} of the judge's body is {value!r}, expected a whole number of 1 or more")
        for name in ("connect", "total"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise EndpointError(f"the {name} time-out is {getattr(self, name)}, expected seconds above 0")

    @property
    def address(self) -> str:
        """The URL that is posted to."""
        return self.url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"

    @property
    def longest(self) -> int | None:
        """The most tokens that a completion may have, whatever the key that says so; None without a limit."""
        limits = {"max_tokens": self.max_tokens} | dict(self.body)
        return max((limits[key] for key in LENGTH_KEYS if limits.get(key) is not None), default=None)

    def payload(self, messages: tuple[dict[str, str], ...]) -> dict[str, Any]:
        """Return the body of a request."""
        settings = {"max_tokens": self.max_tokens, "temperature": self.temperature} | dict(self.body)
        known = {key: value for key, value in settings.items() if value is not None}
        return {"model": self.model, "messages": list(messages)} | known

    def settings(self) -> dict[str, Any]:
        """Return what may change a verdict and is therefore part of what was asked."""
        settings = {"temperature": self.temperature} | dict(self.body)
        return {key: value for key, value in settings.items() if key not in LENGTH_KEYS}

    def key(self) -> str | None:
        """Return the key from the environment; None if there is none.

        Raises:
            EndpointError: for one that cannot be sent; it is not shown.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            return None
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise EndpointError(f"the key in ${self.key_variable} holds characters that a key cannot have; set it anew")
        return key
