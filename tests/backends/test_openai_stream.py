"""Event streams as servers really send them, cut everywhere: the same tokens come out."""

import json

import pytest

from rigbench_backends.openai.reply import EventStream, Reply, sentence, spread
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
    return tokens, reply.true_counts(), reply.prompt_tokens, reply.cached_tokens, reply.finish_reason, reply.error


def test_llama_server_tells_its_running_total_where_it_holds_back_text() -> None:
    assert read(LLAMA_SERVER) == ([1, 3, 0, 0], None, 3, 2, "length", None)


def test_mlx_tells_its_total_at_the_end_and_the_longest_chunk_had_the_fifth_token() -> None:
    assert read(MLX) == ([1, 1, 1, 1, 0, 0, 0], (1, 2, 1, 1), 5, 0, "length", None)


def test_a_role_is_no_token_and_reasoning_is() -> None:
    assert read(CHAT) == ([0, 1, 1, 0, 0, 0], None, 9, None, "stop", None)


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


def test_another_models_answer_in_the_middle_is_an_error() -> None:
    reply = Reply()
    reply.add(b'{"model": "a", "choices": [{"text": "x"}]}')
    reply.add(b'{"model": "b", "choices": [{"text": "x"}]}')
    assert reply.error == "the server changed to another model in the middle"


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


def test_hidden_tokens_are_spread_by_length() -> None:
    assert spread(4, [1, 1]) == (2, 2)
    assert spread(9, [1, 1, 4]) == (2, 2, 5)
    assert sum(spread(100, [3, 5, 8])) == 100
    assert spread(2, [9, 9, 9]) == (1, 1, 0)
    assert spread(5, [0, 0]) == (3, 2)


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
    asked = []

    def count(beginning: str) -> int:
        asked.append(len(beginning))
        return len(beginning.split()) + 11  # a chat template of 11 tokens

    length = measured_cut(count, text, 512)
    assert len(text[:length].split()) + 11 == 512
    assert len(asked) <= 6
    assert measured_cut(lambda _: None, text, 100) == 400
    assert measured_cut(count, "too short", 512) > len("too short")
