"""From words to engines: names, aliases, sweeps, and what a server has."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rigbench.errors import InputError, UnavailableError
from rigbench.run.selection import backend_named, engines_of
from rigbench.suites.custom import default_suite
from rigbench.suites.suite import EnginePart, Suite

SUITE = default_suite()


def options_of(*words: str, backend: str = "llama.cpp", suite: Suite = SUITE) -> list[dict[str, Any]]:
    return [part.options for part in engines_of(suite, [backend], ["a.gguf"], None, words)]


@pytest.mark.parametrize(
    ("name", "backend", "options"),
    [
        ("llama.cpp", "llama_cpp", {}),
        ("LLAMACPP", "llama_cpp", {}),
        ("mlx", "mlx_lm", {}),
        ("vllm", "vllm", {}),
        ("ollama", "openai_http", {"server": "ollama"}),
        ("lmstudio", "openai_http", {"server": "lmstudio"}),
        ("sim", "sim", {}),
    ],
)
def test_an_engine_has_every_name_that_people_call_it_by(name: str, backend: str, options: dict[str, Any]) -> None:
    assert backend_named(name) == (backend, options)


def test_an_option_is_set_under_its_own_name_or_the_engine_s() -> None:
    assert (
        options_of("ngl=99") == options_of("n_gpu_layers=99") == options_of("n-gpu-layers=99") == [{"n_gpu_layers": 99}]
    )
    assert options_of("fa=1") == options_of("flash_attn=on") == [{"flash_attn": "on"}]
    assert options_of("ts=3/1") == options_of("tensor_split=[3.0,1.0]") == [{"tensor_split": [3, 1]}]
    assert options_of("offload_kqv=off") == [{"offload_kqv": False}]


def test_several_values_are_a_sweep_over_every_combination() -> None:
    assert options_of("threads=1,2", "ctk=f16,q8_0") == [
        {"threads": threads, "type_k": kind} for threads in (1, 2) for kind in ("f16", "q8_0")
    ]
    assert options_of("threads=1", "threads=2") == options_of("threads=1,2")


def test_models_and_backends_are_crossed() -> None:
    parts = engines_of(SUITE, ["sim", "llama.cpp"], ["a.gguf", "b.gguf"])
    assert [(part.backend, part.model) for part in parts] == [
        (backend, model) for backend in ("sim", "llama_cpp") for model in ("a.gguf", "b.gguf")
    ]


def test_an_option_goes_to_the_engines_that_have_it_and_the_others_are_said() -> None:
    heard: list[str] = []
    parts = engines_of(SUITE, ["sim", "llama.cpp"], ["a.gguf"], None, ["ngl=0"], say=heard.append)
    assert [part.options for part in parts] == [{}, {"n_gpu_layers": 0}]
    assert heard == ["sim has no option ngl: it runs without"]


def test_another_backend_drops_the_options_of_the_suite_s_own() -> None:
    suite = SUITE.model_copy(update={"engine": [EnginePart(backend="sim", model="m", options={"prefill_tps": 5.0})]})
    assert engines_of(suite)[0].options == {"prefill_tps": 5.0}
    assert engines_of(suite, ["llama.cpp"], ["a.gguf"])[0].options == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["threds=2"], "did you mean `threads`?"),
        (["threads"], "NAME=VALUE"),
        (["threads=-1"], "-1 is impossible; give 1 or more"),
        (["threads=two"], "threads"),
        (["ctk=q9"], "'q9' is unknown"),
        (["fa=maybe"], "choose one of auto, off, on"),
        (["ts=-1/2"], "-1 is impossible"),
        (["threads=" + ",".join(map(str, range(1, 150)))], "149 engines"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        options_of(*words)
    assert says in str(error.value)


def test_a_number_of_the_simulator_must_be_possible() -> None:
    with pytest.raises(InputError, match="bandwidth_gb_per_s: -5 is impossible"):
        options_of("bandwidth_gb_per_s=-5", backend="sim")
    with pytest.raises(InputError, match="pace"):
        options_of("pace=foo", backend="sim")


class _Models(http.server.BaseHTTPRequestHandler):
    names: tuple[str, ...] = ()

    def do_GET(self) -> None:
        body = json.dumps({"data": [{"id": name} for name in self.names]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Models) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_server_is_asked_for_what_it_has(server: str) -> None:
    _Models.names = ("/home/me/models/my-llama.gguf",)
    heard: list[str] = []
    (part,) = engines_of(SUITE, server=server, say=heard.append)
    assert (part.model, heard) == ("remote:my-llama.gguf", ["the server has my-llama.gguf"])
    assert part.options == {"base_url": f"http://{server}"}
    for word in ("remote:any", "remote:/home/me/models/my-llama.gguf"):
        assert engines_of(SUITE, models=[word], server=server)[0].model == "remote:my-llama.gguf"
    with pytest.raises(
        InputError, match=r"no model 'my-lama.gguf'; it has my-llama.gguf; remote:any takes my-llama.gguf"
    ):
        engines_of(SUITE, models=["remote:my-lama.gguf"], server=server)
    _Models.names = ("a", "b:latest")
    for words in ((), ("remote:any",)):
        with pytest.raises(InputError, match="has a, b:latest: name one"):
            engines_of(SUITE, models=words, server=server)
    assert engines_of(SUITE, models=["remote:b"], server=server)[0].model == "remote:b:latest"


def test_the_server_is_asked_with_the_options_of_the_command_line(server: str) -> None:
    _Models.names = ("a",)
    options = [f"base_url={server}"]
    assert engines_of(SUITE, ["openai_http"], ["remote:any"], options=options)[0].model == "remote:a"
    with pytest.raises(InputError, match="has no model 'b'; it has a"):
        engines_of(SUITE, ["openai_http"], ["remote:b"], options=options)
    with pytest.raises(InputError, match="ca_file: there is no such file"):
        engines_of(SUITE, ["openai_http"], ["remote:a"], options=[*options, "ca_file=missing.pem"])


def test_a_server_that_does_not_answer_has_any_model_but_any() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"127.0.0.1:{listener.getsockname()[1]}"
    assert engines_of(SUITE, models=["remote:x"], server=nobody)[0].model == "remote:x"  # its probe says why
    with pytest.raises(UnavailableError, match="nothing listens there"):
        engines_of(SUITE, server=nobody)


@pytest.mark.parametrize("address", ["olama", "localhost", "host:port", ""])
def test_what_is_no_server_is_said(address: str) -> None:
    with pytest.raises(InputError, match="no server"):
        engines_of(SUITE, models=["remote:x"], server=address)
