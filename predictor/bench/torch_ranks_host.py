"""What stacks of many ranks cost the host, measured on one GPU among ranks that do not exist.

PyTorch's ``fake`` process group answers every collective at once without sending anything, so the
Python, the hooks and the copies of FSDP2 and Megatron-Core run as they do among two ranks. What
NCCL's side of a collective adds is measured on a communicator of one.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any, Final

import torch
import torch.distributed as dist

from predictor.bench.host_rounds import Quantities
from predictor.bench.steps.steps import MEGATRON
from predictor.bench.torch_small_steps import STEPS, Steps, Workings, layer_quantities

DISTRIBUTED: Final = "torch.distributed"
_RANKS: Final = 2
_CALLS: Final = 50
_ELEMENTS: Final = 1024
_DEPTHS: Final = (1, 5)
_EXPERTS: Final = (2, 8)
_SHAPE: Final[dict[str, Any]] = {
    "name": "megatron-gpt",
    "hidden_size": 128,
    "ffn_hidden_size": 256,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "gated_mlp": True,
    "normalization": "rmsnorm",
    "position_embedding": "rope",
    "tied_embeddings": False,
    "qk_norm": False,
}


def join_imagined_ranks() -> None:
    """Be rank 0 of two in a group that sends nothing, unless there is a group already."""
    from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415

    if not dist.is_initialized():
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=_RANKS)


def collective_quantities() -> Callable[[], Quantities]:
    """Host seconds of a collective that the stream waits for: PyTorch's side and NCCL's."""
    join_imagined_ranks()
    alone = dist.ProcessGroupNCCL(dist.HashStore(), 0, 1, dist.ProcessGroupNCCL.Options())
    mine = torch.zeros(_ELEMENTS, device="cuda")
    all_ranks = torch.zeros(_RANKS * _ELEMENTS, device="cuda")
    into = torch.zeros_like(mine)

    def seconds() -> float:
        called = _call_seconds(lambda: dist.all_gather_into_tensor(all_ranks, mine))
        return called + _call_seconds(lambda: alone._allgather_base(into, mine).wait())  # noqa: SLF001

    return lambda: {("forward", "collective"): median(seconds() for _ in range(STEPS))}


def _call_seconds(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(_CALLS):
        call()
    seconds = (time.perf_counter() - begin) / _CALLS
    torch.cuda.synchronize()
    return seconds


def megatron_quantities(block: str) -> Callable[[], Quantities]:
    """Host seconds of Megatron-Core's local layers.

    Args:
        block: ``llama`` (dense) or ``moe``: then a ``layer`` is one without experts and an
            ``expert`` what each that a rank holds adds.

    Raises:
        NotImplementedError: Another block, or Megatron-Core is not installed.
    """
    if find_spec("megatron") is None:
        raise NotImplementedError("Megatron-Core is not installed (`pip install megatron-core`)")
    if block not in {"llama", "moe"}:
        raise NotImplementedError(f"no small model of block {block!r} in {MEGATRON}")
    join_imagined_ranks()
    if block == "llama":
        models = [Steps(megatron(depth), "cuda") for depth in _DEPTHS]
        return lambda: layer_quantities([steps.measured() for steps in models])
    few, many = _EXPERTS
    routed = [Steps(megatron(depth, few), "cuda") for depth in _DEPTHS]
    crowded = Steps(megatron(_DEPTHS[-1], many), "cuda")

    def quantities() -> Quantities:
        measured = [steps.measured() for steps in routed]
        values, more = layer_quantities(measured), crowded.measured()
        for phase in ("forward", "backward"):
            added = getattr(more, phase) - getattr(measured[-1], phase)
            values[phase, "expert"] = added / (_DEPTHS[-1] * (many - few))
            values[phase, "layer"] -= few * values[phase, "expert"]
        return values

    return quantities


def megatron(layers: int, experts: int = 0) -> Workings:
    """A small GPT of Megatron-Core's local layers."""
    from predictor.bench.steps import megatron as stack  # noqa: PLC0415 - needs Megatron-Core

    shape = {**_SHAPE, "num_layers": layers}
    if experts:
        shape["moe"] = {"num_experts": experts, "top_k": 2, "expert_ffn_hidden_size": 256}
    step = {"model": shape, "batch": 1, "seq_length": 64}
    mine = stack.built(step)
    (model,) = mine.models
    tokens, places = stack.inputs(step)

    def optimize() -> None:
        mine.optimizer.step()
        stack.forget(mine)

    return Workings(
        layers=layers,
        tensors=len(list(model.parameters())),
        forward=lambda: model(tokens, places, None, labels=tokens).mean(),
        optimize=optimize,
    )
