"""Every tensor- and pipeline-parallel degree of one model on one cluster, the fastest first.

python examples/compare_plans.py
"""

from itertools import product

from predictor import Case, Estimate, estimate
from predictor.errors import PredictorError

CASE = Case.from_dict(
    {
        "model": {"preset": "llama3-70b"},
        "training": {"seq_length": 8192, "global_batch_size": 128},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 64},
    }
)


def estimates() -> dict[tuple[int, int], Estimate]:
    """Return an estimate for each plan that is legal."""
    found = {}
    for tensor, pipeline in product((1, 2, 4, 8), (1, 2, 4, 8)):
        try:
            plan = {"tensor_parallel": tensor, "pipeline_parallel": pipeline}
            found[tensor, pipeline] = estimate(CASE.replace(plan=plan))
        except PredictorError as error:
            print(f"left out: {error}")
    return found


def main() -> None:
    """Print the plans that fit memory, then how many do not."""
    found = estimates()
    fitting = {plan: answer for plan, answer in found.items() if answer.fits}
    print("tensor  pipeline  iteration    MFU  reserved  exposed  bubble")
    for (tensor, pipeline), answer in sorted(
        fitting.items(), key=lambda item: item[1].iteration_seconds
    ):
        whole = answer.iteration_seconds
        print(
            f"{tensor:6}  {pipeline:8}  {whole:7.2f} s  {answer.mfu:5.1%}"
            f"  {answer.memory_reserved_bytes_per_gpu / 2**30:4.0f} GiB"
            f"  {answer.exposed_communication_seconds / whole:7.1%}"
            f"  {answer.bubble_seconds / whole:6.1%}"
        )
    print(f"{len(found) - len(fitting)} more do not fit")


if __name__ == "__main__":
    main()
