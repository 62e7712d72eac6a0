"""The room as the runner uses it, on whatever machine runs this test: what is not there is null with a reason, never
0."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from rigbench.analysis import energy, flags
from rigbench.clock import now_ns
from rigbench.records import PhaseMark
from rigbench.telemetry import host, open_sources
from rigbench.telemetry.base import SourceOptions
from rigbench.telemetry.sampler import Sampler


def test_one_case_on_this_machine() -> None:
    sampler = Sampler(open_sources(SourceOptions()))
    sampler.watch(os.getpid())
    was_reset = host.reset_peak(os.getpid())
    start = now_ns()
    for _ in range(3):  # in place of the threads, which would have to be waited for
        for lane in sampler.lanes:
            for group in lane.groups.values():
                lane.read(group)
    end = now_ns()
    readings = sampler.window(start, start, end)
    memory = host.host_memory(readings, os.getpid(), was_reset)
    sampler.stop()

    for series in readings:
        assert len(series.time_us) == len(series.values)
        assert list(series.time_us) == sorted(series.time_us)
        if series.status in ("unavailable", "denied"):
            assert series.reason and not series.values
        if series.unit == "W":
            assert all(value is None or value > 0 for value in series.values)
    for each in energy.case_energies(readings, 0, (end - start) // 1000):
        assert each.joules is None and each.reason  # far below 2 s
        assert each.watts_mean is None and each.watts_peak is None
    assert memory.rss_peak_bytes is not None and memory.rss_peak_bytes > 5e6
    assert isinstance(flags.reading_flags(readings, [PhaseMark("measure", 0, (end - start) // 1000)], 2), tuple)
    json.dumps({"readings": [asdict(series) for series in readings], "telemetry": sampler.report()}, allow_nan=False)
