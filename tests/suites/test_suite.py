"""Suite files: the shipped ones hold, and each kind of mistake is named with its key."""

from pathlib import Path

import pytest

from rigbench.errors import InputError
from rigbench.suites.prompts import prompt_lengths, prompt_name, prompt_text
from rigbench.suites.suite import load_suite, parse_suite, suite_files, suite_record

GOOD = """
name = "t"
version = "1"
[[workload]]
name = "w"
kind = "tokens"
prompt_tokens = 10
output_tokens = 10
"""


def parse(text: str, tmp_path: Path) -> str:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_suite(str(path))
    return str(caught.value)


def test_the_shipped_suites_are_what_the_readme_says() -> None:
    suites = {name: load_suite(name) for name in suite_files()}
    assert {"quickstart", "standard", "agents", "smoke"} <= set(suites)
    assert [w.prompt_tokens for w in suites["standard"].workload] == [128, 512, 2048, 8192]
    assert suites["standard"].load.concurrency == [1, 2, 4, 8]
    assert suites["standard"].load.repetitions == 5
    assert suites["agents"].load.concurrency == [1, 10, 20, 40]
    for name, suite in suites.items():
        assert suite.name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version", "colour"), "s.toml: colour: unknown key"),
        (
            ('kind = "tokens"', 'kind = "token"'),
            'workload[0].kind: is "token"; one of text, tokens, image, train belongs here',
        ),
        (("prompt_tokens = 10", 'prompt_tokens = "10"'), "workload[0].prompt_tokens: input should be a valid integer"),
        (
            ("prompt_tokens = 10", "prompt_token = 10"),
            "workload[0].prompt_token: unknown key; did you mean `prompt_tokens`?",
        ),
        (
            ("output_tokens = 10", "output_tokens = 0"),
            "workload[0].output_tokens: input should be greater than or equal to 2",
        ),
        (
            ('version = "1"', 'version = "1"\n[load]\nconcurrency = [1, 0]'),
            "load.concurrency[1]: input should be greater than or equal to 1",
        ),
        (
            ('version = "1"', 'version = "1"\n[load]\nconcurrency = [10000]'),
            "load.concurrency[0]: input should be less than or equal to 1024",
        ),
        (
            ('version = "1"', 'version = "1"\n[load]\nconcurrency = []'),
            "load.concurrency: list should have at least 1 item",
        ),
        (
            ('version = "1"', 'version = "1"\n[load]\nrepetition = 1'),
            "load.repetition: unknown key; did you mean `repetitions`?",
        ),
        (('name = "w"', 'name = "../w"'), "workload[0].name: string should match pattern"),
        (('name = "t"', ""), "name: is missing"),
        (('name = "t"', "name = "), "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_key(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert message in parse(GOOD.replace(*change), tmp_path)


def test_two_workloads_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "two workloads are called 'w'" in parse(GOOD + GOOD[GOOD.index("[[workload]]") :], tmp_path)


def test_a_suite_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InputError, match=r"no suite 'quickstrat'.*quickstart"):
        load_suite("quickstrat")


def test_a_binary_file_is_no_suite(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        load_suite(str(tmp_path / "s.toml"))


def test_the_hash_is_of_the_content_and_not_of_the_engines() -> None:
    content = {
        "name": "t",
        "version": "1",
        "workload": [{"name": "w", "kind": "tokens", "prompt_tokens": 1, "output_tokens": 2}],
    }
    base = suite_record(parse_suite(content, "x"))
    engine = {"engine": [{"backend": "sim", "model": "/home/someone/model.gguf", "python": "/home/someone/python"}]}
    assert suite_record(parse_suite({**content, **engine}, "x")) == base
    assert suite_record(parse_suite({**content, "version": "2"}, "x")).sha256 != base.sha256


def test_prompts_come_in_the_four_lengths_and_differ() -> None:
    assert list(prompt_lengths().values()) == [128, 512, 2048, 8192]
    assert prompt_name(100) == prompt_name(128) == "short-128"
    assert prompt_name(129) == "medium-512"
    assert prompt_name(100, "long-2048") == "long-2048"
    for name, tokens in prompt_lengths().items():
        assert len(prompt_text(name)) > 3 * tokens  # well above what any tokenizer makes of one token


def test_a_prompt_longer_than_any_text_is_refused() -> None:
    with pytest.raises(InputError, match="longest standardized prompt has 8192"):
        prompt_name(8193)
    with pytest.raises(InputError, match="no prompt 'nope'"):
        prompt_name(10, "nope")
    with pytest.raises(InputError, match="written for 128 tokens"):
        prompt_name(200, "short-128")
