"""Each failure of an endpoint is told apart; the key goes to the endpoint and nowhere else."""

import asyncio
import email.utils
import json
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salsa.judging.client import Client, JudgeError, Refused, Temporary, Unusable
from salsa.judging.endpoint import Endpoint, EndpointError
from salsa.judging.judgment import Spending, judge
from salsa.judging.log import VerdictLog
from salsa.judging.request import Completion
from tests.judging.cases import QUICK, endpoint, pair_requests
from tests.judging.server import SNAPSHOT, Exchange, Script, completion, serving

MESSAGES = ({"role": "user", "content": "Which one?"},)
KEY = "sk-secret-0123456789"


def ask(script: Script, messages: tuple[dict[str, str], ...] = MESSAGES, **changes: Any) -> Completion:
    """Return what a client makes of one exchange, or raise what it raises."""

    async def run(url: str) -> Completion:
        async with Client(endpoint(url, **changes), 1) as client:
            return await client.complete(messages)

    with serving(script) as server:
        return asyncio.run(run(server.url))


def test_a_completion_comes_with_what_the_endpoint_says_of_it() -> None:
    found = ask(lambda exchange: exchange.say("Verdict: A>B", "stop", (12, 3)))
    assert found == Completion("Verdict: A>B", "stop", SNAPSHOT, 12, 3)
    assert ask(lambda exchange: exchange.say("x", usage=None)).tokens_in is None


def test_a_refusal_and_text_in_parts_are_completions() -> None:
    body = completion(None)
    body["choices"][0]["message"]["refusal"] = "I cannot judge this."
    assert ask(lambda exchange: exchange.send(200, body)).text == "I cannot judge this."
    body["choices"][0]["message"] = {
        "content": [{"type": "text", "text": "Verdict: "}, {"type": "text", "text": "A>B"}]
    }
    assert ask(lambda exchange: exchange.send(200, body)).text == "Verdict: A>B"


def test_what_is_sent() -> None:
    seen: list[dict[str, Any]] = []

    def script(exchange: Exchange) -> None:
        seen.append(exchange.body)
        exchange.say("x")

    ask(script, max_tokens=7, body={"seed": 1})
    ask(script, body={"max_tokens": None, "max_completion_tokens": 9, "temperature": None})
    half = ({"role": "user", "content": "half a pair \ud83d"},)
    ask(script, half)
    assert seen[0] == {"model": "m", "messages": list(MESSAGES), "max_tokens": 7, "temperature": 0.0, "seed": 1}
    assert seen[1] == {"model": "m", "messages": list(MESSAGES), "max_completion_tokens": 9}
    assert seen[2]["messages"] == list(half)


def failing(code: int, message: str = "", headers: dict[str, str] | None = None) -> Script:
    return lambda exchange: exchange.fail(code, message, headers)


def answering(body: Any) -> Script:
    return lambda exchange: exchange.send(200, body)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (failing(500), Temporary, "HTTP 500: error 500"),
        (failing(503), Temporary, "HTTP 503"),
        (failing(429, "slow down"), Temporary, "slow down"),
        (failing(408), Temporary, "HTTP 408"),
        (failing(429, "You exceeded your current quota"), Unusable, "nothing left to spend"),
        (failing(402), Unusable, "nothing left to spend"),
        (failing(401), Unusable, "there is no key in .OPENAI_API_KEY"),
        (failing(403), Unusable, "no key"),
        (failing(404, "no such model"), Unusable, "wrong address or model: http.*, m .HTTP 404: no such model"),
        (failing(400, "Server is pinned to 'a'; requested 'm'."), Unusable, "wrong address or model: .*pinned to 'a'"),
        (failing(400, "maximum context length is 8192 tokens"), Refused, "longer than the judge's context"),
        (failing(413), Refused, "longer than the judge's context"),
        (failing(400, "temperature is not supported"), Refused, "HTTP 400: temperature is not supported"),
        (failing(302), Unusable, "sends elsewhere and does not say where .HTTP 302"),
        (
            failing(301, headers={"Location": "https://b/v1/chat/completions"}),
            Unusable,
            "has moved to https://b/v1/chat",
        ),
        (failing(302, headers={"Location": "http://[b"}), Unusable, r"has moved to http://\[b; give --judge-url that"),
        (failing(308, headers={"Location": "/v2/chat/completions"}), Unusable, "moved to http://127.*/v2/chat/comp"),
        (failing(500, "the request exceeds the available context size"), Refused, "longer than the judge's context"),
        (failing(429, "too many tokens for the context window now"), Temporary, "HTTP 429"),
        (failing(504, "upstream took too long"), Temporary, "HTTP 504"),
        (failing(403, "your input was flagged"), Refused, "moderation refuses this question .HTTP 403: your input"),
        (failing(400, "content_filter: violates content management policy"), Refused, "moderation refuses"),
        (failing(403, "your account was flagged"), Unusable, "no key"),
        (lambda exchange: exchange.raw(b"<html>bad gateway</html>", 502), Temporary, "bad gateway"),
        (lambda exchange: exchange.raw(json.dumps(completion("x")).encode()[:40]), Temporary, "no JSON object"),
        (lambda exchange: exchange.raw(b"{}", length=100), Temporary, "RemoteProtocolError"),
        (answering([]), Temporary, "no JSON object"),
        (answering({"choices": [{}]}), Temporary, "not the form of a completion"),
        (
            answering({"error": {"message": "overloaded", "code": 529}}),
            Temporary,
            "HTTP 200 with error: 529: over",
        ),
        (answering({"error": "upstream failed"}), Temporary, "upstream failed"),
        (answering({"error": {"message": "bad key", "code": 401}}), Unusable, "bad key"),
        (
            answering({"error": {"code": "context_length_exceeded"}}),
            Refused,
            "longer than .*HTTP 200 with error: c",
        ),
        (answering({"error": {"code": "invalid_api_key"}}), Unusable, "there is no key in"),
        (answering({"error": {"code": "404", "message": "no such model"}}), Unusable, "wrong address or model"),
        (answering({"error": "no such model", "code": 404}), Unusable, "wrong address or model"),
        (answering({"error": {"code": "rate_limit_exceeded"}}), Temporary, "rate_limit"),
        (answering({"error": {"code": "9" * 5000}}), Temporary, "HTTP 200 with error"),
        (lambda exchange: exchange.say(""), Temporary, "the completion is empty"),
        (lambda exchange: exchange.say(None), Temporary, "the completion is empty"),
        (lambda exchange: exchange.say(" ", "length"), Refused, "nothing was said within max_tokens=2048"),
        (lambda exchange: exchange.say("", "content_filter"), Refused, "content filter"),
        (lambda exchange: exchange.reset(), Temporary, "Error"),
    ],
)
def test_failures_are_told_apart(
    script: Script, kind: type[JudgeError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeError, match=words) as raised:
        ask(script)
    assert type(raised.value) is kind


@pytest.mark.parametrize("code", [400, 401, 500, 302])
def test_what_a_terminal_would_obey_is_left_out(code: int) -> None:
    where = {"Location": "http://b/\x1b]0;x\x07"} if code == 302 else {}
    with pytest.raises(JudgeError) as raised:
        ask(failing(code, "\x1b[31mred\x1b]0;title\x07 \u202eback\x9b2J", where))
    assert str(raised.value).isprintable()
    assert code == 302 or "[31mred]0;title back2J" in str(raised.value)


def test_a_moved_endpoint_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(Unusable, match=r"has moved to http://b/\(key\); give --judge-url that"):
        ask(failing(302, headers={"Location": f"http://b/{KEY}"}))
    with serving(lambda exchange: exchange.say("x")) as other:
        with pytest.raises(Unusable, match="has moved to"):
            ask(failing(307, headers={"Location": f"{other.url}/chat/completions"}))
        assert other.calls == 0


@pytest.mark.parametrize("script", [lambda exchange: exchange.hang(1), lambda exchange: exchange.drip(1, 0.01)])
def test_a_whole_answer_has_its_time(script: Script) -> None:
    """Also one that comes in drops, of which each is in time."""
    with pytest.raises(Temporary, match=r"no whole answer within 0.1 s"):
        ask(script, total=0.1)


def test_a_server_that_is_not_there_may_come() -> None:
    async def run() -> None:
        async with Client(endpoint("http://127.0.0.1:9/v1"), 1) as client:
            await client.complete(MESSAGES)

    with pytest.raises(Temporary, match="ConnectError"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "3"}, 3.0, 3.0),
        ({"Retry-After": "3", "retry-after-ms": "1500"}, 1.5, 1.5),
        ({"Retry-After": email.utils.formatdate(time.time() + 9000)}, 8000, 9000),
        ({"Retry-After": email.utils.formatdate(time.time() - 100)}, 0.0, 0.0),
        ({"Retry-After": "soon"}, None, None),
        ({"Retry-After": "nan"}, None, None),
        ({}, None, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], least: float | None, most: float | None) -> None:
    with pytest.raises(Temporary) as raised:
        ask(failing(429, headers=headers))
    assert raised.value.limited
    if least is None or most is None:
        assert raised.value.wait is None
    else:
        assert raised.value.wait is not None
        assert least <= raised.value.wait <= most


def test_the_key_goes_to_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    keys: list[str | None] = []

    def script(exchange: Exchange) -> None:
        keys.append(exchange.key)
        exchange.say("x")

    ask(script, key_variable="MY_KEY")
    ask(script, key_variable="MY_OTHER_KEY")
    assert keys == [f"Bearer {KEY}", None]


@pytest.mark.parametrize(
    "script",
    [
        failing(401, f"Incorrect API key provided: {KEY}"),
        failing(400, f"bad request with {KEY}"),
        failing(400, f"bad request with {KEY[:9]}\x1b{KEY[9:]}"),
        failing(500, f"crashed at Bearer {KEY}"),
        lambda exchange: exchange.raw(f"no JSON, {KEY}".encode()),
        lambda exchange: exchange.say(f"Your key is {KEY}.\nVerdict: A>B"),
        lambda exchange: exchange.reset(),
        lambda exchange: exchange.hang(0.3),
    ],
)
def test_the_key_is_nowhere_else(
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Even where a server repeats it: in no file, log, error or verdict."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with serving(script) as server, VerdictLog(tmp_path / "v.jsonl") as log:
        where = endpoint(server.url, total=0.2)
        outcome = judge(pair_requests(1), where, log, QUICK, Spending(), troubled=print)
        assert server.keys[0] == f"Bearer {KEY}"
        client = Client(where, 1)
        shown = [repr(client), repr(vars(client)), repr(where), repr(outcome), caplog.text]
    captured = capfd.readouterr()
    shown += [captured.out, captured.err, *(file.read_text() for file in tmp_path.iterdir())]
    assert all(KEY not in text for text in shown)
    assert outcome.verdicts or outcome.stopped
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(client)


@pytest.mark.parametrize("url", [f"https://user:{KEY}@host/v1", f"{KEY}@host/v1", f"https://host/v1?key={KEY}"])
def test_a_key_in_the_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(EndpointError, match="keep keys out of") as raised:
        endpoint(url)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("key", ["with space", "ключ", "bell\x07"])
def test_a_key_that_cannot_be_sent_is_told_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointError, match=r"\$OPENAI_API_KEY") as raised:
        endpoint("http://host/v1").key()
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: endpoint("localhost:8000"), "write it as http"),
        (lambda: endpoint("ftp://host"), "write it as http"),
        (lambda: endpoint("http://host:eighty/v1"), "no URL"),
        (lambda: endpoint("http://host", model=" "), "model has no name"),
        (lambda: endpoint("http://host", key_variable="MY-KEY"), "no name of an environment variable"),
        (lambda: endpoint("http://host", max_tokens=0), "max_tokens is 0"),
        (lambda: endpoint("http://host", body={"max_tokens": "many"}), "max_tokens of the judge's body is 'many'"),
        (lambda: endpoint("http://host", body={"max_completion_tokens": 0}), "max_completion_tokens .* is 0"),
        (lambda: endpoint("http://host", total=0.0), "total time-out is 0"),
        (lambda: endpoint("http://host", connect=float("nan")), "connect time-out is nan"),
    ],
)
def test_an_endpoint_that_cannot_be_is_named(make: Callable[[], Endpoint], words: str) -> None:
    with pytest.raises(EndpointError, match=words):
        make()


@pytest.mark.parametrize("url", ["http://host/v1", "http://host/v1/", "http://host/v1/chat/completions"])
def test_addresses(url: str) -> None:
    assert endpoint(url).address == "http://host/v1/chat/completions"


@pytest.mark.parametrize(
    ("body", "longest"),
    [
        ({}, 7),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": None, "max_completion_tokens": 9}, 9),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": None}, None),
    ],
)
def test_how_long_a_completion_may_become(body: dict[str, Any], longest: int | None) -> None:
    assert endpoint("http://host", max_tokens=7, body=body).longest == longest


def test_settings_are_what_may_change_a_verdict() -> None:
    assert endpoint("http://a/v1", max_tokens=5).settings() == endpoint("http://b/v1", total=3.0).settings()
    assert endpoint("http://a/v1", body={"seed": 1, "max_completion_tokens": 3}).settings() == {
        "temperature": 0.0,
        "seed": 1,
    }
