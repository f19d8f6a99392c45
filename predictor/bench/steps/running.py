"""The parent's side: what is installed, one process a step, a run record of what it measured."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from predictor.bench.sku import sku_of
from predictor.bench.steps.steps import MEGATRON, Step, chosen_steps
from predictor.case.gpus import gpu_names, has_gpu
from predictor.case.presets import closest
from predictor.errors import BenchError

TIMEOUT_SECONDS = 600.0
SHOWN_CHARACTERS = 300
CHILD = "predictor.bench.steps.child"
SOURCE = "predictor validate --measure"
Command = Sequence[str]


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a step.

    Attributes:
        step: The step.
        record: Its run record; None if it failed.
        failure: Why, in a line.
    """

    step: Step
    record: dict[str, Any] | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """The GPUs at hand.

    Attributes:
        sku: What they are.
        gpus: How many may be used.
        megatron: Megatron-Core is installed.
    """

    sku: str
    gpus: int
    megatron: bool = False


def machine(sku: str | None) -> Machine:
    """Look at the GPUs, without PyTorch.

    Args:
        sku: Name that the user insists on; None: by the driver's name of the first GPU.

    Raises:
        BenchError: There is no GPU, no PyTorch, no transformers, or the SKU has no datasheet.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(
            f"--measure runs real training steps and needs {' and '.join(missing)}, not installed "
            f"for {sys.executable}; `pip install torch transformers` there"
        )
    names = _gpu_names()
    found = sku_of({"name": names[0]}, sku or "auto")
    if not has_gpu(found):
        hint = closest(found, gpu_names())
        raise BenchError(
            f"--gpu {found}: has no datasheet{hint}, so nothing can be estimated for it; name one "
            "of `predictor gpus`"
        )
    return Machine(found, len(names), _has_megatron())


def _has_megatron() -> bool:
    try:
        return importlib.util.find_spec("megatron.core") is not None
    except ModuleNotFoundError:
        return False


def _gpu_names() -> list[str]:
    """Names of the GPUs that this process may use, by the driver.

    Raises:
        BenchError: There is none.
    """
    import pynvml  # noqa: PLC0415 - the driver's library is looked for only here

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(count)]
        names = [_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError as error:
        raise BenchError(
            f"--measure needs an NVIDIA GPU and its driver; the driver says: {error}"
        ) from error
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = names[: len([each for each in visible.split(",") if each.strip()])]
    if not names:
        raise BenchError("--measure needs an NVIDIA GPU; none is visible (CUDA_VISIBLE_DEVICES)")
    return names


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def measure_steps(
    names: tuple[str, ...] = (),
    *,
    sku: str | None = None,
    look: Callable[[str | None], Machine] = machine,
    run: Callable[[Command, float], tuple[int, str]] | None = None,
) -> Iterator[Measured]:
    """Measure steps one after the other.

    Args:
        names: Of steps; empty: all that the machine can run.
        sku: The GPUs; None: by their name.
        look: Finds the machine.
        run: Runs a command with a time limit; returns its exit code and what it wrote on stderr.

    Raises:
        BenchError: The machine cannot measure, or a name is not known.
    """
    here = look(sku)
    for step in chosen_steps(names, here.gpus, megatron=here.megatron):
        yield _measured(step, here, run or run_command)


def _measured(
    step: Step, here: Machine, run: Callable[[Command, float], tuple[int, str]]
) -> Measured:
    gpus = here.gpus if step.sharded else 1
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "step.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(asdict(step)), encoding="utf-8")
        command = command_of(gpus, asked, answer, distributed=step.distributed)
        code, words = run(command, TIMEOUT_SECONDS)
        if code != 0 or not answer.is_file():
            return Measured(step, None, f"exit code {code}: {_reason(words)}")
        measured = json.loads(answer.read_text(encoding="utf-8"))
    return Measured(step, record_of(step, here, gpus, measured))


def _reason(words: str) -> str:
    """The last line that names an error, else the last one: torchrun goes on talking after it."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line and not line.startswith("torch.distributed")]
    return (named or lines or ["it wrote nothing"])[-1][:SHOWN_CHARACTERS]


def command_of(gpus: int, asked: Path, answer: Path, *, distributed: bool) -> list[str]:
    """The child's command: plain Python, or torchrun's module where ranks must find each other."""
    launcher = [sys.executable]
    if distributed:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
    return [*launcher, "-m", CHILD, str(asked), str(answer)]


def run_command(command: Command, timeout_seconds: float) -> tuple[int, str]:
    """Run a command in a session of its own; at the time limit all of it is ended."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, words = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return 124, f"took longer than {timeout_seconds:.0f} s"
    except BaseException:
        _end(process)
        raise
    return process.returncode, words


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def record_of(step: Step, here: Machine, gpus: int, measured: dict[str, Any]) -> dict[str, Any]:
    """The run record of a measured step."""
    optimizers = {
        "hf-fsdp2": "adamw-fused-fp32",
        MEGATRON: "torch-adamw-foreach-fp32",
    }
    return {
        "id": f"{here.sku}/{step.name}",
        "source": SOURCE,
        "framework": measured["framework"],
        "implementation": step.implementation,
        "model": step.model,
        "training": {
            "seq_length": step.seq_length,
            "micro_batch_size": step.batch,
            "global_batch_size": step.batch * gpus,
            "precision": "bf16",
            "recompute": step.recompute,
            "master_weights": "fp32" if step.distributed else "none",
            "optimizer": optimizers.get(step.implementation, "adamw-fused-bf16-states"),
        },
        "plan": {
            "tensor_parallel": 1,
            "pipeline_parallel": 1,
            "data_parallel": gpus,
            "sharding": "parameters" if step.sharded else "none",
        },
        "cluster": {"gpu": here.sku, "num_gpus": gpus, "gpus_per_node": gpus},
        "measured": {
            "iteration_seconds": measured["iteration_seconds"],
            "min_max_seconds": measured["min_max_seconds"],
            "statistic": measured["statistic"],
            "peak_memory_bytes": measured["peak_memory_bytes"],
        },
    }
