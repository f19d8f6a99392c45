"""What one rank sends in a step, and how much of it the step waits for."""

from dataclasses import dataclass

from predictor.case import Case
from predictor.costs import Costs, Fabric
from predictor.iteration.step import StepShape


@dataclass(frozen=True, slots=True)
class Exposed:
    """Seconds of communication that nothing hides.

    Attributes:
        per_micro_batch: Tensor-parallel collectives and pipeline sends of one micro-batch.
        per_step: Gradient reduction and parameter gathering of a step.
    """

    per_micro_batch: float
    per_step: float


def exposed(case: Case, shape: StepShape, costs: Costs, *, backward_seconds: float) -> Exposed:
    """Exposed seconds.

    Args:
        case: Resolved.
        shape: Of the fullest stage.
        costs: Of the SKU.
        backward_seconds: Compute of the last micro-batch's backward pass, under which an
            overlapped gradient reduction can hide.
    """
    plan, fabric = case.plan, Fabric.of(case.cluster, costs.gpu)
    tp, dp = plan.tensor_parallel, plan.data_parallel
    activation = 2.0 * shape.tokens * shape.layer.hidden
    layer_pair = fabric.all_reduce_seconds(activation, tp)
    if plan.sequence_parallel:
        layer_pair = 2 * fabric.all_gather_seconds(activation, tp)
    replayed = shape.recompute_layers / max(shape.num_layers, 1)
    tensor = layer_pair * shape.num_layers * (4 + 2 * replayed)
    if plan.sequence_parallel:
        tensor += shape.num_layers * 2 * fabric.all_gather_seconds(activation, tp)
    send = 0.0
    if plan.pipeline_parallel > 1:
        stride = tp * dp
        send = (
            2
            * plan.virtual_pipeline
            * fabric.send_seconds(activation / shape.sequence_shard, stride=stride)
        )
    gradients = 4.0 * shape.parameters
    weights = 2.0 * shape.parameters
    if plan.sharding == "none":
        reduce, gather = fabric.all_reduce_seconds(gradients, dp, stride=tp), 0.0
    else:
        reduce = fabric.all_gather_seconds(gradients, dp, stride=tp)
        gather = fabric.all_gather_seconds(weights, dp, stride=tp)
    if plan.overlap_grad_reduce:
        tail = reduce / max(shape.num_layers, 1)
        reduce = max(tail, reduce - backward_seconds)
    if plan.overlap_param_gather:
        tail = gather / max(shape.num_layers, 1)
        gather = max(tail, gather - backward_seconds / 2)
    return Exposed(tensor + send, reduce + gather)
