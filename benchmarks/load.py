"""Load: many cases, many questions, a long study that is killed: python benchmarks/load.py.

Each part runs in a process of its own, whose seconds and largest memory are printed.
The study, each of whose cases is a row at ten prices, is killed twice, at a quarter and at half,
and taken up again; its rows are then counted and must each be there once.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SKU = "h100-sxm5-80gb"
COMMAND = (
    sys.executable,
    "-c",
    "import sys; from predictor.cli import run; sys.exit(run(sys.argv[1:]))",
)
PRICES = 10
KILLED_AT = (0.25, 0.5)
"""Shares of a study after which it is killed."""
sys.path.insert(0, str(ROOT))


def cases(count: int) -> None:
    """Estimate different cases in one call."""
    from predictor import Case, estimate_many

    asked = [
        Case.from_dict(
            {
                "model": {"preset": "llama3-8b", "num_layers": 8 + 8 * (number % 4)},
                "training": {
                    "seq_length": 512 * (1 + number // 4 % 16),
                    "global_batch_size": 64 * (1 + number // 64),
                },
                "plan": {"tensor_parallel": 2},
                "cluster": {"gpu": SKU, "num_gpus": 64},
            }
        )
        for number in range(count)
    ]
    answers = estimate_many(asked)
    assert len(answers) == count  # noqa: S101 - what is measured must be right
    assert all(answer.iteration_seconds > 0 for answer in answers)  # noqa: S101


def questions(count: int) -> None:
    """Ask `predictor operators` about different products, and read every answer."""
    command = [*COMMAND, "operators", "--gpu", SKU, "--jsonl"]
    with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+") as answers:
        for number in range(count):
            sizes = {"m": 1 + number % 8192, "n": 64 * (1 + number // 8192), "k": 4096}
            asked.write(json.dumps({"operator": "gemm", **sizes}) + "\n")
        asked.seek(0)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, stdin=asked, stdout=answers, check=True, env=environment)
        answers.seek(0)
        found = sum("seconds" in json.loads(line) for line in answers)
    assert found == count, found  # noqa: S101 - what is measured must be right


def study(rows_asked: int, folder: Path) -> None:
    """Run a study that is killed twice on its way, and count its rows: ten prices of each case.

    What an earlier call into the same folder has done is not done again.
    """
    prices = [f"contract-{number}.toml" for number in range(PRICES)]
    for number, name in enumerate(prices):
        told = f'source = "{name}"\ndate = "2026-11-22"\n[usd_per_gpu_hour]\n{SKU} = 2.{number}\n'
        (folder / name).write_text(told, encoding="utf-8")
    count = rows_asked // PRICES
    batches = [64 * (1 + number) for number in range(count // 100)]
    told = (
        f"[study]\nprices = {json.dumps(prices)}\n"
        f'[case.model]\npreset = "gpt2"\nnum_layers = {list(range(1, 11))}\n'
        f"[case.training]\nseq_length = {[128 * n for n in range(1, 9)] + [1536, 2048]}\n"
        f"global_batch_size = {batches}\n"
        f'[case.plan]\ntensor_parallel = 1\n[case.cluster]\ngpu = "{SKU}"\nnum_gpus = 1\n'
    )
    path, out = folder / "study.toml", folder / "out.csv"
    path.write_text(told, encoding="utf-8")
    out.unlink(missing_ok=True)
    command = [*COMMAND, "study", str(path), "-o", str(out), "--workers", str(os.cpu_count())]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parts = out.with_name("out.csv.parts")
    for share in KILLED_AT:
        if _cases_done(parts) < share * count:
            process = subprocess.Popen(command, env=environment)
            while _cases_done(parts) < share * count and process.poll() is None:
                time.sleep(0.2)
            process.kill()
            process.wait()
            print(f"killed with {_cases_done(parts):,} cases done", file=sys.stderr, flush=True)
    subprocess.run(command, env=environment, check=True)
    with out.open(encoding="utf-8") as rows:
        next(rows)
        for number, row in enumerate(rows):
            assert int(row.partition(",")[0]) == number  # noqa: S101 - each once, in order
    assert number + 1 == rows_asked, number  # noqa: S101


def _cases_done(parts: Path) -> int:
    """Cases whose rows are on the disk."""
    manifest = parts / "manifest.json"
    if not manifest.exists():
        return 0
    size = int(json.loads(manifest.read_bytes())["part_cases"])
    return size * sum(path.suffix == ".csv" for path in parts.iterdir())


PARTS = {"cases": 10_000, "questions": 1_000_000, "study": 1_000_000}


def main() -> None:
    """Run one part here, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases and questions")
    parser.add_argument("--folder", type=Path, help="of the study, which then goes on from there")
    asked = parser.parse_args()
    if asked.part is None:
        for part in PARTS:
            command = [sys.executable, __file__, part, "--share", str(asked.share)]
            subprocess.run(command, check=True)
        return
    count = int(PARTS[asked.part] * asked.share)
    start = time.perf_counter()
    if asked.part == "study":
        with tempfile.TemporaryDirectory() as folder:
            study(count, asked.folder or Path(folder))
    else:
        {"cases": cases, "questions": questions}[asked.part](count)
    seconds = time.perf_counter() - start
    own, others = (resource.getrusage(who) for who in (
        resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip
    peak = max(own.ru_maxrss, others.ru_maxrss) // 1024
    processor = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    print(f"{asked.part}: {count:,} in {seconds:.1f} s, {processor:.0f} s of processor, {peak} MiB")


if __name__ == "__main__":
    main()
