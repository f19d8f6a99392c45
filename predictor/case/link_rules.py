"""Rules of ``[cluster.links]``: a square of rates, links that differ, places of nodes or GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case.limits import LEAST_RATE
from predictor.case.rule import RuleError

if TYPE_CHECKING:
    from predictor.case.cluster_schema import Cluster, Links

MAX_LINKED = 2048
"""Nodes or GPUs whose links can be told one by one."""

_OVERRIDE_NUMBERS = 3


def check_links(cluster: Cluster, links: Links) -> None:
    """Hold the rules of a cluster's links.

    Raises:
        RuleError: The first rule that is broken.
    """
    matrix, overrides = links.bytes_per_second or (), links.overrides or ()
    for row, rates in enumerate(matrix):
        if len(rates) != len(matrix):
            rule = f"must have as many entries as there are rows ({len(matrix)})"
            raise RuleError(f"cluster.links.bytes_per_second[{row}]", f"{len(rates)} rates", rule)
        for column, rate in enumerate(rates):
            if rate < LEAST_RATE and row != column:
                key = f"cluster.links.bytes_per_second[{row}][{column}]"
                rule = f"must be at least {LEAST_RATE:g}; the diagonal alone may be 0"
                raise RuleError(key, rate, rule)
    most = (len(matrix) or MAX_LINKED) - 1
    for place, entry in enumerate(overrides):
        _check_override(f"cluster.links.overrides[{place}]", entry, most)
    _check_placement(cluster, links, most)


def _check_override(key: str, entry: tuple[float, ...], most: int) -> None:
    told = list(entry)
    if len(entry) != _OVERRIDE_NUMBERS or entry[0] == entry[1] or entry[2] < LEAST_RATE:
        rule = f"must be [from, to, bytes_per_second], of two and at least {LEAST_RATE:g}"
        raise RuleError(key, told, rule)
    if any(end != int(end) or not 0 <= end <= most for end in entry[:2]):
        raise RuleError(key, told, f"from and to must be whole numbers of 0 to {most}")


def _check_placement(cluster: Cluster, links: Links, most: int) -> None:
    if most >= MAX_LINKED:
        rule = f"may describe at most {MAX_LINKED} nodes or GPUs"
        raise RuleError("cluster.links.bytes_per_second", f"{most + 1} rows", rule)
    between = links.between or "nodes"
    each = 1 if between == "gpus" else cluster.gpus_per_node
    if each is None:
        return
    needed = -(-cluster.num_gpus // each)
    if needed > most + 1:
        rule = f"needs {needed} {between}, cluster.links describes {most + 1} at most"
        raise RuleError("cluster.num_gpus", cluster.num_gpus, rule)
    places = links.placement
    if places is not None and (
        len(places) != needed or len(set(places)) != needed or max(places) > most
    ):
        rule = f"must be {needed} different numbers of 0 to {most}, one for each place"
        raise RuleError("cluster.links.placement", f"{len(places)} places", rule)
