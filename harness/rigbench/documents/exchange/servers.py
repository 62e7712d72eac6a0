"""What the load generators of servers write, as figures. Their figures are of all requests of a run, so each is one repetition.

vllm bench serve, SGLang bench_serving, guidellm, aiperf
    tpot_s, ttft_s, latency_s: the medians over the requests; user_tps = 1 / tpot_s
    output_tps: all tokens / whole duration, ramp-up and tail included (ours: steady window only)
llama-benchy
    user_tps, ttft_s, output_tps: its values, one per repetition of all users at once

The lengths are those that were asked for where the file tells them, else the means.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from rigbench.documents.exchange.entry import TEXT_LETTERS, UNKNOWN, Entry, Figure, plain, utc, utc_of_epoch
from rigbench.text import last_part
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo

LOCAL_TIME = "its date is the local time of the machine that ran it"
WHOLE_DURATION = "all output tokens / whole duration, ramp-up and tail included"
_RESULT = re.compile(
    r"(mean|median|std|p\d+|max)_|(duration|completed|failed|errors|concurrency|accept_length|rtfx|goodput)\b|.*(throughput|_goodput)$"
    r"|total_|(date|version|label|tag|model_id|request_rate|server_info)$|max_(output_tokens_per_s|concurrent_requests)$"
)
"""Keys of a serving benchmark that are results or names; the others are settings, `--metadata` of its user too."""
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "sec": 1.0, "s": 1.0}
_GUIDELLM_NO_SETTINGS = (
    *("id_", "run_id", "run_index", "strategy", "strategy_index", "profile", "requests"),
    *("environment", "warnings", "worker_count", "processes_limit"),
)
"""Of a benchmark's configuration: names, what its users and its rate tell already, and what concerns the client alone."""
COUNTS_AGREE = 0.05
"""Of two counts of the same tokens: how far they may be apart for a rate of tokens to be one."""
_RECORDED = (
    *("time_to_first_token", "inter_token_latency", "request_latency", "prefill_throughput_per_user"),
    *("input_sequence_length", "output_sequence_length", "usage_completion_tokens"),
)


def vllm_serve(entry: Entry) -> Iterator[Figure | str]:
    """vLLM's `bench serve`, and SGLang's bench_serving, which descends from it and names no model."""
    completed = entry.count("completed")
    if not completed:
        yield "no request was completed"
        return
    vllm = "model_id" in entry.content
    stated = entry.content.get("request_rate")
    rate = None if stated in ("inf", "trace", float("inf")) else entry.number("request_rate")
    names = ("max_concurrency", "max_concurrent_requests", "num_prompts")
    users = next((count for count in map(entry.count, names) if count), completed)
    prompt, output = (round(entry.count(f"total_{kind}_tokens") / completed) for kind in ("input", "output"))
    keys = [key for key in entry.content if key == "max_concurrency" or not _RESULT.match(key)]
    options = {
        name: last_part(value) if isinstance(value, str) else value
        for name, value in entry.settings([key[:TEXT_LETTERS] for key in keys if key != "max_concurrency"]).items()
    }
    if rate is not None:
        options["request_rate"] = rate
    metrics = _medians(
        (entry.above("median_ttft_ms") or 0) / 1e3,
        (entry.above("median_tpot_ms") or 0) / 1e3,
        (entry.above("median_e2el_ms", "median_e2e_latency_ms") or 0) / 1e3,
        entry.above("output_throughput") or 0,
    )
    if not metrics:
        yield "no figures"
        return
    created, zoneless = utc(entry.text("date"))
    yield Figure(
        tool="vllm bench serve" if vllm else "sglang bench_serving",
        backend="vllm" if vllm else "openai_http",
        model=last_part(entry.text("model_id")) or UNKNOWN,
        workload=_workload(prompt, output, rate),
        users=users,
        requests=completed,
        options=options,
        engine=EngineInfo("vllm" if vllm else str(options.get("backend", "sglang")), entry.text("version"), UNKNOWN),
        metrics=metrics,
        seconds=entry.number("duration") or 0,
        created_utc=created,
        note=LOCAL_TIME if zoneless else None,
        definitions={"output_tps": WHOLE_DURATION},
    )


def vllm_latency(entry: Entry) -> Iterator[Figure | str]:
    """`vllm bench latency`."""
    yield "of vllm bench latency, which writes neither the model nor the lengths"


def vllm_throughput(entry: Entry) -> Iterator[Figure | str]:
    """`vllm bench throughput`."""
    yield "of vllm bench throughput, whose one rate is of prompts and answers together"


def guidellm(entry: Entry) -> Iterator[Figure | str]:
    """A report of guidellm: version 0.3 has no head, 1 (0.4 to 0.5) its `args`, 2 (since 0.6) its `config`."""
    head = entry.within("args").content or entry.within("config", "spec").content
    for benchmark in entry.each("benchmarks"):
        metrics = benchmark.within("metrics")

        def of(name: str, statistic: str, metrics: Entry = metrics) -> float:
            return metrics.within(name, "successful").above(statistic) or 0

        figures = _medians(
            of("time_to_first_token_ms", "median") / 1e3,
            of("inter_token_latency_ms", "median") / 1e3,
            of("request_latency", "median"),
            of("output_tokens_per_second", "mean"),
        )
        if not figures or not of("request_latency", "count"):
            yield f"{benchmark.where.removeprefix(entry.where + '.')}: no figures of a generation"
            continue
        old = benchmark.within("args")
        config = old if old.content else benchmark.within("config")
        worker, loader = benchmark.within("worker"), benchmark.within("request_loader")
        backend = worker if worker.content else config.within("backend")
        data = head.get("data") or loader.content.get("data")
        strategy = config.within("strategy")
        kind = strategy.text("type_")
        ordered = json.dumps(Entry({"data": data}, entry.where).all_settings())
        lengths = {name: re.search(rf"\b{name}_tokens\W{{1,4}}(\d{{1,9}})\b", ordered) for name in ("prompt", "output")}
        prompt, output = (
            int(match[1]) if match else round(of(f"{name}_token_count", "mean")) for name, match in lengths.items()
        )
        limits = Entry({**head, **config.within("constraints").content}, config.where).all_settings()
        most, longest = (
            next(
                (limits[name] for name in names if isinstance(limits.get(name), int | float) and limits[name] > 0), None
            )
            for names in (
                ("max_requests.args.count", "max_requests.max_num", "max_requests"),
                ("max_duration.args.seconds", "max_duration.max_duration", "max_seconds"),
            )
        )
        most = most or old.above("max_number")
        longest = longest or old.above("max_duration")
        rate = strategy.above("rate") if kind in ("constant", "poisson") else None
        users = strategy.count("streams") or (1 if kind == "synchronous" else 0)
        users = users or _sent(most, longest, rate) or max(1, round(of("request_concurrency", "mean")))
        settings = {name: each for name, each in config.content.items() if name not in _GUIDELLM_NO_SETTINGS}
        settings |= {"strategy": kind, "data": data}
        settings["backend"] = {name: each for name, each in backend.content.items() if not name.endswith("model")}
        options = {
            name: each
            for name, each in Entry(settings, config.where).all_settings().items()
            if not name.endswith(".current_index")
        }
        if rate is not None:
            options["request_rate"] = rate
        yield Figure(
            tool="guidellm",
            backend="openai_http",
            model=last_part(backend.text("model") or backend.text("backend_model")) or UNKNOWN,
            workload=_workload(prompt, output, rate),
            users=users,
            requests=round(most or users),
            options=options,
            engine=EngineInfo(UNKNOWN, "", UNKNOWN),
            metrics=figures,
            seconds=benchmark.number("duration") or 0,
            created_utc=utc_of_epoch(benchmark.number("start_time")),
            duration_s=longest,
            tool_version=entry.within("metadata").text("guidellm_version"),
            definitions={"output_tps": "guidellm's mean over the whole duration, ramp-up and tail included"},
        )


def aiperf(entry: Entry) -> Iterator[Figure | str]:
    """aiperf's summary (`profile_export_aiperf.json`, `.csv`)."""

    def of(name: str, statistic: str = "p50") -> float:
        """In seconds where it is a time; 0 where it is missing."""
        metric = entry.within(name)
        return (metric.above(statistic) or 0) * SECONDS.get(metric.text("unit"), 1.0)

    config = entry.within("input_config")
    endpoint = config.within("endpoint").content
    named = endpoint.get("model_names")
    models = named if isinstance(named, list) else [one.text("name") for one in config.within("models").each("items")]
    phases = [one for one in config.each("phases") if one.content.get("kind", one.content.get("name")) == "profiling"]
    load = phases[-1] if phases else config.within("loadgen")
    data = config.content.get("datasets") or config.content.get("input")
    ordered = Entry({"data": data}, config.where).all_settings()
    prompt, output = (
        round(
            next((ordered[name] for name in names if isinstance(ordered.get(name), int | float)), of(measured, "avg"))
        )
        for measured, names in (
            (
                "input_sequence_length",
                ("data.0.prompts.isl.mean", "data.0.prompts.isl", "data.prompt.input_tokens.mean"),
            ),
            (
                "output_sequence_length",
                ("data.0.prompts.osl.mean", "data.0.prompts.osl", "data.prompt.output_tokens.mean"),
            ),
        )
    )
    rate, duration_s = load.above("request_rate", "rate"), load.above("benchmark_duration", "duration")
    completed, requests = round(of("request_count", "avg")), load.count("request_count") or load.count("requests")
    limit = load.count("concurrency") or _sent(requests, duration_s, rate)
    at_once = of("effective_concurrency", "max") or of("request_throughput", "avg") * of("request_latency", "avg")
    users = limit or max(1, round(at_once))
    counted, reported = of("output_sequence_length", "avg"), of("usage_completion_tokens", "avg")
    agree = not reported or abs(counted - reported) <= COUNTS_AGREE * reported
    if not agree:
        yield f"its rates of tokens: the server counted {reported:.4g} tokens an answer, aiperf {counted:.4g}"
    metrics = _medians(
        of("time_to_first_token"),
        of("inter_token_latency") if agree else 0,
        of("request_latency"),
        of("output_token_throughput", "avg") if agree else 0,
    )
    if users == 1 and (prefill := of("prefill_throughput_per_user")):
        metrics["prefill_tps"] = [prefill]
    if not metrics or not completed:
        yield "no figures"
        return
    elsewhere = ("name", "kind", "concurrency", "request_rate", "rate")
    settings = {
        "endpoint": {name: each for name, each in endpoint.items() if name != "model_names"},
        "load": {name: each for name, each in load.content.items() if name not in elsewhere},
        "data": data,
    }
    options = Entry(settings, config.where).all_settings() | ({} if rate is None else {"request_rate": rate})
    gpus = [
        gpu.text("gpu_name")
        for name in entry.within("telemetry_data", "endpoints").content
        for among in [entry.within("telemetry_data", "endpoints", name, "gpus")]
        for gpu in map(among.within, among.content)
    ]
    created, zoneless = utc(entry.text("start_time"))
    unknown = "" if limit else f"the file does not tell the number of users: {users} requests were under way at once"
    yield Figure(
        tool="aiperf",
        backend="openai_http",
        model=plain(", ".join(last_part(str(name)) for name in models if name)) or UNKNOWN,
        workload=_workload(prompt, output, rate),
        users=users,
        requests=requests or (users if duration_s else completed),
        options=options,
        engine=EngineInfo(UNKNOWN, "", UNKNOWN),
        metrics=metrics,
        seconds=of("benchmark_duration", "avg"),
        created_utc=created,
        machine=", ".join(gpus),
        gpu=", ".join(gpus),
        duration_s=duration_s,
        note="; ".join(filter(None, (unknown, LOCAL_TIME if zoneless else ""))) or None,
        tool_version=entry.text("aiperf_version"),
        definitions={"output_tps": WHOLE_DURATION},
    )


def aiperf_records(entry: Entry) -> Iterator[Figure | str]:
    """aiperf's records (`profile_export.jsonl`), which are of one run, summed up as it does; those of the warm-up, failed and
    cancelled ones do not count."""
    spans: list[tuple[float, float]] = []
    values: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for record in entry.each("aiperf_records"):
        about = record.within("metadata")
        start, end = about.above("request_start_ns"), about.above("request_end_ns")
        unfit = record.content.get("error") or about.content.get("was_cancelled")
        if unfit or about.text("benchmark_phase") not in ("", "profiling") or not (start and end):
            continue
        spans.append((start, end))
        for name in _RECORDED:
            metric = record.within("metrics", name)
            if (value := metric.above("value")) is not None:
                units[name] = metric.text("unit")
                values.setdefault(name, []).append(value)
    if not spans:
        yield "no request was completed"
        return
    begin = min(start for start, _ in spans)
    total_s = (max(end for _, end in spans) - begin) / 1e9
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    summary: dict[str, Any] = {
        name: {"unit": units[name], "p50": statistics.median(each), "avg": statistics.fmean(each)}
        for name, each in values.items()
    }
    summary["request_count"] = {"avg": len(spans)}
    summary["effective_concurrency"] = {"max": max(accumulate(change for _, change in changes))}
    summary["benchmark_duration"] = {"unit": "sec", "avg": total_s}
    if total_s > 0:
        summary["output_token_throughput"] = {"avg": sum(values.get("output_sequence_length", ())) / total_s}
    yield from aiperf(Entry(summary | {"start_time": utc_of_epoch(begin / 1e9)}, entry.where))


def llama_benchy(entry: Entry) -> Iterator[Figure | str]:
    """A report of llama-benchy, or one run of it where the rest is cut off."""
    created, zoneless = utc(entry.text("timestamp"))
    runs = entry.each("benchmarks") if "benchmarks" in entry.content else [entry]
    for run in runs:
        users, depth = run.count("concurrency"), run.count("context_size")
        prompt, output = run.count("prompt_size"), run.count("response_size")
        context = run.content.get("is_context_prefill_phase") is True
        prefill, each, total, ttft = (
            _values(run.within(name)) for name in ("pp_throughput", "tg_req_throughput", "tg_throughput", "e2e_ttft")
        )
        repetitions = max(len(total), 1)
        metrics = {
            "prefill_tps": prefill if users == 1 else [],
            "user_tps": _medians_of_groups(each, users, repetitions),
            "output_tps": total,
            "ttft_s": [value / 1e3 for value in _medians_of_groups(ttft, users, repetitions)],
        }
        if not users or not any(metrics.values()):
            yield f"{run.where}: no figures"
            continue
        names = (
            (f"ctx{depth}", f"tg{output}" if output else "")
            if context
            else (f"pp{prompt}" if prompt else "", f"tg{output}" if output else "", f"d{depth}" if depth else "")
        )
        yield Figure(
            tool="llama-benchy",
            backend="openai_http",
            model=last_part(entry.text("model")) or UNKNOWN,
            workload=Generation("-".join(filter(None, names)), "text", depth if context else prompt + depth, output),
            users=users,
            requests=users,
            options=entry.settings(("latency_mode", "prefix_caching_enabled")),
            engine=EngineInfo(UNKNOWN, "", UNKNOWN),
            metrics={name: values for name, values in metrics.items() if values},
            seconds=0.0,
            created_utc=created,
            note=LOCAL_TIME if zoneless else None,
            tool_version=entry.text("version"),
            definitions={
                "prefill_tps": "prompt tokens / (time to the first response - its estimate of the network's latency)",
                "output_tps": "tokens after each user's first / from the first token of any user to the last",
            },
        )


def _values(metric: Entry) -> list[float]:
    mean = metric.above("mean")
    return metric.positive("values") or ([mean] if mean else [])


def _medians_of_groups(values: Sequence[float], users: int, repetitions: int) -> list[float]:
    """Of the values of all requests one for each repetition; where some are missing nobody knows whose, and one for all."""
    if len(values) == users * repetitions:
        return [statistics.median(values[start : start + users]) for start in range(0, len(values), users)]
    return [statistics.median(values)] if values else []


def _medians(ttft_s: float, tpot_s: float, latency_s: float, output_tps: float) -> dict[str, list[float]]:
    """0 stands for what is not told."""
    metrics = {"ttft_s": ttft_s, "tpot_s": tpot_s, "latency_s": latency_s, "output_tps": output_tps}
    figures = {name: [value] for name, value in metrics.items() if value}
    return figures | ({"user_tps": [1 / tpot_s]} if tpot_s else {})


def _workload(prompt: int, output: int, rate: float | None) -> Generation:
    name = f"serve-{prompt}-{output}" + (f"-{rate:g}-per-s" if rate is not None else "")
    return Generation(name, "tokens", prompt, output)


def _sent(requests: float | None, duration_s: float | None, rate: float | None) -> int:
    """How many requests come at a fixed rate, from the settings alone: all of them may be under way at once. 0: not told."""
    return round(requests or (rate or 0) * (duration_s or 0)) if rate is not None else 0
