"""What the host spends: seconds of one CPU thread to launch layers, steps and bare kernels.

Small random models keep the GPU far ahead, so the time until a phase's calls return is the host's
alone. Two depths give the cost a layer (slope) and a step (intercept); for the optimizer, which
walks tensors, the slope is a tensor's. A round is a median over steps, each ending in a
synchronisation; a phase's own calls end before it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch

from predictor.bench.host_rounds import Group, HostWorkload, Quantities
from predictor.operators import Host

STEPS: Final = 15
WARMUP_STEPS: Final = 4
_DEPTHS: Final = {"hf-eager": (1, 9), "hf-compile": (1, 4)}
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
        if operator.stack == "torch":
            return lambda: bare_quantities(self._device)
        if operator.stack not in _DEPTHS:
            raise NotImplementedError(f"no host costs of stack {operator.stack!r}")
        models = [
            Steps(operator.block, depth, self._device, compiled=operator.stack == "hf-compile")
            for depth in _DEPTHS[operator.stack]
        ]
        return lambda: layer_quantities([steps.measured() for steps in models])


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Median host seconds of a step's phases for one depth.

    Attributes:
        layers: Depth of the model.
        tensors: Parameter tensors.
        forward: With the loss.
        backward: Until the engine has queued everything.
        optimizer: Fused step, and forgetting the gradients.
        waiting: What the GPU needed after that.
    """

    layers: int
    tensors: int
    forward: float
    backward: float
    optimizer: float
    waiting: float


def layer_quantities(measured: list[Phases]) -> Quantities:
    """Slopes and intercepts from two depths.

    Raises:
        RuntimeError: The GPU was the slower one, so the host's time is not what was measured.
    """
    shallow, deep = measured
    for each in measured:
        if each.waiting > 0.5 * (each.forward + each.backward + each.optimizer):
            raise RuntimeError(f"the GPU is the slower one: {each}")
    values: Quantities = {}
    for phase, unit, more in (
        ("forward", "layer", deep.layers - shallow.layers),
        ("backward", "layer", deep.layers - shallow.layers),
        ("optimizer", "tensor", deep.tensors - shallow.tensors),
    ):
        slope = (getattr(deep, phase) - getattr(shallow, phase)) / more
        start = shallow.layers if unit == "layer" else shallow.tensors
        values[phase, unit] = slope
        values[phase, "fixed"] = getattr(shallow, phase) - slope * start
    return values


class Steps:
    """A small model that takes training steps."""

    def __init__(self, block: str, layers: int, device: str, *, compiled: bool) -> None:
        """Build the model, compile it if asked, and take warm-up steps."""
        model = _model(block, layers).to(device)
        self._layers = layers
        self._device = device
        self._tensors = len(list(model.parameters()))
        self._ids = torch.randint(_VOCABULARY, (1, _SEQ_LENGTH), device=device)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        self._model = torch.compile(model) if compiled else model
        for _ in range(WARMUP_STEPS):
            self._step()

    def measured(self) -> Phases:
        """Medians over steps."""
        steps = [self._step() for _ in range(STEPS)]
        forward, backward, optimizer, waiting = (median(part) for part in zip(*steps, strict=True))
        return Phases(
            layers=self._layers,
            tensors=self._tensors,
            forward=forward,
            backward=backward,
            optimizer=optimizer,
            waiting=waiting,
        )

    def _step(self) -> tuple[float, float, float, float]:
        clock = time.perf_counter
        begin = clock()
        loss = self._model(input_ids=self._ids, labels=self._ids, use_cache=False).loss
        forward = clock()
        loss.backward()
        backward = clock()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        optimizer = clock()
        _synchronize(self._device)
        return forward - begin, backward - forward, optimizer - backward, clock() - optimizer


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
    _synchronize(device)
    begin = time.perf_counter()
    for _ in range(_CHAIN):
        x = x + 1.0
    seconds = time.perf_counter() - begin
    _synchronize(device)
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


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
