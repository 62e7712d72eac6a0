"""What the benchmarks of engines write, as figures: llama-bench, llama-batched-bench and mlx_lm.benchmark. One batch, no server.

llama-bench          pp -> prefill_tps, tg -> user_tps and output_tps (one user: the same)
llama-batched-bench  user_tps = tg / t_tg, output_tps = speed_tg, prefill_tps = speed_pp of one user alone
mlx_lm.benchmark     output_tps = generation_tps, a user's share of it is user_tps; prefill_tps = prompt_tps of one user alone
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rigbench.documents.exchange.entry import UNKNOWN, Entry, Figure, utc
from rigbench.documents.exchange.export import DEVICES
from rigbench.documents.exchange.export import LLAMA_BENCH as LLAMA_BENCH_FIELDS
from rigbench.text import last_part
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo

_FIELDS = list(LLAMA_BENCH_FIELDS)
SETTINGS = (*_FIELDS[_FIELDS.index("n_batch") : _FIELDS.index("n_prompt")], "n_depth", "use_mmap")
"""Of an entry of llama-bench: what goes into the case's options, so that two runs that differ in it are seen to."""


def llama_bench(entry: Entry) -> Iterator[Figure | str]:
    """One test of llama-bench."""
    prompt, generated, depth = entry.count("n_prompt"), entry.count("n_gen"), entry.count("n_depth")
    if bool(prompt) == bool(generated):
        yield "prompt and generation in one figure tell neither rate" if prompt else "no tokens"
        return
    mean = entry.above("avg_ts")
    rates = entry.positive("samples_ts") or ([mean] if mean else [])
    if not rates:
        yield "no figures"
        return
    cpu, gpu = entry.text("cpu_info"), entry.text("gpu_info")
    names = {title: device for device, title in DEVICES.items()} | {"Metal": "metal"}
    devices = [names[word] for word in re.findall(r"\w+", entry.text("backends")) if word in names]
    # before 2024 it wrote a switch for each backend
    devices = devices or [device for device in DEVICES if entry.content.get(device) is True]
    build = f"b{entry.count('build_number')}" if entry.count("build_number") else ""
    commit = entry.text("build_commit")
    engine = EngineInfo(
        "llama.cpp",
        f"{build} ({commit})" if build and commit else build or commit,
        next((device for device in devices if device != "cpu"), "cpu" if devices else UNKNOWN),
        device_names=(gpu or cpu,) if gpu or cpu else (),
        weights_bytes=entry.count("model_size") or None,
        parameters=entry.count("model_n_params") or None,
        threads=entry.count("n_threads") or None,
        detail={"model_type": entry.text("model_type")},
    )
    model = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", last_part(entry.text("model_filename")), flags=re.IGNORECASE)
    name = (f"pp{prompt}" if prompt else f"tg{generated}") + (f"-d{depth}" if depth else "")
    yield Figure(
        tool="llama-bench",
        backend="llama_cpp",
        model=model or UNKNOWN,
        workload=Generation(name, "tokens", prompt or depth, generated),
        users=1,
        requests=1,
        options=entry.settings(SETTINGS),
        engine=engine,
        metrics={"prefill_tps": rates} if prompt else {"user_tps": rates, "output_tps": rates},
        seconds=(entry.number("avg_ns") or 0) / 1e9 * len(rates),
        created_utc=utc(entry.text("test_time"))[0],
        machine=gpu or cpu,
        cpu=cpu,
        gpu=gpu,
        distinction={"model_size": entry.count("model_size")} if entry.count("model_size") else {},
    )


def batched(entry: Entry) -> Iterator[Figure | str]:
    """One line of llama-batched-bench."""
    prompt, generated, users = entry.count("pp"), entry.count("tg"), entry.count("pl")
    seconds, rate = entry.above("t_tg"), entry.above("speed_tg")
    if not (users and generated and seconds and rate):
        yield "no figures of a generation"
        return
    metrics = {"user_tps": [generated / seconds], "output_tps": [rate]}
    prefill = entry.above("speed_pp")
    if users == 1 and prompt and prefill:
        metrics["prefill_tps"] = [prefill]
    threads = entry.count("n_threads") or None
    names = ("n_kv_max", "n_batch", "n_ubatch", "flash_attn", "is_pp_shared", "n_gpu_layers", "n_threads")
    yield Figure(
        tool="llama-batched-bench",
        backend="llama_cpp",
        model=UNKNOWN,
        workload=Generation(f"pp{prompt}-tg{generated}", "tokens", prompt, generated),
        users=users,
        requests=users,
        options=entry.settings((*names, "n_threads_batch")),
        engine=EngineInfo("llama.cpp", "", UNKNOWN, threads=threads),
        metrics=metrics,
        seconds=entry.number("t") or seconds,
        note="the file tells neither model nor build",
    )


def mlx_benchmark(entry: Entry) -> Iterator[Figure | str]:
    """One run of mlx_lm.benchmark: a repetition from each of its trials."""
    prompt, generated, users = (entry.count(name) for name in ("prompt_tokens", "generation_tokens", "batch_size"))
    trials = entry.each("trials")
    rates = [rate for trial in trials if (rate := trial.above("generation_tps"))]
    if not (rates and users and generated):
        yield "no trial"
        return
    metrics = {"user_tps": [rate / users for rate in rates], "output_tps": rates}
    if users == 1:
        metrics["prefill_tps"] = [rate for trial in trials if (rate := trial.above("prompt_tps"))]
    metrics["memory_peak_bytes"] = [size * 1e9 for trial in trials if (size := trial.above("peak_memory"))]
    yield Figure(
        tool="mlx_lm.benchmark",
        backend="mlx_lm",
        model=UNKNOWN,
        workload=Generation(f"pp{prompt}-tg{generated}", "tokens", prompt, generated),
        users=users,
        requests=users,
        options={},
        engine=EngineInfo("mlx-lm", "", UNKNOWN),
        metrics={name: values for name, values in metrics.items() if values},
        seconds=sum(trial.number("total_time") or 0 for trial in trials),
        note="what is printed tells neither model nor version nor machine",
        definitions={
            "user_tps": "all tokens of an answer / the time after its first one: above ours by one token in them"
        },
    )
    if not entry.content.get("whole"):
        yield f"what comes after trial {len(trials)}: the run has no averages, so it was cut off"
