"""Importance of points: a short budget measures the first tiers only."""

from typing import Final

ANCHOR: Final = 0
"""A few points of every operator, in more rounds."""
CORE: Final = 1
"""What real training steps are made of."""
HOST: Final = 2
"""What it costs the host to launch them."""
COMPILED: Final = 3
"""Generated kernels: seconds of compilation each."""
SUSTAINED: Final = 4
"""Long loads at the settled clock."""
WIDE: Final = 5
"""The rest of the box that the cost functions cover."""
COMPILED_HOST: Final = 6
"""Host cost of compiled models: tens of seconds of compilation each."""

NAMES: Final = {
    ANCHOR: "anchors",
    CORE: "core",
    HOST: "host",
    COMPILED: "compiled",
    SUSTAINED: "sustained",
    WIDE: "wide",
    COMPILED_HOST: "compiled host",
}
