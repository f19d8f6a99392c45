"""What the host spends: seconds of one CPU thread to launch layers, steps and bare kernels.

Layers are those of small random models (``torch_small_steps``); bare launches are chains of adds.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

import torch

from predictor.bench import torch_ranks_host
from predictor.bench.host_rounds import Group, HostWorkload, Quantities
from predictor.bench.steps.steps import MEGATRON
from predictor.bench.torch_small_steps import (
    STEPS,
    Steps,
    Workings,
    layer_quantities,
    synchronize,
)
from predictor.operators import Host

_DEPTHS: Final = {"hf-eager": (1, 9), "hf-compile": (1, 4), "hf-fsdp2": (1, 9)}
_VOCABULARY: Final = 512
_SEQ_LENGTH: Final = 32
_CHAIN: Final = 500
_GATE_CYCLES: Final = 30_000_000


class HostCosts:
    """Measures groups of quantities that come from the same steps."""

    def __init__(self, *, device: str) -> None:
        """Measure with models on ``device``."""
        self._device = device
        self._groups: dict[tuple[str, str], Group] = {}

    def prepare(self, operator: Host) -> HostWorkload:
        """A quantity's workload; the first of a group builds what the group measures."""
        name = (operator.stack, operator.block)
        if name not in self._groups:
            self._groups[name] = Group(self._measurer(operator), samples=STEPS)
        group = self._groups[name]
        quantity = (operator.phase, operator.quantity)
        return group.workload(f"host {name}", quantity)

    def _measurer(self, operator: Host) -> Callable[[], Quantities]:
        stack, block = operator.stack, operator.block
        if stack == "torch":
            return lambda: bare_quantities(self._device)
        if stack == torch_ranks_host.DISTRIBUTED:
            return torch_ranks_host.collective_quantities()
        if stack == MEGATRON:
            return torch_ranks_host.megatron_quantities(block)
        if stack not in _DEPTHS:
            raise NotImplementedError(f"no host costs of stack {stack!r}")
        if stack == "hf-fsdp2":
            torch_ranks_host.join_imagined_ranks()
        models = [
            Steps(
                transformer(
                    block,
                    depth,
                    self._device,
                    compiled=stack == "hf-compile",
                    sharded=stack == "hf-fsdp2",
                ),
                self._device,
            )
            for depth in _DEPTHS[stack]
        ]
        return lambda: layer_quantities([steps.measured() for steps in models])


def transformer(
    block: str, layers: int, device: str, *, compiled: bool = False, sharded: bool = False
) -> Workings:
    """A causal language model of one kind of block, in bf16 with PyTorch's attention.

    Args:
        block: ``llama``, ``qwen3`` or ``gpt2``.
        layers: Depth.
        device: Where.
        compiled: Through ``torch.compile``.
        sharded: Each block a unit of FSDP2 over the default process group.
    """
    from predictor.bench.steps.child import shard  # noqa: PLC0415

    model = _model(block, layers).to(device)
    if sharded:
        shard(model.float())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    called = torch.compile(model) if compiled else model
    ids = torch.randint(_VOCABULARY, (1, _SEQ_LENGTH), device=device)

    def optimize() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return Workings(
        layers=layers,
        tensors=len(list(model.parameters())),
        forward=lambda: called(input_ids=ids, labels=ids, use_cache=False).loss,
        optimize=optimize,
    )


def _model(block: str, layers: int) -> Any:  # noqa: ANN401 - a transformers model
    """A causal language model of one kind of block, in bf16 with PyTorch's attention."""
    import transformers  # noqa: PLC0415 - seconds to import

    common = {
        "vocab_size": _VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 128,
    }
    configs: dict[str, Callable[[], Any]] = {
        "llama": lambda: transformers.LlamaConfig(**common),
        "qwen3": lambda: transformers.Qwen3Config(**common),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=_VOCABULARY,
            n_embd=128,
            n_layer=layers,
            n_head=4,
            n_positions=128,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_pdrop=0.0,
        ),
    }
    if block not in configs:
        raise NotImplementedError(f"no small model of block {block!r}")
    return transformers.AutoModelForCausalLM.from_config(
        configs[block](), attn_implementation="sdpa", dtype=torch.bfloat16
    )


def bare_quantities(device: str) -> Quantities:
    """Host seconds of a bare launch, and the GPU's idle time between dependent launches."""
    x = torch.zeros(1, device=device)
    with torch.no_grad():
        launch = median(_chain_seconds(x, device) for _ in range(STEPS)) / _CHAIN
        queued = median(_queued_seconds(x) for _ in range(STEPS)) / _CHAIN
        graph = _chain_graph(x)
        replayed = median(_replay_seconds(graph) for _ in range(STEPS)) / _CHAIN
    return {("forward", "launch"): launch, ("forward", "gap"): queued - replayed}


def _chain_seconds(x: torch.Tensor, device: str) -> float:
    """Host seconds to enqueue a chain of out-of-place adds."""
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(_CHAIN):
        x = x + 1.0
    seconds = time.perf_counter() - begin
    synchronize(device)
    return seconds


def _queued_seconds(x: torch.Tensor) -> float:
    """GPU seconds of a chain that was wholly queued behind a gate before it began."""
    with _timed() as elapsed:
        for _ in range(_CHAIN):
            x.add_(1.0)
    return elapsed()


def _chain_graph(x: torch.Tensor) -> Any:  # noqa: ANN401 - a CUDAGraph
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_CHAIN):
            x.add_(1.0)
    return graph


def _replay_seconds(graph: Any) -> float:  # noqa: ANN401 - a CUDAGraph
    with _timed() as elapsed:
        graph.replay()
    return elapsed()


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    """Events around work that a gate holds back until all of it is queued."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def elapsed() -> float:
        end.synchronize()
        return 1e-3 * float(begin.elapsed_time(end))

    torch.cuda._sleep(_GATE_CYCLES)  # noqa: SLF001 - the only spinning kernel PyTorch offers
    begin.record()
    yield elapsed
    end.record()
