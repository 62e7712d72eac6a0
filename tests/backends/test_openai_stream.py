"""Event streams as servers really send them, cut everywhere: the same tokens come out."""

import json

import pytest

from rigbench_backends.openai.reply import Account, EventStream, Reply, sentence
from rigbench_backends.openai.session import measured_cut

LLAMA_SERVER = (
    b'data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":null}],"model":"m.gguf",'
    b'"timings":{"cache_n":0,"prompt_n":3,"predicted_n":1}}\n\n'
    b'data: {"choices":[{"text":"\xc3\xa9 ","index":0,"logprobs":null,"finish_reason":null}],"model":"m.gguf",'
    b'"timings":{"cache_n":0,"prompt_n":3,"predicted_n":4}}\n\n'
    b'data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"model":"m.gguf",'
    b'"usage":{"completion_tokens":4,"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}},'
    b'"timings":{"cache_n":2,"prompt_n":3,"predicted_n":4}}\n\n'
    b"data: [DONE]\n\n"
)
MLX = (
    b": keepalive 4/5\n\n: keepalive 5/5\n\n"
    b'data: {"model": "default_model", "choices": [{"index": 0, "finish_reason": null, "text": "[PAD000202]"}]}\n\n'
    b'data: {"model": "default_model", "choices": [{"index": 0, "finish_reason": null, "text": "\\ufffd[PAD000063]"}]}\n\n'
    b'data: {"model": "default_model", "choices": [{"index": 0, "finish_reason": null, "text": "[PAD000140]"}]}\n\n'
    b'data: {"model": "default_model", "choices": [{"index": 0, "finish_reason": null, "text": "[PAD000094]"}]}\n\n'
    b'data: {"model": "default_model", "choices": [{"index": 0, "finish_reason": "length", "text": ""}]}\n\n'
    b'data: {"model": "default_model", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5, '
    b'"prompt_tokens_details": {"cached_tokens": 0}}}\n\ndata: [DONE]\n\n'
)
CHAT = (
    b'\xef\xbb\xbfevent: message\r\nid: 7\r\ndata: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}\r\n\r\n'
    b'data:{"choices":[{"delta":{"reasoning_content":"Hm"}}],"usage":null}\r\n\r\n'
    b'data: {"choices":[{"delta":\r\ndata: {"content":"\xe6\xbc\xa2\xe5\xad\x97"}}]}\r\n\r\n'
    b': ping\r\n\r\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\r\n\r\ndata: [DONE]\r\n\r\n'
)


def read(*parts: bytes) -> tuple[object, ...]:
    stream, reply = EventStream(), Reply()
    tokens = [reply.add(event) for part in parts for event in stream.feed(part)]
    tokens += [reply.add(event) for event in stream.end()]
    reply.finish()
    return tokens, reply.account()[:2], reply.prompt_tokens, reply.cached_tokens, reply.finish_reason, reply.error


def account(recorded: bytes, max_units: int = 0) -> Account:
    reply = Reply(max_units)
    for event in EventStream().feed(recorded):
        reply.add(event)
    return reply.account()


def test_llama_server_tells_its_running_total_where_it_holds_back_text() -> None:
    assert read(LLAMA_SERVER) == ([1, 3, 0, 0], (None, None), 3, 2, "length", None)


def test_mlx_tells_its_total_at_the_end_and_not_which_chunk_had_the_fifth_token() -> None:
    assert read(MLX) == ([1, 1, 1, 1, 0, 0, 0], (None, 5), 5, 0, "length", None)
    assert account(MLX).unknown == (
        "the server counts 5 tokens and streamed 4 chunks of text: which held how many is not known"
    )


def test_a_role_is_no_token_and_reasoning_is() -> None:
    assert read(CHAT) == ([0, 1, 1, 0, 0, 0], (None, None), 9, None, "stop", None)


@pytest.mark.parametrize("recorded", [LLAMA_SERVER, MLX, CHAT], ids=["llama-server", "mlx", "chat"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_cut_at_every_byte_it_is_the_same(recorded: bytes, line_end: bytes) -> None:
    recorded = recorded.replace(b"\r\n", b"\n").replace(b"\n", line_end)
    whole = read(recorded)
    assert whole[5] is None
    for at in range(len(recorded) + 1):
        assert read(recorded[:at], recorded[at:]) == whole
    assert read(*(recorded[at : at + 1] for at in range(len(recorded)))) == whole


def test_a_stream_without_its_last_empty_line_is_read_to_its_end() -> None:
    assert read(MLX.removesuffix(b"\n\n")) == read(MLX)


def chunk(**choice: object) -> bytes:
    return json.dumps({"choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("payload", "tokens"),
    [
        (chunk(text="abc", token_ids=[5, 6, 7]), 3),
        (chunk(text="", token_ids=[5]), 1),
        (chunk(text="ab", logprobs={"tokens": ["a", "b"]}), 2),
        (chunk(delta={"content": "ab"}, logprobs={"content": [{"token": "a"}, {"token": "b"}]}), 2),
        (chunk(delta={"reasoning": "x", "reasoning_content": "x"}), 1),
        (chunk(delta={"tool_calls": [{"function": {"arguments": "{"}}]}), 1),
        (chunk(delta={"content": None}), 0),
        (chunk(text=""), 0),
        (b'{"choices": []}', 0),
        (b'{"id": "x"}', 0),
    ],
)
def test_tokens_of_a_chunk(payload: bytes, tokens: int) -> None:
    reply = Reply()
    assert reply.add(payload) == tokens
    assert reply.error is None


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"error": {"message": "out of memory", "code": 500}}', "broke off: out of memory"),
        (b'{"object": "error", "message": "too long\\nby 5"}', "broke off: too long by 5"),
        (b"<html>502 Bad Gateway</html>", "would not: <html>"),
        (b"[1]", "would not"),
        (b'{"choices": "x"}', "would not"),
        (b'{"choices": [{"text": 5}]}', "would not"),
        (b'{"choices": [{"text": "a"}], "usage": {"completion_tokens": "x"}}', "would not"),
        (b"[" * 100_000, "would not"),
    ],
)
def test_what_is_no_chunk_is_an_error_in_one_line(payload: bytes, why: str) -> None:
    reply = Reply()
    assert reply.add(payload) == 0
    assert reply.error is not None and why in reply.error
    assert "\n" not in reply.error and len(reply.error) < 400


@pytest.mark.parametrize(
    "names",
    [("m", None, None), ("", "m", "m"), ("m", "m-2026-01-01", "m-2026-01-01"), ("m", ..., ...)],
    ids=["null later", "empty first", "alias and full name", "missing later"],
)
def test_what_gateways_do_to_the_models_name_costs_no_request(names: tuple[object, ...]) -> None:
    reply = Reply()
    for name in names:
        name_part = {} if name is ... else {"model": name}
        assert reply.add(json.dumps({**name_part, "choices": [{"delta": {"content": "a"}}]}).encode()) == 1
    assert reply.error is None
    assert list(reply.models) == list(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def stream(*chunks: dict[str, object], text: str = " tok", count: int = 16) -> bytes:
    content = [{"choices": [{"delta": {"content": text}}]}] * count
    last = [{"choices": [{"delta": {}, "finish_reason": "length"}]}]
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in [*content, *last, *chunks])


def usage(completion: int, **details: int) -> dict[str, object]:
    details_part = {"completion_tokens_details": details} if details else {}
    return {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": completion, **details_part}}


def test_tokens_that_were_thought_and_not_streamed_are_on_no_chunk() -> None:
    """A server at 50 t/s that hides 32 of 48 tokens was shown at 150 t/s."""
    assert account(stream(usage(48, reasoning_tokens=32)), 48) == (None, 48, None)
    assert account(stream(usage(16, reasoning_tokens=32)), 48) == (None, 48, None)  # counted apart
    hidden = account(stream(usage(48)), 48)
    assert hidden.reported == 48 and hidden.unknown is not None and "which held how many" in hidden.unknown


def test_a_total_of_nothing_or_of_the_beginning_says_nothing() -> None:
    assert account(stream(usage(0)), 16) == (None, None, None)  # it ended at the length asked for: 16 chunks, 16 tokens
    assert account(stream(), 16) == (None, None, None)
    assert account(stream(), 64).unknown is not None  # four tokens a chunk, and no usage
    early = b'data: {"choices": [{"text": "a"}], "usage": {"completion_tokens": 1}}\n\n' + stream(count=3)
    assert account(early, 4) == (None, None, None)
    assert account(early.replace(b"length", b"stop"), 4).unknown == (
        "the server does not tell how many tokens it streamed (no usage)"
    )


@pytest.mark.parametrize(
    ("payloads", "why"),
    [
        ([chunk(text="a")], "closed the stream after 1 tokens, before its end"),
        ([chunk(text="a"), chunk(text="", finish_reason="abort")], "gave up after 1 tokens (abort)"),
        ([chunk(text="", finish_reason="stop")], "without a single token"),
    ],
)
def test_an_answer_that_is_not_whole_says_so(payloads: list[bytes], why: str) -> None:
    reply = Reply()
    for payload in payloads:
        reply.add(payload)
    reply.finish()
    assert reply.error is not None and why in reply.error


def test_an_endless_event_is_refused() -> None:
    stream = EventStream()
    with pytest.raises(ValueError, match="longer than"):
        for _ in range(20):
            stream.feed(b"data: " + b"x" * 2**20)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "no such model"}}, "no such model"),
        ({"error": "busy"}, "busy"),
        ({"detail": [{"msg": "field required"}]}, '[{"msg": "field required"}]'),
        ("plain\n text\x00", "plain text"),
        ({"message": "x" * 500}, "x" * 297 + "..."),
    ],
)
def test_the_servers_own_sentence(body: object, expected: str) -> None:
    assert sentence(body) == expected


def test_a_text_is_cut_to_its_tokens_in_few_questions() -> None:
    text = " ".join(f"w{index % 97}" for index in range(4000))
    max_units = []

    def count(beginning: str) -> int:
        max_units.append(len(beginning))
        return len(beginning.split()) + 11  # a chat template of 11 tokens

    length = measured_cut(count, text, 512)
    assert len(text[:length].split()) + 11 == 512
    assert len(max_units) <= 6
    assert measured_cut(lambda _: None, text, 100) == 400
    assert measured_cut(count, "too short", 512) > len("too short")
