"""Which GPUs are known: the folders of ``bench_results`` that hold a datasheet."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from predictor.case.datasheets import Gpu, parse_datasheet
from predictor.case.presets import closest
from predictor.errors import TableError, UnknownName
from predictor.files import MEBIBYTE, read_toml

NODE_GPUS = 8
"""A scale-up domain of more GPUs than this spans nodes: its size is the datasheet's."""

FOLDER_VARIABLE = "PREDICTOR_BENCH_RESULTS"
GPU_FILE = "gpu.toml"
ADDING = "docs/adding_a_gpu.md adds one by its datasheet"

_PACKAGE = Path(__file__).parents[1]
_SKU = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""A folder of bench_results, and no way out of it."""


def domain_gpus(gpu: Gpu, gpus_per_node: int | None) -> int:
    """GPUs that NVLink joins: those of a node, or of the rack where NVLink leaves the node."""
    if gpu.scaleup_gpus > NODE_GPUS:
        return gpu.scaleup_gpus
    return gpus_per_node or gpu.scaleup_gpus


def bench_results_folder() -> Path:
    """Return the folder of tables: the environment's, the checkout's or the packaged copy.

    Raises:
        TableError: PREDICTOR_BENCH_RESULTS names no folder, or the installation holds none.
    """
    return _folder(os.environ.get(FOLDER_VARIABLE))


@cache
def _folder(chosen: str | None) -> Path:
    if chosen:
        if not Path(chosen).is_dir():
            raise TableError(f"{FOLDER_VARIABLE} = {chosen}: is not a folder")
        return Path(chosen)
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "bench_results").is_dir():
        return checkout / "bench_results"
    packaged = _PACKAGE / "_bench_results"
    if packaged.is_dir():
        return packaged
    raise TableError(
        f"no bench_results folder in {packaged} or {checkout}; name one in {FOLDER_VARIABLE}"
    )


def gpu_names() -> tuple[str, ...]:
    """Return the SKUs of all known GPUs, sorted."""
    return tuple(sorted(path.parent.name for path in bench_results_folder().glob(f"*/{GPU_FILE}")))


def has_gpu(sku: str) -> bool:
    """Return whether ``sku`` names a known GPU."""
    named = _SKU.fullmatch(sku) is not None
    return named and (bench_results_folder() / sku / GPU_FILE).is_file()


def load_gpu(sku: str) -> Gpu:
    """Read the datasheet of a GPU.

    Raises:
        UnknownName: No folder of bench_results has that name.
        TableError: The file is damaged; the message names the file and the key.
    """
    return _read(bench_results_folder(), sku)


@cache
def _read(folder: Path, sku: str) -> Gpu:
    path = folder / sku / GPU_FILE
    if not _SKU.fullmatch(sku) or not path.is_file():
        raise UnknownName(f"no GPU is called {sku!r}{ways_out(sku)}")
    raw = read_toml(path, TableError, MEBIBYTE)
    try:
        return parse_datasheet(sku, raw)
    except KeyError as error:
        raise TableError(f"{path}: key {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise TableError(f"{path}: not a datasheet ({error})") from error


def ways_out(sku: str) -> str:
    """Return what to do about a name that no GPU has: the nearest one, the list, another folder."""
    lists = f"{closest(sku, gpu_names())}; `predictor gpus` lists them; {ADDING}"
    return lists + _of_another_folder(bench_results_folder(), sku)


def _of_another_folder(folder: Path, sku: str) -> str:
    """Say what a folder of that name lacks, here or in the working directory."""
    if not _SKU.fullmatch(sku):
        return ""
    if (folder / sku).is_dir():
        return f"; {folder / sku} lacks a {GPU_FILE}, its datasheet (docs/adding_a_gpu.md)"
    here = Path("bench_results") / sku
    return f"; {here} is read with {FOLDER_VARIABLE}=bench_results" if here.is_dir() else ""
