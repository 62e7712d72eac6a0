"""Models: how they are named (names), where they are (resolve, hub, synthetic/, hashes), what they are (shapes, tensors, mixes,
formats/) and what a decode step reads of them (footprint, kv)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (the model being made or fetched, bytes done, bytes in all)."""
