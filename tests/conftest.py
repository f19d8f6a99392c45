"""What tests need and where it is absent: a test is skipped by the name of what it lacks.

Examples of hypothesis are the same in every run, so that a change alone can break a test. Others
are drawn by ``pytest --hypothesis-profile random --hypothesis-seed NUMBER``.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile("same")


def _gpu_count() -> int:
    if find_spec("predictor._native") is None:
        return 0
    from predictor import _native  # noqa: PLC0415

    return int(_native.cuda_device_count())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpus = _gpu_count()
    absent = {
        "native": None if find_spec("predictor._native") else "no native extension was built",
        "gpu": None if gpus >= 1 else "no GPU, or no native extension built for one",
        "multigpu": None if gpus >= 2 else "fewer than two GPUs",
    }
    for item in items:
        for marker, reason in absent.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=f"{marker}: {reason}"))
