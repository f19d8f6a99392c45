"""What ``bench-run`` prints: plans, outcomes, comparisons, findings of the doctor."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from predictor.bench.points import Point
from predictor.bench.sweep import plan, summary


def print_findings(findings: dict[str, dict[str, Any]], verdict: str) -> None:
    """What was found, part by part, and what can be measured with it."""
    table = Table("part", "state", "what to do")
    for name, finding in findings.items():
        table.add_row(name, str(finding["state"]), str(finding["way_out"]))
    console = Console()
    console.print(table)
    console.print(verdict, highlight=False)


def print_difference(title: str, operators: dict[str, dict[str, float]]) -> None:
    """How far two measurements lie apart, a line an operator."""
    table = Table("operator", "points", "second / first", "median apart", "p90 apart")
    for name, figures in operators.items():
        table.add_row(
            name,
            f"{figures['points']:.0f}",
            f"{figures['median_ratio']:.4f}",
            f"{figures['median_difference']:.2%}",
            f"{figures['p90_difference']:.2%}",
        )
    console = Console()
    console.print(table)
    console.print(title, highlight=False)


def print_plan(points: list[Point], seconds: float, *, as_json: bool) -> None:
    """The points that fit a budget, as counts or, as JSON, each."""
    planned = plan(points, budget_seconds=seconds)
    if as_json:
        listed = [
            {"operator": p.operator.name, "cache": p.cache, "regime": p.regime, "tier": p.tier}
            | p.fields
            for p in planned.points
        ]
        answer = {
            "points": listed,
            "left": len(planned.spare),
            "expected_seconds": planned.expected_seconds,
        }
        print(json.dumps(answer))  # noqa: T201 - the answer
        return
    table = Table("tier", "operator", "points", title=f"plan for {seconds:.0f} s")
    for tier, counts in summary(planned.points).items():
        for operator, count in counts.items():
            table.add_row(tier, operator, str(count))
    console = Console()
    console.print(table)
    console.print(
        f"{len(planned.points)} points in about {planned.expected_seconds:.0f} s, "
        f"{len(planned.spare)} more if time is left"
    )


def print_outcome(outcome: dict[str, Any]) -> None:
    """Summary of a run, on standard error."""
    table = Table("operator", "ok", "other", "spread", "best TFLOP/s", "best GB/s")
    for line in outcome["operators"]:
        other = ", ".join(f"{count} {status}" for status, count in line["other"].items())
        spread, flops, rate = (
            line[name]
            for name in ("median_spread", "best_flops_per_second", "best_bytes_per_second")
        )
        table.add_row(
            line["operator"],
            str(line["ok"]),
            other,
            f"{spread:.1%}" if spread is not None else "",
            f"{flops / 1e12:.0f}" if flops else "",
            f"{rate / 1e9:.0f}" if rate else "",
        )
    console = Console(stderr=True)
    console.print(table)
    if spent := outcome["spent"]:
        console.print(
            f"{spent['timed_seconds']:.0f} of {spent['wall_seconds']:.0f} s inside timed rounds, "
            f"{spent['overhead_seconds_per_point']:.3f} s of harness a point",
            highlight=False,
        )
    check = outcome["cross_check"]
    if "ratio" in check:
        console.print(
            f"profiler against timers at {check['points']} points: kernel time "
            f"{check['ratio']:.3f} of the timer's ({check['ratio_low']:.3f} to "
            f"{check['ratio_high']:.3f})",
            highlight=False,
        )
    for finding in check.get("findings", []):
        console.print(f"cross-check: {finding}", highlight=False, markup=False)
    console.print(
        f"{outcome['points']} points in {outcome['folder']}, {outcome['left']} left; "
        "go on with --resume"
        if outcome["left"]
        else f"{outcome['points']} points in {outcome['folder']}",
        highlight=False,
    )
