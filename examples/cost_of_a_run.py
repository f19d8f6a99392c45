"""One training run on several GPUs: days, GPU-hours, dollars and MWh, with what is uncertain.

python examples/cost_of_a_run.py
"""

from predictor import Case
from predictor.search import load_prices, training_run

GPUS = ("a100-sxm4-80gb", "h100-sxm5-80gb", "h200-sxm5-141gb")
TOKENS = 10**12
CASE = Case.from_dict(
    {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 8192, "global_batch_size": 512},
        "plan": {"tensor_parallel": 2},
        "cluster": {"gpu": GPUS[0], "num_gpus": 64},
    }
)


def main() -> None:
    """Print a line for each GPU."""
    prices = load_prices("datasheet")
    print("GPU                 days (90 %)          GPU-hours        USD    MWh")
    for gpu in GPUS:
        case = CASE.replace(cluster={"gpu": gpu})
        run = training_run(case, tokens=TOKENS, prices=prices)
        low, high = (seconds / 86_400 for seconds in run.interval_seconds)
        usd = "-" if run.usd is None else f"{run.usd:,.0f}"
        days = f"{run.seconds / 86_400:.1f} ({low:.1f} to {high:.1f})"
        print(f"{gpu:18}  {days:20}  {run.gpu_hours:8,.0f}  {usd:>9}  {run.joules / 3.6e9:5.0f}")


if __name__ == "__main__":
    main()
