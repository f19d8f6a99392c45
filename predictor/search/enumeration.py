"""Every legal layout of a case over its GPUs.

Rules are those of :mod:`predictor.case.rules`, asked once for each distinct combination of the
fields that a rule is about; what only needs whole numbers to divide is done on whole columns. A
combination that a constraint names and a rule refuses is counted by that rule.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.case import Case, domain_gpus, load_gpu
from predictor.case.plan_schema import Plan
from predictor.case.rule import RuleError
from predictor.case.training_schema import Training
from predictor.costs.prediction import Ints
from predictor.errors import NotPredictable
from predictor.iteration.placement import is_even
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.search.menu import LEAST_TOKENS, MENUS, MOST_TOKENS, Menu
from predictor.search.space import Columns, Space, columns_of

Values = Sequence[Any]


def space_of(case: Case, global_batch_size: int, constraints: Mapping[str, Values]) -> Space:
    """Every legal layout of a case.

    Args:
        case: Resolved, without parallelism.
        global_batch_size: Sequences of an iteration.
        constraints: Values that each named field may take.

    Raises:
        NotPredictable: The stack cannot be searched, or not in the field that is constrained.
    """
    menu = MENUS.get(str(case.implementation))
    if menu is None:
        raise NotPredictable(f"implementation {case.implementation!r} cannot be searched")
    return _Enumeration(case, global_batch_size, constraints, menu).run()


class _Enumeration:
    """Columns that grow field by field; what cannot be legal leaves at once."""

    def __init__(
        self, case: Case, global_batch_size: int, constraints: Mapping[str, Values], menu: Menu
    ) -> None:
        self._case, self._batch = case, global_batch_size
        self._asked, self._menu = constraints, menu
        self._gpus = case.cluster.num_gpus
        self._domain = domain_gpus(load_gpu(case.cluster.gpu), case.cluster.gpus_per_node)
        self._refused: Counter[str] = Counter()
        self._columns: Columns = {}
        self._values: dict[str, tuple[Any, ...]] = {}

    def run(self) -> Space:
        """Cross the fields, one group that rules bind after another."""
        self._ranks()
        self._pipelines()
        self._batches()
        self._experts()
        self._independent()
        self._adapted()
        return Space(self._case, self._columns, self._values, self._flags(), self._refused)

    def _ranks(self) -> None:
        longest = max(1, self._case.training.seq_length // LEAST_TOKENS)
        tensor = self._degrees("tensor_parallel", "tensor", most=self._domain)
        context = self._degrees("context_parallel", "context", most=longest)
        rows = []
        for tp, cp in product(tensor, context):
            for sp in self._sequence(tp):
                fields = {"tensor_parallel": tp, "context_parallel": cp, "sequence_parallel": sp}
                if self._legal(tp * cp, fields):
                    rows += [(tp, cp, sp, place) for place in self._rings(tp, sp=sp)]
        self._values["sequence_parallel"] = (False, True)
        self._values["tp_overlap"] = tuple(self._choices("tp_overlap", (None, True)))
        self._columns = columns_of(
            ("tensor_parallel", "context_parallel", "sequence_parallel", "tp_overlap"), rows
        )
        product_ = self._columns["tensor_parallel"] * self._columns["context_parallel"]
        self._keep(self._gpus % product_ == 0, "the degrees do not divide num_gpus")

    def _sequence(self, tensor_parallel: int) -> Values:
        if tensor_parallel == 1:
            return (False,)
        able = self._menu.sequence if self._case.model.moe is None else self._menu.sequence[:1]
        return self._choices("sequence_parallel", able)

    def _rings(self, tensor_parallel: int, *, sp: bool) -> range:
        """Places of the values of ``tp_overlap``: it needs a stack that has it."""
        able = "tp_overlap" in self._menu.flags and sp and tensor_parallel > 1
        if "tp_overlap" in self._asked:
            return range(len(self._asked["tp_overlap"]))
        return range(2 if able and self._case.model.moe is None else 1)

    def _pipelines(self) -> None:
        """Stages, chunks and schedules; chunks as the stack asks for, in even parts."""
        model = self._case.model
        stages = self._degrees("pipeline_parallel", "pipeline", most=model.num_layers)
        schedules = self._choices("schedule", self._menu.schedules)
        self._values["schedule"] = tuple(schedules) if "1f1b" in schedules else ("1f1b", *schedules)
        rows = []
        for pp in stages:
            if pp == 1:
                rows.append((1, 1, self._values["schedule"].index("1f1b")))
                continue
            for vpp, place in product(self._chunks(pp), range(len(self._values["schedule"]))):
                schedule = self._values["schedule"][place]
                fields = {"pipeline_parallel": pp, "virtual_pipeline": vpp, "schedule": schedule}
                if schedule not in schedules or (vpp > 1) != (schedule == "interleaved"):
                    continue
                if self._legal(pp, fields):
                    rows.append((pp, vpp, place))
        self._cross(("pipeline_parallel", "virtual_pipeline", "schedule"), rows)
        ranks = self._product("tensor_parallel", "context_parallel", "pipeline_parallel")
        self._keep(self._gpus % ranks == 0, "the degrees do not divide num_gpus")
        ranks = self._product("tensor_parallel", "context_parallel", "pipeline_parallel")
        self._columns["data_parallel"] = self._gpus // ranks

    def _chunks(self, stages: int) -> Values:
        if "virtual_pipeline" in self._asked:
            return self._asked["virtual_pipeline"]
        layers = self._case.model.num_layers
        return [v for v in range(1, layers // stages + 1) if v == 1 or is_even(layers, stages * v)]

    def _batches(self) -> None:
        sizes = self._choices("micro_batch_size", divisors(self._batch))
        self._cross(("micro_batch_size",), [(size,) for size in sizes])
        size = self._columns["micro_batch_size"]
        if "micro_batch_size" not in self._asked:
            tokens = size * self._case.training.seq_length // self._columns["context_parallel"]
            self._keep((size == 1) | (tokens <= MOST_TOKENS), None)
        whole = self._product("micro_batch_size", "data_parallel")
        self._keep(
            self._batch % whole == 0, "micro_batch_size x data_parallel does not divide the batch"
        )
        whole = self._product("micro_batch_size", "data_parallel")
        self._columns["num_microbatches"] = self._batch // whole
        stages, count = self._columns["pipeline_parallel"], self._columns["num_microbatches"]
        turns = self._is("schedule", "interleaved")
        self._keep(
            ~turns | (count % stages == 0), "interleaved needs whole groups of micro-batches"
        )
        both = self._is("schedule", "dualpipe")
        stages, count = self._columns["pipeline_parallel"], self._columns["num_microbatches"]
        whole_both = (stages % 2 == 0) & (count % 2 == 0) & (count >= 2 * stages)
        self._keep(~both | whole_both, "dualpipe needs even stages and twice as many micro-batches")

    def _experts(self) -> None:
        moe = self._case.model.moe
        if moe is None:
            ones = np.ones(len(self._columns["tensor_parallel"]), dtype=np.int64)
            self._columns |= {"expert_parallel": ones, "expert_tensor_parallel": ones}
            return
        able = "expert" in self._menu.parallel
        experts = self._choices("expert_parallel", divisors(moe.num_experts) if able else (1,))
        tensor = self._choices("expert_tensor_parallel", ())
        degrees = set(tensor) or {1, *np.unique(self._columns["tensor_parallel"]).tolist()}
        rows = [
            (ep, etp)
            for ep, etp in product(experts, sorted(degrees))
            if self._legal(ep * etp, {"expert_parallel": ep, "expert_tensor_parallel": etp})
        ]
        self._cross(("expert_parallel", "expert_tensor_parallel"), rows)
        if not tensor:  # one rank an expert, or as many as attention has
            etp = self._columns["expert_tensor_parallel"]
            own = (etp == 1) | (etp == self._columns["tensor_parallel"])
            self._keep(own, None)
        ranks = self._gpus // self._columns["pipeline_parallel"]
        folded = self._product("expert_parallel", "expert_tensor_parallel")
        self._keep(ranks % folded == 0, "the experts' degrees do not divide num_gpus")

    def _independent(self) -> None:
        for name in ("recompute", "sharding"):
            values = tuple(self._choices(name, getattr(self._menu, name)))
            self._values[name] = values
            self._cross((name,), [(place,) for place in range(len(values))])
        alone = self._product("data_parallel", "context_parallel") == 1
        if "sharding" not in self._asked:
            plain = self._is("sharding", "none") if "none" in self._values["sharding"] else alone
            whole = self._is("sharding", "parameters") & (self._columns["pipeline_parallel"] > 1)
            whole &= len(self._values["sharding"]) > 1
            self._keep(np.where(alone, plain, ~whole), None)

    def _adapted(self) -> None:
        """What an estimate refuses where adapters alone are trained."""
        if self._case.training.adapter_rank is None:
            return
        self._keep(~self._is("sharding", "parameters"), "LoRA with sharding 'parameters'")
        for schedule in SPLIT_BACKWARD & set(self._values["schedule"]):
            self._keep(~self._is("schedule", schedule), f"LoRA with schedule {schedule!r}")

    def _flags(self) -> Mapping[str, tuple[bool | None, ...]]:
        names = ("overlap_grad_reduce", "overlap_param_gather", "overlap_p2p")
        return {
            name: tuple(self._choices(name, (True, False) if name in self._menu.flags else (None,)))
            for name in names
        }

    def _degrees(self, name: str, form: str, *, most: int) -> Values:
        able = form in self._menu.parallel
        usual = [d for d in divisors(self._gpus) if d <= most] if able else [1]
        return self._choices(name, usual)

    def _choices(self, name: str, usual: Values) -> Values:
        return self._asked.get(name, usual)

    def _legal(self, gpus: int, plan: Mapping[str, Any]) -> bool:
        """Whether the rules of a case allow some fields of its plan, on as many GPUs."""
        case = self._case
        try:
            replace(
                case,
                plan=Plan(context_parallel_kind=case.plan.context_parallel_kind, **plan),
                training=Training(
                    seq_length=case.training.seq_length,
                    adapter_rank=case.training.adapter_rank,
                    adapter_modules=case.training.adapter_modules,
                ),
                cluster=replace(case.cluster, num_gpus=gpus),
            )
        except RuleError as error:
            self._refused[f"{error.key}: {error.rule}"] += 1
            return False
        return True

    def _is(self, name: str, value: object) -> NDArray[np.bool_]:
        column = self._columns[name]
        if value not in self._values[name]:
            return np.zeros(len(column), dtype=bool)
        return np.asarray(column == self._values[name].index(value))

    def _product(self, *names: str) -> Ints:
        return np.asarray(np.prod([self._columns[name] for name in names], axis=0))

    def _cross(self, names: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        """Every row so far with each of some combinations of new fields."""
        added = columns_of(names, rows)
        count = len(next(iter(self._columns.values())))
        self._columns = {k: np.repeat(v, len(rows)) for k, v in self._columns.items()}
        self._columns |= {name: np.tile(column, count) for name, column in added.items()}

    def _keep(self, legal: NDArray[np.bool_], reason: str | None) -> None:
        if reason is not None and not legal.all():
            self._refused[reason] += int(np.count_nonzero(~legal))
        self._columns = {name: column[legal] for name, column in self._columns.items()}


def divisors(number: int) -> list[int]:
    """Every divisor, smallest first."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
