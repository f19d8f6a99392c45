"""Plans a second and cold time beside llm-analysis and dlcalc, on the same plans in the same run.

    python -m venv PEERS
    PEERS/bin/pip install --no-deps llm-analysis==0.2.2 dlcalc==0.2.0
    PEERS/bin/pip install "fire<0.6" pyyaml "transformers<5"
    python benchmarks/search_peers.py --peers PEERS/bin/python

(Without their bounds on huggingface-hub and others, which no index solves beside each other.) The
plans are GPT-3 175B on 1,024 H100s, batch 1,536, sequences of 2,048. A peer is asked plan by plan,
as its own command does; cold is a process of its own for one plan. Processor seconds, since the
clock's depend on what else runs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import textwrap
import time

GRID = """
    plans = [
        (tensor, pipeline, size)
        for tensor in (1, 2, 4, 8) for pipeline in (1, 2, 4, 8, 16, 32) for size in (1, 2, 4)
        if 1536 % (1024 // tensor // pipeline * size) == 0
    ]
"""

LLM_ANALYSIS = """
    import logging, time
    begin = time.process_time()
    from llm_analysis.analysis import LLMAnalysis
    from llm_analysis.config import ModelConfig, ParallelismConfig, get_gpu_config_by_name
    logging.disable(logging.CRITICAL)
    model = ModelConfig("gpt3-175b", 96, 96, 12288, 51200, max_seq_len=2048)
    gpu = get_gpu_config_by_name("h100-sxm-80gb")
    def one(tensor, pipeline, size):
        replicas = 1024 // tensor // pipeline
        LLMAnalysis(
            model, gpu,
            parallelism_config=ParallelismConfig(tensor, pipeline, replicas),
            flops_efficiency=0.5, hbm_memory_efficiency=0.8,
        ).training(
            batch_size_per_gpu=size, global_batch_size=1536, seq_len=2048,
            total_num_tokens=1536 * 2048,
        )
"""

DLCALC = """
    import contextlib, io, sys, tempfile, time
    begin = time.process_time()
    import yaml
    from dlcalc.training_3d import main
    def one(tensor, pipeline, size):
        case = {
            "model": dict(n_layers=96, hidden_sz=12288, n_q_heads=96, n_kv_heads=96, head_dim=128,
                inter_sz=49152, glu=False, rotary_embeds=False, dropout=False, vocab_sz=51200,
                tie_embeddings=True),
            "parallelism": dict(tp=tensor, pp=pipeline, dp=1024 // tensor // pipeline, vpp=1, cp=1,
                sp=True, zero_level=1, n_param_buckets=1),
            "performance": dict(activation_checkpointing_type="selective"),
            "data": dict(gbs=1536, seqlen=2048, microbatch_sz=size),
            "hardware": dict(node_type="p5.48xlarge"),
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(case, file); file.flush()
            sys.argv = ["dlcalc", file.name]
            with contextlib.redirect_stdout(io.StringIO()):
                main()
"""

LOOP = """
    one(8, 8, 1)
    cold, done = time.process_time() - begin, 0
    begin = time.process_time()
    for plan in plans:
        try:
            one(*plan)
        except (AssertionError, NotImplementedError, ValueError):
            continue  # a plan that it does not allow
        done += 1
    print(cold, done, time.process_time() - begin)
"""

PREDICTOR = """
    import time
    begin = time.process_time()
    from predictor import Case, estimate
    estimate(Case.from_dict({
        "model": {"preset": "gpt3-175b"},
        "training": {"seq_length": 2048, "global_batch_size": 1536},
        "plan": {"tensor_parallel": 8, "pipeline_parallel": 8},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1024},
    }))
    cold = time.process_time() - begin
    from predictor import search
    begin = time.process_time()
    found = search("gpt3-175b", gpu="h100-sxm5-80gb", num_gpus=1024, global_batch_size=1536,
                   constraints={"seq_length": 2048})
    print(cold, found.plans_evaluated, time.process_time() - begin, found.plans_fitting,
          found.plans_passed_over)
"""

COVERS = {
    "llm-analysis 0.2.2": "TP, PP, DP, EP, ZeRO; efficiencies of FLOPs and bandwidth are given",
    "dlcalc 0.2.0": "TP, SP, CP, PP, vPP, EP, DP, ZeRO-1, links; 70 % of peak FLOP/s is assumed",
    "predictor": "docs/search.md; the fifty best on the timeline, with measured cost functions",
}


def figures(python: str, *parts: str) -> list[float]:
    """Numbers that a script prints in a process of its own."""
    script = "\n".join(textwrap.dedent(part) for part in parts)
    ran = subprocess.run([python, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in ran.stdout.split()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", required=True, help="Python that has llm-analysis and dlcalc")
    peers = parser.parse_args().peers
    begin = time.time()
    rows = {
        "llm-analysis 0.2.2": figures(peers, GRID, LLM_ANALYSIS, LOOP),
        "dlcalc 0.2.0": figures(peers, GRID, DLCALC, LOOP),
        "predictor": figures(sys.executable, PREDICTOR),
    }
    print(
        "| tool | one plan, cold | plans | seconds | plans/s | covers |\n|---|---|---|---|---|---|"
    )
    for name, (cold, plans, seconds, *_) in rows.items():
        rate = f"{plans / seconds:,.0f}"
        print(f"| {name} | {cold:.2f} s | {plans:,.0f} | {seconds:.2f} | {rate} | {COVERS[name]} |")
    _, plans, _, fitting, passed = rows["predictor"]
    print(
        f"\nOf predictor's {plans:,.0f} plans {fitting:,.0f} fit; of these {passed:,.0f} were "
        f"ruled out by a lower bound of their time and {fitting - passed:,.0f} priced in full."
    )
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{time.time() - begin:.0f} s in all; the largest process took {memory:.0f} MiB.")


if __name__ == "__main__":
    main()
