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
COMPILED_HOST: Final = 5
"""Host cost of compiled models: half a minute of compilation each."""
WIDE: Final = 6
"""The rest of the box that the cost functions cover."""
BETWEEN: Final = 7
"""Products of sizes between those of the tiers before: shards, vocabularies, few rows."""

NAMES: Final = {
    ANCHOR: "anchors",
    CORE: "core",
    HOST: "host",
    COMPILED: "compiled",
    SUSTAINED: "sustained",
    COMPILED_HOST: "compiled host",
    WIDE: "wide",
    BETWEEN: "between",
}
