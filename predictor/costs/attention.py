"""Bound and regressors of attention (eq. 6 and 6a-6e of docs/cost_model.md).

A kernel gives each block of 128 queries of a head to an SM, which walks over the key blocks that
the mask leaves. A step multiplies on the tensor cores and takes an exponential a score, 16 a clock
and SM; with narrow heads the exponentials take as long as the products. All seconds below are those
of the whole chip at the datasheet's rates, so that coefficients are multiples of it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from predictor.costs.attention_calls import BLOCK, Calls, calls_of
from predictor.costs.design import (
    LAUNCH_SECONDS,
    Chip,
    LinearDesign,
    column,
    flags,
    peaks,
    words,
)
from predictor.costs.prediction import Floats, Ints
from predictor.costs.tile_power import heated
from predictor.operators import Attention, Operator

FEW_KEYS: Final = 1024
"""Shorter sequences are a few blocks a head, whose order decides."""

EXPONENTIALS_PER_CLOCK: Final = 16
"""Of an SM's special function units (CUDA programming guide, throughput of instructions)."""

BLOCK_SECONDS: Final = 1e-6
"""To start a block, fill its pipeline and write its output: about a memory latency each."""

ATTENTION_PRIOR: Final = {
    "launch": (3.0, 0.4),
    "launch_backward": (8.0, 1.0),
    "block": (1.0, 0.5),
    "block_backward": (1.5, 0.7),
    "products": (1.1, 0.2),
    "products_backward": (1.3, 0.3),
    "exponentials": (0.8, 0.4),
    "exponentials_backward": (1.5, 0.7),
    "idle": (0.3, 0.3),
    "tail": (1.0, 0.5),
    "tail_backward": (1.0, 0.5),
    "over": (0.8, 0.3),
    "over_backward": (0.8, 0.3),
    "bias": (0.6, 0.4),
    "bias_backward": (0.0, 0.7),
    "bias_products": (0.8, 0.3),
    "bias_products_backward": (1.5, 0.5),
    "flash": (1.0, 0.5),
    "flash_backward": (1.0, 0.5),
    "flash_exponentials": (0.5, 0.5),
    "flash_exponentials_backward": (0.5, 0.5),
    "window": (0.0, 0.3),
    "window_backward": (0.0, 0.3),
    "packed": (0.0, 0.3),
    "packed_backward": (0.0, 0.3),
    "documents": (1.0, 1.0),
    "documents_backward": (1.0, 1.0),
    "edges": (0.0, 0.5),
    "edges_backward": (0.0, 0.5),
    "full": (-0.1, 0.1),
    "full_backward": (0.0, 0.1),
    "thin_values": (0.1, 0.2),
    "thin_values_backward": (0.0, 0.2),
    "wide": (0.1, 0.3),
    "wide_backward": (0.3, 0.3),
    "short": (-0.1, 0.1),
    "heat": (0.25, 0.15),
    "helpers": (1.4, 0.4),
    "memory": (1.1, 0.3),
}
"""Expected coefficient and its standard deviation: tensor cores reach most of their rate beside the
exponentials; options change little, but for a bias, whose kernels reach half of it. What a table
does not say is taken from here."""


def attention_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """Attention: launch plus its products at the tensor rate, or its tensors at HBM's (eq. 6)."""
    del cache  # as products
    calls = calls_of(rows)
    backward = calls.backward
    rate = peaks(chip, words(rows, "dtype"))
    compute = np.array([row.flops for row in rows if isinstance(row, Attention)]) / rate
    memory = column(rows, "bytes") / chip.bytes_per_second
    bound = LAUNCH_SECONDS * (1 + 2 * backward) + np.maximum(compute, memory)
    columns = _work(calls, rate, chip) | _options(rows, calls, rate, chip)
    helpers = backward * _helper_bytes(rows) / chip.bytes_per_second
    hidden = calls.heads * calls.scores * calls.width / rate + _exponentials(calls, chip)
    hidden = hidden + BLOCK_SECONDS * np.maximum(calls.blocks / chip.sm_count, 1.0)
    columns["helpers"] = helpers
    columns["memory"] = np.maximum(memory - helpers - hidden, 0.0)
    keys, head = column(rows, "seq_length"), column(rows, "head_dim")
    sizes = np.stack([keys, calls.heads, head, keys / calls.queries], axis=1)
    group = _group(rows, calls)
    return LinearDesign(
        bound=bound,
        floor=memory,
        coordinates=np.log2(sizes),
        group=group,
        stratum=_stratum(rows, calls),
        columns={name: columns[name] / bound for name in ATTENTION_PRIOR},
    )


def _work(calls: Calls, rate: Floats, chip: Chip) -> dict[str, Floats]:
    """Seconds of launches, blocks, products and exponentials, and of SMs that wait (eq. 6a-6d)."""
    products = calls.heads * calls.scores * calls.width / rate
    one = calls.longest * calls.width / rate * chip.sm_count
    filled = calls.blocks / chip.sm_count
    alike = np.minimum(products / filled / one, 1.0)
    last = np.ceil(filled * (1 - 1e-12)) / filled - 1.0
    both = {
        "launch": np.full_like(products, LAUNCH_SECONDS),
        "block": BLOCK_SECONDS * np.maximum(filled, 1.0),
        "products": products,
        "exponentials": _exponentials(calls, chip),
        "tail": np.minimum(one, products) * (1.0 - alike),
        "over": np.maximum(one - products, 0.0),
    }
    return _by_pass(both, calls) | {"idle": (filled > 1.0) * alike * last * products}


def _options(rows: Sequence[Operator], calls: Calls, rate: Floats, chip: Chip) -> dict[str, Floats]:
    """What masks, widths and libraries add, in seconds of the products or the exponentials."""
    products, exponentials = calls.heads * calls.scores * calls.width / rate, _exponentials
    value, head = column(rows, "value_dim"), column(rows, "head_dim")
    flash, packed = words(rows, "impl") == "flash", column(rows, "documents") > 1
    both = {
        "bias": exponentials(calls, chip) * flags(rows, "bias"),
        "bias_products": products * flags(rows, "bias"),
        "flash": products * flash,
        "flash_exponentials": exponentials(calls, chip) * flash,
        "window": products * (column(rows, "window") > 0),
        "full": products * (1 - flags(rows, "causal")),
        "thin_values": products * (value != head),
        "wide": products * (head > BLOCK),
        "packed": products * packed,
        "documents": BLOCK_SECONDS * calls.empty / chip.sm_count,
        "edges": exponentials(calls, chip) * calls.edges / calls.scores,
    }
    return _by_pass(both, calls) | {
        "short": products * (calls.queries < column(rows, "seq_length")),
        "heat": products * heated(products),
    }


def _by_pass(columns: dict[str, Floats], calls: Calls) -> dict[str, Floats]:
    """Each column for the forward pass and again for the backward pass."""
    backward = {f"{name}_backward": values * calls.backward for name, values in columns.items()}
    return {name: values * (1 - calls.backward) for name, values in columns.items()} | backward


def _exponentials(calls: Calls, chip: Chip) -> Floats:
    each = EXPONENTIALS_PER_CLOCK * chip.sm_count * chip.clock_hz
    return np.asarray(calls.heads * calls.scores / each)


def _helper_bytes(rows: Sequence[Operator]) -> Floats:
    """Bytes of backward's side kernels: o·do, the fp32 dq and its cast, sums over grouped heads."""
    heads, groups = column(rows, "num_heads"), column(rows, "num_query_groups")
    wide = column(rows, "batch") * column(rows, "queries") * column(rows, "head_dim")
    return np.asarray(wide * (14 * heads + (groups < heads) * 4 * (heads + groups)))


def _stratum(rows: Sequence[Operator], calls: Calls) -> Ints:
    """Whole causal or full squares of a library's own kernel, or what is rarer and less regular."""
    keys, head = column(rows, "seq_length"), column(rows, "head_dim")
    rare = (calls.queries < keys) | (keys < FEW_KEYS) | (head > BLOCK)
    rare |= (column(rows, "window") > 0) | (column(rows, "documents") > 1)
    rare |= words(rows, "impl") == "flash"
    return np.asarray(rare, dtype=np.int64)


def _group(rows: Sequence[Operator], calls: Calls) -> Ints:
    options = (
        calls.backward,
        flags(rows, "causal"),
        flags(rows, "bias"),
        words(rows, "impl") == "flash",
        column(rows, "window") > 0,
        column(rows, "documents") > 1,
        calls.queries < column(rows, "seq_length"),
        column(rows, "value_dim") != column(rows, "head_dim"),
    )
    return np.asarray(np.array(options).T @ 2 ** np.arange(len(options)), dtype=np.int64)
