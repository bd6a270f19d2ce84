"""A judge behind an OpenAI-compatible endpoint: one request, one completion, and what each failure means."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from salsa.judging.endpoint import Endpoint
from salsa.judging.request import Completion

if TYPE_CHECKING:
    import httpx

SHOWN = 300
"""Most characters of a server's message that are passed on."""
_TEMPORARY = frozenset({408, 409, 425, 429})
_ENDING = frozenset({401, 402, 403, 404, 405})
_TOO_LONG = ("context_length", "context length", "context size", "context window")
_TOO_LONG_REQUEST = ("too long", "maximum length")  # of a server in trouble, something else may take too long
_MODERATED = (
    "flagged",
    "moderation",
    "content policy",
    "content_policy",
    "content_filter",
    "content management policy",
)
_CODES = {
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "insufficient_quota": 402,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
}
# What `transformers serve` says when it is asked for another model than the one that it was started with.
_OTHER_MODEL = "server is pinned to"
_QUOTA = ("insufficient_quota", "billing_hard_limit", "exceeded your current quota")


class JudgeError(Exception):
    """A judge that did not answer; the message never holds the key.

    `charged` is set where the endpoint counted tokens for it all the same: a completion without text.
    """

    charged: Completion | None = None


class Temporary(JudgeError):
    """What may be over soon. `wait` is for how many seconds the endpoint wants to be left alone, if it said so."""

    def __init__(self, message: str, wait: float | None = None, limited: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.limited = limited


class Refused(JudgeError):
    """This request will never be answered, such as one that is longer than the context; others may be.

    `own` says that it is this request's fault, and nothing is wrong with the endpoint or the settings.
    """

    def __init__(self, message: str, own: bool = False) -> None:
        super().__init__(message)
        self.own = own


class Unusable(JudgeError):
    """No request will be answered: a bad key, no money, a wrong address or model."""


class Client:
    """Asks one endpoint; used as `async with Client(endpoint, most) as client`, `most` requests at a time."""

    def __init__(self, endpoint: Endpoint, most: int) -> None:
        self.endpoint = endpoint
        self._most = most
        self._key = _Secret(endpoint.key())
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> "Client":
        # Imported here because the command line must stay quick.
        import httpx

        headers = {"Accept": "application/json", "Content-Type": "application/json"} | self._key.headers()
        times = httpx.Timeout(self.endpoint.total, connect=self.endpoint.connect)
        limits = httpx.Limits(max_connections=self._most, max_keepalive_connections=self._most)
        self._http = httpx.AsyncClient(headers=headers, timeout=times, limits=limits)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def complete(self, messages: tuple[dict[str, str], ...]) -> Completion:
        """Return the judge's completion.

        Raises:
            Temporary, Refused, Unusable: where there is none.
        """
        import httpx

        assert self._http is not None, "use the client in `async with`"
        # Escaped, so that half a surrogate pair in a reply can be sent.
        content = json.dumps(self.endpoint.payload(messages)).encode("ascii")
        try:
            # httpx's own limits are for each read: an answer that comes in drops would never end.
            async with asyncio.timeout(self.endpoint.total):
                response = await self._http.post(self.endpoint.address, content=content)
        except (TimeoutError, httpx.TimeoutException) as error:
            connecting = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
            limit = self.endpoint.connect if connecting else self.endpoint.total
            what = "no connection" if connecting else "no whole answer"
            raise Temporary(f"{what} within {limit:g} s") from None
        except httpx.TransportError as error:
            raise Temporary(f"{type(error).__name__}: {self._shown(str(error))}") from None
        except httpx.HTTPError as error:
            raise Refused(f"{type(error).__name__}: {self._shown(str(error))}") from None
        return self._completion(response)

    def _completion(self, response: "httpx.Response") -> Completion:
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = None
        if response.status_code != 200:
            raise self._error(response.status_code, response.headers, _said(body, response.content))
        if not isinstance(body, dict):
            raise Temporary(f"the answer is no JSON object: {self._shown(response.text)!r}")
        if not body.get("choices"):
            # Some proxies say 200 and put the error where the answer should be.
            raise self._error(_code(body), response.headers, _said(body, response.content), "HTTP 200 with error")
        try:
            return self._choice(body)
        except (TypeError, KeyError, AttributeError, IndexError):
            raise Temporary(f"the answer has not the form of a completion: {self._shown(response.text)!r}") from None

    def _choice(self, body: Mapping[str, Any]) -> Completion:
        choice = body["choices"][0]
        finish = str(choice.get("finish_reason") or "")
        message = choice["message"]
        text = _text(message.get("content")) or _text(message.get("refusal"))
        usage = body.get("usage") or {}
        found = Completion(
            text=self._key.removed(text) if text.strip() else "",
            finish=finish,
            snapshot=self._key.removed(str(body.get("model") or "")),
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
        )
        if found.text:
            return found
        error = self._nothing_said(finish)
        if found.tokens_in is not None and found.tokens_out is not None:
            error.charged = found
        raise error

    def _nothing_said(self, finish: str) -> JudgeError:
        if finish == "length":
            return Refused(f"nothing was said within max_tokens={self.endpoint.longest}; give it more")
        if finish == "content_filter":
            return Refused("the endpoint's content filter let nothing through", own=True)
        return Temporary("the completion is empty")

    def _error(self, code: int, headers: Mapping[str, str], said: str, came: str = "") -> JudgeError:
        """Return what an error of this code means; `came` says how it came, if not as the code of the answer."""
        came = came or f"HTTP {code}"
        text = f"{came}: {self._shown(said)}" if said else came
        if 300 <= code < 400:
            return self._moved(headers.get("location"), text)
        low = said.lower()
        own = self._own(code, low, text)
        return own or self._general(code, headers, low, text)

    def _moved(self, location: str | None, text: str) -> Unusable:
        # Not followed: the key must not go to where a server sends it.
        if location is None:
            return Unusable(f"{self.endpoint.address} sends elsewhere and does not say where ({text})")
        with suppress(ValueError):  # what is no URL is shown as it is
            location = urljoin(self.endpoint.address, location)
        return Unusable(f"{self.endpoint.address} has moved to {self._shown(location)}; give --judge-url that")

    def _own(self, code: int, low: str, text: str) -> Refused | None:
        """Return the error if it is due to this request alone: too long, or refused for what it says."""
        in_request = code in (400, 413, 422)
        words = _TOO_LONG + (_TOO_LONG_REQUEST if in_request else ())
        if code == 413 or (code != 429 and any(word in low for word in words)):
            return Refused(f"longer than the judge's context ({text})", own=True)
        moderated = any(word in low for word in _MODERATED) and "account" not in low
        if moderated and (in_request or code in (403, 451)):
            return Refused(f"the endpoint's moderation refuses this question ({text})", own=True)
        return None

    def _general(self, code: int, headers: Mapping[str, str], low: str, text: str) -> JudgeError:
        variable = f"${self.endpoint.key_variable}"
        if code in (401, 403):
            fix = f"the endpoint refuses the key in {variable}" if self._key else f"there is no key in {variable}"
            return Unusable(f"{fix} ({text})")
        if any(words in low for words in _QUOTA) or code == 402:
            return Unusable(f"the account behind {variable} has nothing left to spend ({text})")
        if code in _ENDING or _OTHER_MODEL in low:
            return Unusable(f"wrong address or model: {self.endpoint.address}, {self.endpoint.model} ({text})")
        if code in _TEMPORARY or code >= 500:
            return Temporary(text, _wait(headers), limited=code in (429, 503))
        return Refused(text)

    def _shown(self, text: str) -> str:
        # What a terminal would obey goes first: the key may be hidden between it.
        plain = "".join(each for each in " ".join(text.split()) if each.isprintable())
        return self._key.removed(plain)[:SHOWN]


class _Secret:
    """A key that shows itself to nobody but the endpoint."""

    def __init__(self, key: str | None) -> None:
        self.__key = key

    def __bool__(self) -> bool:
        return self.__key is not None

    def __repr__(self) -> str:
        return "(secret)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.__key}"} if self.__key else {}

    def removed(self, text: str) -> str:
        return text.replace(self.__key, "(key)") if self.__key else text


def _text(content: Any) -> str:
    """Return the text of a message, which some servers send in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _said(body: Any, raw: bytes) -> str:
    """Return the server's own words for an error, with its code, in whichever of the usual places they are."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, dict):
        parts = [error.get(key) for key in ("code", "message", "detail")]
        words = ": ".join(str(part) for part in parts if part not in (None, ""))
        return words or json.dumps(error)
    return str(error) if error else raw.decode("utf-8", errors="replace")


def _code(body: Mapping[str, Any]) -> int:
    """Return the code of an error that came as an answer, as a number; 500 where it has none, as it may pass."""
    error = body.get("error")
    places = (error, body) if isinstance(error, dict) else (body,)
    for code in (place.get(key) for place in places for key in ("code", "status", "type")):
        if isinstance(code, str):
            code = int(code) if code.isdecimal() and len(code) == 3 else _CODES.get(code)
        if isinstance(code, int) and 400 <= code < 600:
            return code
    return 500


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After (a number or a date), or of OpenAI's finer header; None if there is none."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if seconds == seconds:  # NaN is a number to float()
            return max(0.0, seconds)
    return None
