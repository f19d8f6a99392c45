"""No status that a library returns is dropped: what csrc calls, and what becomes of the answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".cpp", ".hpp", ".cu", ".cuh"})

# The runtime by its names; the others through the pointers that csrc/libraries binds, and cuDNN's
# frontend through its handle and graphs.
CALL = re.compile(
    r"\bcuda(?!Error_t)[A-Z]\w+\s*\("
    r"|\b(?:lt_?|blas_?|nccl_?|library|cupti\(\))(?:\.|->)[a-z_]+\("
    r"|\bfe::detail::(?:create|destroy)_handle\(|\bfe::detail::set_stream\("
    r"|\bgraph_\.(?:validate|build_\w+|create_\w+|check_support|get_workspace_size|execute)\("
)
# What takes the status: a check, a test of it, or words that nothing hangs on it.
TAKEN = re.compile(
    r"CUDA_CHECK\(|CUBLAS_CHECK\(|NCCL_CHECK\(|cudnn_check\(|\bcheck\(|require(?:<\w+>)?\("
    r"|graph_check<\w+>\(|\(void\)|cudaError_t \w+ =|\breturn cuda\w+Query\("
    r"|== success|#define"
)
# These return no status.
NO_STATUS = re.compile(
    r"cudaGetError(?:Name|String)\(|error_text\(|last_error\(|lt_?\.version\(|get_version\(\)"
    r"|\.(?:path|has|bind|emplace|check)\("
)


def statements(text: str) -> list[str]:
    """Pieces of code between semicolons and braces, without comments."""
    code = re.sub(r"//[^\n]*", "", text)
    return [" ".join(piece.split()) for piece in re.split(r"[;{}]", code)]


def dropped(text: str) -> list[str]:
    """Statements that call a library and drop what it says."""
    return [
        piece
        for piece in statements(text)
        if CALL.search(piece) and not TAKEN.search(piece) and not NO_STATUS.search(piece)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CSRC)))
def test_every_status_is_taken(path: Path) -> None:
    assert dropped(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "void f() { cudaMemcpy(a, b, n, kind); }",
        "lt_.matmul(handle, operation);",
        "blas->set_stream(handle, stream);",
        "nccl_.group_end();",
        "fe::detail::set_stream(handle, stream);",
        "graph_.execute(handle_, addresses, workspace);",
    ],
)
def test_a_dropped_status_is_found(line: str) -> None:
    assert len(dropped(line)) == 1
