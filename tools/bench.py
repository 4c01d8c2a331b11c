"""Benchmarks as JSON, and what changed since the last.

    python tools/bench.py run [NAME ...] [--out out/benchmarks]
    python tools/bench.py compare OLD NEW [--factor 1.25]

`run` runs what is in benchmarks/, shows what each prints, and writes NAME.json: the figures of its tables, with the
commit, the processor and the versions. A benchmark that answers with its usage needs arguments and is left out.
`compare` reads two such folders (or files), prints every figure that changed by more than the factor, the largest
change first, and exits with 1 if there is one. Ratios within a run can be compared across machines; seconds cannot.
"""

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", re.IGNORECASE)
RULE = re.compile(r"\|(?:\s*:?-+:?\s*\|)+\s*$")  # the line between a table's header and its rows
LIBRARIES = ("torch", "numpy", "scipy", "azula", "diffusers", "k-diffusion", "smalldiffusion", "py-pde", "fplanck")


def cells(line: str) -> list[str]:
    """The cells of a row of a table.

    >>> cells("| Heun | 1,280 | 0.52 |")
    ['Heun', '1,280', '0.52']
    """
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[dict[str, Any]]:
    """The tables in what a benchmark printed: {"columns": [...], "rows": [[...], ...]}, cells as they were printed."""
    lines, found = text.splitlines(), []
    for at, line in enumerate(lines[1:], 1):
        if RULE.match(line.strip()) and lines[at - 1].lstrip().startswith("|"):
            rows = []
            for row in lines[at + 1 :]:
                if not row.lstrip().startswith("|"):
                    break
                rows.append(cells(row))
            found.append({"columns": cells(lines[at - 1]), "rows": rows})
    return found


def number(cell: str) -> float | None:
    """The number that a cell begins with, also after a sign such as > or ~; None where it has another beginning.

    >>> number("-0.026 ± 0.003"), number("1,280"), number("> 4e3"), number("2-step"), number("Heun")
    (-0.026, 1280.0, 4000.0, None, None)
    """
    match = NUMBER.match(cell.lstrip("<>~≥≤ "))
    rest = cell.lstrip("<>~≥≤ ")[match.end() :] if match else ""
    return float(match[0].replace(",", "")) if match and (not rest or rest[0] in " %x±") else None


@dataclass(frozen=True)
class Change:
    """A figure of a table, before and now."""

    benchmark: str
    row: str
    column: str
    old: float
    new: float

    @property
    def factor(self) -> float:
        """How many times larger or smaller, at least 1; infinite where one of the two is zero or the sign changed."""
        if self.old == self.new:
            return 1.0
        ratio = self.new / self.old if self.old else 0.0
        return max(ratio, 1 / ratio) if ratio > 0 else math.inf


def figures(report: dict[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """Every figure of a report with its row (the cells that are no numbers, and a count) and its column."""
    seen: Counter[str] = Counter()
    for table in report["tables"]:
        for row in table["rows"]:
            values = [number(cell) for cell in row]
            label = " ".join(cell for cell, value in zip(row, values, strict=True) if value is None and cell)
            seen[label] += 1
            name = f"{label} #{seen[label]}".strip()
            for column, value in zip(table["columns"], values, strict=False):
                if value is not None:
                    yield (name, column), value


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The figures that two reports of one benchmark share, the largest change first."""
    before = dict(figures(old))
    found = [Change(new["benchmark"], *key, before[key], value) for key, value in figures(new) if key in before]
    return sorted(found, key=lambda change: -change.factor)


def run(name: str, out: Path) -> int:
    """Run one benchmark, show what it prints, and write its figures; its exit status."""
    began = time.time()
    command = [sys.executable, str(BENCHMARKS / f"{name}.py")]
    printed = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            printed.append(line)
            print(line, end="", flush=True)
    status = process.returncode
    if status and printed and printed[0].startswith("usage:"):
        print(f"{name}: left out, it needs arguments")
        return 0
    if status == 0:
        report = {"format": 1, "benchmark": name, "seconds": round(time.time() - began, 1), **conditions()}
        report |= {"tables": tables("".join(printed)), "printed": "".join(printed)}
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return status


def conditions() -> dict[str, Any]:
    """Where the figures come from."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return {"commit": commit.stdout.strip(), "processor": processor(), "cores": os.cpu_count(), "versions": versions}


def processor() -> str:
    """The processor's name."""
    listed = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", listed.read_text(), re.MULTILINE) if listed.exists() else []
    return names[0] if names else platform.processor()


def compare(old: Path, new: Path, factor: float) -> int:
    """Print the figures that changed by more than the factor; 1 if there are any, 2 if nothing can be compared."""
    before, now = reports(old), reports(new)
    shared = sorted(before.keys() & now.keys())
    if not shared:
        print(f"nothing to compare: {old} has {sorted(before) or 'no reports'}, {new} has {sorted(now) or 'none'}")
        return 2
    found = [change for name in shared for change in changes(before[name], now[name])]
    moved = sorted((change for change in found if change.factor > factor), key=lambda change: -change.factor)
    if any(before[name]["processor"] != now[name]["processor"] for name in shared):
        print("the processors differ: compare ratios alone, not seconds\n")
    print("| benchmark | row | column | old | new | factor |\n|---|---|---|--:|--:|--:|")
    for each in moved:
        print(f"| {each.benchmark} | {each.row} | {each.column} | {each.old:g} | {each.new:g} | {each.factor:.2f} |")
    print(f"\n{len(moved)} of {len(found)} figures in {len(shared)} benchmarks changed by more than {factor:g} times")
    return 1 if moved else 0


def reports(path: Path) -> dict[str, dict[str, Any]]:
    """The reports of a folder or a file, by benchmark."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    found = [json.loads(each.read_text(encoding="utf-8")) for each in files]
    return {each["benchmark"]: each for each in found if "tables" in each}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run benchmarks and write their figures")
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    running.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    running.add_argument("--out", type=Path, default=Path("out/benchmarks"))
    comparing = commands.add_parser("compare", help="print the figures that changed")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--factor", type=float, default=1.25, help="a change that counts (default %(default)s)")
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.old, options.new, options.factor)
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"no benchmark named {unknown[0]!r}; there are {', '.join(names)}")
    failed = [name for name in options.names or names if run(name, options.out)]
    print(*(f"{name} failed" for name in failed), sep="\n", end="\n" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
