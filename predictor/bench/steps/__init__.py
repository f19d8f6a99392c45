"""Real training steps on the GPUs at hand: small models in, run records out.

Each step runs in a process of its own, which alone imports PyTorch and the training stack: a
compiled model or a half-broken allocator of one step never touches the next. What comes back is a
run record, as ``predictor validate`` reads them: the case that was run, with its time and its peak
of memory.
"""

from predictor.bench.steps.running import Measured, measure_steps
from predictor.bench.steps.steps import STEPS, Step, chosen_steps

__all__ = ["STEPS", "Measured", "Step", "chosen_steps", "measure_steps"]
