"""Importance of points: a short budget measures the first tiers only."""

from typing import Final

ANCHOR: Final = 0
"""A few points of every operator, in more rounds."""
FINGERPRINT: Final = 1
"""What a fit of the SKU needs at least: the most telling of the core and wide points."""
CORE: Final = 2
"""What real training steps are made of."""
HOST: Final = 3
"""What it costs the host to launch them."""
COMPILED: Final = 4
"""Generated kernels: seconds of compilation each."""
SUSTAINED: Final = 5
"""Long loads at the settled clock."""
COMPILED_HOST: Final = 6
"""Host cost of compiled models, half a minute of compilation each, and of stacks of many ranks."""
WIDE: Final = 7
"""The rest of the box that the cost functions cover."""
BETWEEN: Final = 8
"""Sizes between those of the tiers before: shards, experts, vocabularies, few rows, copies."""

NAMES: Final = {
    ANCHOR: "anchors",
    FINGERPRINT: "fingerprint",
    CORE: "core",
    HOST: "host",
    COMPILED: "compiled",
    SUSTAINED: "sustained",
    COMPILED_HOST: "compiled host",
    WIDE: "wide",
    BETWEEN: "between",
}
