"""Selection at scale: `hardfirst select` against the limit T of methods that compute all distances; exactness; hybrid.

T = max(2 N D K / F, N D b / BW): F the machine's float32 products per second, BW its memory's bytes per second, both
measured right before and after, with the same number of threads; the better figure counts. Seconds are those of the
command, less what the same command takes over ten rows. Peak memory is the process's, the file it maps included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.report import Goal, Report, tell
from common.yolo.offline import cores

ROOT = Path(__file__).resolve().parents[1]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Case:
    """One order that is timed; N x D features, K rows wanted, T times ``most`` allowed, ``memory`` bytes allowed."""

    name: str
    rows: int
    width: int
    picks: int
    kind: str
    dtype: str
    threads: int
    most: float
    memory: float

    @property
    def file(self) -> str:
        return f"{self.kind}-{self.rows}-{self.width}-{self.dtype}.npy"

    @property
    def size(self) -> int:
        return self.rows * self.width * (2 if self.dtype == "float16" else 4)


def cases(*, quick: bool) -> list[Case]:
    """80,000 x 512 with all cores and with one, two kinds of features; 1,000,000 x 256 from a float16 file."""
    n, k, d = (8_000, 800, 128) if quick else (80_000, 8_000, 512)
    big, many, wide = (50_000, 500, 64) if quick else (1_000_000, 10_000, 256)
    made = [
        Case(f"{kind}, {_threads(t)}", n, d, k, kind, "float32", t, 2.0, 2.5 * n * d * 4 + 400e6)
        for kind in ("gaussian", "clustered")
        for t in sorted({1, cores()}, reverse=True)
    ]
    return [*made, Case(f"gaussian, {_threads(cores())}", big, wide, many, "gaussian", "float16", cores(), 3.0, 2**32)]


def run(*, quick: bool) -> Report:
    """Everything; quick: a tenth of the rows."""
    report = Report("selection", quick)
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary:
        folder = Path(temporary)
        with report.measured():
            orders = [_order(case, folder) for case in cases(quick=quick)]
            checks = _checks(folder, orders, quick=quick)
            whole = _child("whole_hybrid", 1, path=_features(folder, cases(quick=quick)[2]))
    report.numbers = {"orders": orders, **checks, "hybrid": whole}
    report.goals = _goals(cases(quick=quick), orders, checks, quick=quick)
    report.show(_orders_table(orders), _checks_table(checks), _hybrid_table(whole))
    return report


def _order(case: Case, folder: Path) -> dict[str, Any]:
    tell(f"{case.rows:,} x {case.width}, K = {case.picks:,}: {case.name}")
    x, few = _features(folder, case), folder / f"few-{case.width}.npy"
    if not few.exists():
        _child("features", 1, path=few, rows=10, width=case.width, kind="gaussian", dtype="float32")
    speed = [_child("machine", case.threads, width=case.width)]
    start = min((_select(few, 5, case.threads) for _ in range(3)), key=lambda t: t["seconds"])
    took = _select(x, case.picks, case.threads)
    speed.append(_child("machine", case.threads, width=case.width))
    flops, bandwidth = (max(s[key] for s in speed) for key in ("flops", "bytes_per_s"))
    limit = max(2 * case.rows * case.width * case.picks / flops, case.size / bandwidth)
    net, cpu = took["seconds"] - start["seconds"], took["cpu"] - start["cpu"]
    return {
        "name": f"{case.rows:,} x {case.width} {case.dtype}, K = {case.picks:,}, {case.name}",
        "file": case.file,
        "order": took["order"],
        "gflops": flops / 1e9,
        "gbytes": bandwidth / 1e9,
        "limit": limit,
        "seconds": net,
        "cpu": cpu,
        "start": start["seconds"],
        "ratio": net / limit,
        "cpu_ratio": cpu / limit / case.threads,
        "peak": took["peak"],
    }


def _select(x: Path, picks: int, threads: int) -> dict[str, Any]:
    """`hardfirst select`, as anyone calls it: wall and CPU seconds, peak memory, where the order is."""
    out = x.with_name(f"order-{x.stem}.npy")
    words = ["--embeddings", str(x), "--budget", str(picks), "--strategy", "core_set", "--out", str(out)]
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "common.cli", "select", *words], cwd=ROOT, env=_env(threads), stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"hardfirst select ended with {child.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": took, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * unit, "order": str(out)}


def _checks(folder: Path, orders: list[dict[str, Any]], *, quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"exact": [], "radius": []}
    rows, picks = (1000, 300) if quick else (5000, 2000)
    for kind in ("gaussian", "clustered"):
        x = _features(folder, Case("", rows, 512, picks, kind, "float32", 1, 0, 0))
        for balanced in ("false", "true"):
            tell(f"{rows:,} rows, {picks:,} picks, plain greedy beside: {kind}, deficit factor {balanced}")
            made = _child("exact", cores(), path=x, picks=picks, balanced=balanced)
            found["exact"].append({"kind": kind, "deficit": balanced, "rows": rows, **made})
    for order in (orders[0], orders[-2]):
        tell(f"covering radius against plain greedy: {order['name']}")
        made = _child("radius", cores(), path=folder / order["file"], order=order["order"], picks=10**9)
        found["radius"].append({"name": order["name"], **made})
    labels = (500, 50) if quick else (4000, 200)
    found["incremental"] = _child(
        "incremental", 1, path=folder / orders[0]["file"], labelled=labels[0], new=labels[1]
    ) | {"labelled": labels[0], "new": labels[1]}
    return found


def _features(folder: Path, case: Case) -> Path:
    path = folder / case.file
    if not path.exists():
        _child("features", 1, path=path, rows=case.rows, width=case.width, kind=case.kind, dtype=case.dtype)
    return path


def _child(name: str, threads: int, **given: object) -> dict[str, Any]:
    words = [f"{key}={value}" for key, value in given.items()]
    done = subprocess.run(
        [sys.executable, "-m", "bench.selection_cases", name, *words],
        cwd=ROOT,
        env=_env(threads),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _env(threads: int) -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(_THREADS, str(threads))}


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _goals(made: list[Case], orders: list[dict[str, Any]], checks: dict[str, Any], *, quick: bool) -> list[Goal]:
    goals = []
    for case, order in zip(made, orders, strict=True):
        if not quick:  # a T of milliseconds measures nothing but the start
            goals.append(Goal(f"{order['name']}: seconds", order["ratio"], case.most, "T"))
        goals.append(Goal(f"{order['name']}: peak memory", order["peak"] / 1e6, round(case.memory / 1e6), "MB"))
    gap = max(e["worst_gap"] for e in checks["exact"])
    goals.append(Goal("what the worst pick lacks to plain greedy's", gap, 1e-6, ""))
    apart = max(r["apart"] for r in checks["radius"])
    goals.append(Goal("covering radius against plain greedy, relative", apart, 1e-5, ""))
    return goals


def _orders_table(orders: list[dict[str, Any]]) -> Table:
    table = Table(
        "order", "GFLOP/s", "GB/s", "T", "seconds", "/ T", "CPU-s", "/ T / threads", "peak", title="hardfirst select"
    )
    for o in orders:
        table.add_row(
            o["name"],
            f"{o['gflops']:.0f}",
            f"{o['gbytes']:.1f}",
            f"{o['limit']:.2f} s",
            f"{o['seconds']:.2f}",
            f"{o['ratio']:.2f}",
            f"{o['cpu']:.2f}",
            f"{o['cpu_ratio']:.2f}",
            f"{o['peak'] / 1e6:.0f} MB",
        )
    return table


def _checks_table(checks: dict[str, Any]) -> Table:
    table = Table("check", "result", title="exactness")
    for e in checks["exact"]:
        name = f"{e['rows']:,} rows, {e['kind']}, deficit factor {'on' if e['deficit'] == 'true' else 'off'}"
        said = f"{e['equal']:,} of {e['picks']:,} picks equal, the worst lacks {e['worst_gap']:.1e}"
        table.add_row(f"{name}: picks against plain greedy in float64", said)
    for r in checks["radius"]:
        said = f"{r['ours']:.7f} against {r['plain']:.7f} (plain greedy took {r['plain_seconds']:.0f} s)"
        table.add_row(f"{r['name']}: covering radius", said)
    i = checks["incremental"]
    table.add_row(
        f"{i['new']} labels after {i['labelled']:,}: distances, all against all computed anew",
        f"{i['incremental']:.2f} CPU-s against {i['anew']:.2f}, at most {i['apart']:.1e} apart",
    )
    return table


def _hybrid_table(whole: dict[str, Any]) -> Table:
    table = Table("step", "CPU-s, 1 thread", title=f"hybrid, the whole order of {whole['rows']:,} images")
    for name, seconds in whole["seconds"].items():
        table.add_row(name, f"{seconds:.2f}", style="bold" if name == "the whole order" else None)
    table.add_row("peak memory", f"{whole.get('peak_bytes', 0) / 1e6:.0f} MB")
    return table
