"""Where judges answer: an OpenAI-compatible endpoint, as a person names it."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

LENGTH_KEYS = frozenset({"max_tokens", "max_completion_tokens"})
"""What only limits how long a completion may become; all else may change what it says."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYS = ("sk_", "gsk_", "hf_")  # what keys of well-known services begin with that could be names of variables


class EndpointError(ValueError):
    """An endpoint that cannot be used as it was named; the message says why, and never holds a key.

    `setting` is the field of `Endpoint` that it is about.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


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
        self._check_variable()
        self._check_url()
        if not self.model.strip():
            raise EndpointError("model", "the judge's model has no name; give the one that the endpoint knows it by")
        if self.max_tokens < 1:
            raise EndpointError("max_tokens", f"max_tokens is {self.max_tokens}, expected 1 or more")
        for name in sorted(LENGTH_KEYS & self.body.keys()):
            value = self.body[name]
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise EndpointError(
                    "body", f"{name} of the judge's body is {value!r}, expected a whole number of 1 or more"
                )
        for name in ("connect", "total"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise EndpointError(name, f"the {name} time-out is {getattr(self, name)}, expected seconds above 0")

    def _check_variable(self) -> None:
        """Check that a key's variable is the name of one, and not the key itself, which is not to be shown."""
        named = not self.key_variable or _VARIABLE.fullmatch(self.key_variable)
        if not named or self.key_variable.startswith(_KEYS):
            raise EndpointError(
                "key_variable",
                "what is given as the variable of the judge's key (not shown: it may be the key) is no name of an "
                "environment variable; write the key into one, such as OPENAI_API_KEY, and give its name",
            )

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            parts.port  # noqa: B018 - raises for one that is no number
        except ValueError:
            # What it says of the URL may be a part of a key, as the URL may be.
            raise EndpointError(
                "url",
                "the judge's URL is no URL: its host or port cannot be read; write it as http://localhost:8000/v1",
            ) from None
        if "@" in (parts.netloc or self.url) or parts.query:
            where = f" (${self.key_variable})" if self.key_variable else ""
            raise EndpointError("url", f"keep keys out of the judge's URL; set them in the environment{where}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError("url", f"the judge's URL is {self.url!r}; write it as http://localhost:8000/v1")

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
            raise EndpointError(
                "key_variable", f"the key in ${self.key_variable} holds characters that a key cannot have; set it anew"
            )
        return key
