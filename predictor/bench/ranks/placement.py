"""Which ranks form the groups of a collective."""

from collections.abc import Sequence

from predictor.bench.process import RequestFailed
from predictor.operators import Collective, SendRecv


def groups_for(operator: Collective, hosts: Sequence[str]) -> list[list[int]]:
    """Ranks of each group, in order.

    A group takes ``ranks_per_node`` free ranks of each of as many hosts as it spans, from the first
    host that still has so many.

    Args:
        operator: A collective.
        hosts: Host of each rank of the run.

    Raises:
        RequestFailed: The run's ranks cannot form the groups (``unsupported``).
    """
    if isinstance(operator, SendRecv) and operator.pattern != "ring":
        return [_pair(operator, hosts)]
    free: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        free.setdefault(host, []).append(rank)
    groups = []
    for _ in range(operator.groups):
        group: list[int] = []
        for ranks in free.values():
            wanted = min(operator.ranks_per_node, operator.ranks - len(group))
            if 0 < wanted <= len(ranks):
                group += ranks[:wanted]
                del ranks[:wanted]
        if len(group) < operator.ranks:
            raise _unsupported(operator, hosts)
        groups.append(group)
    return groups


def _pair(operator: SendRecv, hosts: Sequence[str]) -> list[int]:
    pair = [operator.source, operator.destination]
    if max(pair) >= len(hosts) or pair[0] == pair[1] or operator.ranks != len(pair):
        raise _unsupported(operator, hosts)
    together = hosts[pair[0]] == hosts[pair[1]]
    if together != (operator.ranks_per_node >= len(pair)):
        raise _unsupported(operator, hosts)
    return pair


def _unsupported(operator: Collective, hosts: Sequence[str]) -> RequestFailed:
    message = f"{operator} cannot be placed on {len(hosts)} ranks of {len(set(hosts))} host(s)"
    return RequestFailed("unsupported", message, lost=False)
