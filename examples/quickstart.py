"""One estimate and what it is made of.

python examples/quickstart.py
"""

from predictor import Case, estimate

CASE = {
    "model": {"preset": "llama3-8b"},
    "training": {"seq_length": 8192, "global_batch_size": 128},
    "plan": {"tensor_parallel": 2},
    "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
}


def main() -> None:
    """Print an iteration, its interval, its parts, its memory, and where the numbers come from."""
    answer = estimate(Case.from_dict(CASE))
    low, high = answer.interval_seconds
    print(f"iteration {answer.iteration_seconds:.3f} s, 90 % in {low:.3f} to {high:.3f} s")
    print(f"MFU {answer.mfu:.1%}, fits: {answer.fits}")
    for part, seconds in answer.breakdown.items():
        print(f"  {part:15} {seconds:7.3f} s")
    for part, size in answer.memory_parts.items():
        print(f"  {part:17} {size / 2**30:5.1f} GiB")
    for origin, share in answer.origin.items():
        if share:
            print(f"  {share:6.1%} of the time is {origin}")


if __name__ == "__main__":
    main()
