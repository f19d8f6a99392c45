"""What the host costs: seconds of one CPU thread to get work onto the GPU's queue."""

from typing import ClassVar

from predictor.values import frozen


@frozen(kw_only=True)
class Host:
    """One host-side activity of a training stack.

    Attributes:
        stack: ``hf-eager``, ``hf-compile``, ``hf-fsdp2``, ``megatron-core-local``, ``torch`` (a
            bare chain of operators), ``torch.distributed``, or ``cuda`` (the runtime's own calls,
            measured natively).
        block: Kind of transformer layer (``llama``, ``qwen3``, ``gpt2``, ``moe``), or ``any``.
        phase: ``forward``, ``backward`` or ``optimizer``.
        quantity: ``layer`` (seconds a layer), ``fixed`` (seconds a step beside the layers),
            ``tensor`` (seconds a parameter tensor), ``expert`` (seconds an expert of a layer, which
            then stands for itself without any), ``launch`` (seconds a bare launch),
            ``collective`` (seconds a call that the stream waits for),
            ``gap`` (idle seconds of the GPU between two dependent kernels of a full queue). Of
            ``cuda``: ``launch``, ``event_record``, ``stream_wait``, ``graph_launch`` (a replay of
            one node) and ``graph_launch_node`` (each further one) of the host; ``graph_node``
            (an empty kernel in a replayed chain) and ``stream_hop`` (what a kernel that waits for
            another stream's event starts later) of the GPU.
    """

    name: ClassVar[str] = "host"

    stack: str
    block: str = "any"
    phase: str = "forward"
    quantity: str = "layer"

    @property
    def flops(self) -> float:
        """None on the GPU."""
        return 0.0

    @property
    def bytes(self) -> float:
        """None on the GPU."""
        return 0.0

    @property
    def working_set_bytes(self) -> float:
        """None on the GPU."""
        return 0.0
