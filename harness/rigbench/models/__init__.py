"""Models: what they are (catalog, tensors, quants), what a step reads of them (footprint, kv, folders), where they come
from (files, hub, synthetic, synthetic_folder) and the format of their files (gguf, layout, folder_layout)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what is being made or fetched, bytes done, bytes in all)."""
