"""The host's readings of this very process."""

from __future__ import annotations

import os
import sys

import pytest

from rigbench.telemetry.host_source import HostSource
from rigbench.telemetry.source import Missing

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux /proc")


@linux
def test_this_process_is_read_for_real() -> None:
    source = HostSource()
    before = dict(zip((m.name for m in source.metrics), source.read(source.metrics), strict=True))
    assert before["rss"] == Missing("no worker is running")
    assert isinstance(before["cpu_busy"], float) and isinstance(before["cpu_ours"], float)
    assert before["cpu_busy"] >= before["cpu_ours"] > 0
    source.watch(os.getpid())
    after = dict(zip((m.name for m in source.metrics), source.read(source.metrics), strict=True))
    total, anonymous, backed = after["rss"], after["rss_anonymous"], after["rss_file_backed"]
    assert not isinstance(total, Missing) and not isinstance(anonymous, Missing) and not isinstance(backed, Missing)
    assert total > 5e6 and total == anonymous + backed
