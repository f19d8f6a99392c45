"""WHAT IS ASKED: the case.

In: a case file (TOML or JSON), a mapping, a run record or the flags of a command, and the shipped
presets of models, networks and GPUs. Out: a frozen :class:`Case` in which every rule holds, or one
:class:`~predictor.errors.CaseError` that names the key, the value, the rule and the nearest right
key; and, from :func:`resolve`, the same case with every documented default filled in.
"""

from predictor.case.cluster_schema import Cluster
from predictor.case.datasheets import Gpu
from predictor.case.gpus import bench_results_folder, domain_gpus, gpu_names, load_gpu
from predictor.case.model_schema import Mla, Model, Moe
from predictor.case.models import HYBRID_RULE, is_hybrid, load_model, model_names
from predictor.case.networks import Network, load_network, network_names
from predictor.case.plan_schema import Plan
from predictor.case.resolve import (
    Resolved,
    resolve,
    tensor_parallel_candidates,
    with_expert_exchange,
)
from predictor.case.rules import COLUMN_MODULES
from predictor.case.training_schema import Training
from predictor.case.whole import Case

__all__ = [
    "COLUMN_MODULES",
    "HYBRID_RULE",
    "Case",
    "Cluster",
    "Gpu",
    "Mla",
    "Model",
    "Moe",
    "Network",
    "Plan",
    "Resolved",
    "Training",
    "bench_results_folder",
    "domain_gpus",
    "gpu_names",
    "is_hybrid",
    "load_gpu",
    "load_model",
    "load_network",
    "model_names",
    "network_names",
    "resolve",
    "tensor_parallel_candidates",
    "with_expert_exchange",
]
