"""What holds for all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """The modules stay for good: without them a collection, which the load loop makes before each window, costs a tenth."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What is frozen could not be freed when Python ends: libraries that look for leaks would report it."""
    gc.unfreeze()
