"""What holds for all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """The modules stay for good: without them a collection, which the load loop makes before each window, costs a tenth."""
    gc.collect()
    gc.freeze()
