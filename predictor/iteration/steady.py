"""How far a pipeline runs on as it does: repetitions of a block that need not be swept.

The times ``x`` of a block follow from those of the block before it, and from one another, by
``x'[i] = max over j of A[i, j] + x[j]``. Let ``d = x' - x`` be what the last repetition added to
each time. The next adds ``d`` again, and so does each after it, as long as for every time ``i``

* something with ``d[j] = d[i]`` is what it follows from, that is ``A[i, j] + x[j] = x'[i]``, and
* nothing with ``d[j] > d[i]`` has caught up: ``n·(d[j] - d[i]) <= x'[i] - A[i, j] - x[j]``,

for then the maximum stays where it is, ``n`` repetitions long. Times need not all move on at one
pace: a host that is slower than its GPU, but has run ahead of it, moves on by more until the GPU
waits for it. So a pipeline is moved on from one such change to the next, and swept only there.
"""

from typing import Final

import numpy as np

from predictor.costs.prediction import Floats
from predictor.iteration.net import Net, widened

SAME: Final = 1e-11
"""Of a block's seconds; differences below it are of rounding."""


def move_on(net: Net, time: Floats, seconds: Floats, most: int) -> int:
    """Move the times of a net's block on by repetitions of it that add the same again.

    Args:
        net: The times.
        time: All of them up to the end of the block, by row, and node and scenario.
        seconds: From each source on, by row, source, and node and scenario.
        most: Repetitions.

    Returns:
        How many repetitions they were moved on by.
    """
    block = net.block
    here, before = slice(block.begin, block.end), slice(block.before, block.begin)
    rate = np.zeros_like(time)
    rate[here] = rate[before] = time[here] - time[before]
    same = SAME * float(np.max(rate))
    source = widened(net, time.shape[1] // net.source.shape[2])[here]
    slack = time.take(source)
    slack += seconds[here]
    np.subtract(time[here, None], slack, out=slack)
    faster = rate.take(source)
    faster -= rate[here, None]
    later = faster > same
    if not ((slack <= same) & ~later & (faster >= -same)).any(axis=1).all():
        return 0
    left = slack[later] / faster[later]
    repetitions = int(np.min(left, initial=most))
    time[here] += repetitions * rate[here]
    return repetitions
