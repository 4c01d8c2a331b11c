"""Would the tests notice? Single edits of the source, drawn by a seed, against the tests that execute them.

A mutant is the source with one edit (`single_edits.py`). It is killed if a test fails, or does not end within three
times what the unmutated tests take (and half a minute). Of n mutants that are not equivalent to
the source, k are killed: k/n estimates the share of such edits that the tests notice, with the exact (Clopper-Pearson)
95% interval. The draw takes the kinds in turn, so that a rare kind (a `detach`) weighs as much as a frequent one.

Only a test that executes an edited line can notice the edit. One run of the unmutated tests records which test executes
which line (`executed_lines.py`); a mutant meets those alone, first those of its own subpackage, then all others, the
quick ones first, and the rate is reported for both. A line that runs at import, outside of any test, meets the whole
suite. With `--seconds` a mutant meets so many seconds of either at most: k/n is then a lower bound.

An interrupted run resumes: results are kept in a file, by the edit and a fingerprint of source and tests. A mutant that
no test can kill is listed in `equivalent_mutants.txt`, with its reason.
"""

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import count, zip_longest
from pathlib import Path
from queue import Queue

from scipy.stats import binomtest
from tqdm import tqdm

from executed_lines import ExecutedLines, record_lines
from single_edits import Edit, classes, edits

ROOT = Path(__file__).parents[1]
PACKAGE = "src/diffuscope"
EQUIVALENT = "tools/equivalent_mutants.txt"
OWN, OTHER = "own", "other"  # the tests that kill a mutant: of its subpackage, or of the rest
PASSED, NOT_FOUND = (0, 5), 4  # pytest's exit status; 5: every test was skipped, so none fails
file_times = count(1_000_000_000)  # Python recognizes a compiled file by the whole second of its source


@dataclass(frozen=True)
class Mutant:
    """One edit of one file."""

    path: str
    edit: Edit

    @cached_property
    def source(self) -> str:
        """The file as it is."""
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def line(self) -> int:
        """Where the edit begins, counted from 1."""
        return self.source.encode()[: self.edit.start].count(b"\n") + 1

    @cached_property
    def lines(self) -> range:
        """The lines of the statement's part that the edit replaces, counted from 1."""
        return range(self.line, self.line + self.source.encode()[self.edit.start : self.edit.end].count(b"\n") + 1)

    @cached_property
    def diff(self) -> str:
        """The path and the changed lines, old and new."""
        old, new = self.source.splitlines(), self.edit.applied(self.source).splitlines()
        first = self.line - 1
        same_end = next(i for i, (a, b) in enumerate(zip_longest(old[::-1], new[::-1])) if a != b)
        same_end = min(same_end, len(old) - first - 1, len(new) - first)
        removed, added = old[first : len(old) - same_end], new[first : len(new) - same_end]
        changes = [f"- {text.strip()}" for text in removed] + [f"+ {text.strip()}" for text in added]
        return "\n".join([self.path, *changes])


def drawn(mutants: list[Mutant], number: int, seed: int) -> list[Mutant]:
    """So many mutants at random, the kinds in turn."""
    order = random.Random(seed)
    kinds: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        kinds[mutant.edit.kind].append(mutant)
    for members in kinds.values():
        order.shuffle(members)
    turns = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [mutant for turn in turns for mutant in turn if mutant is not None][:number]


def suite_of(path: str) -> list[str]:
    """The test files of a module's subpackage, those that name most of what the module defines first."""
    module = Path(path).relative_to(PACKAGE)
    name = module.parts[0].removesuffix(".py").strip("_")
    files = [*(ROOT / "tests" / name).rglob("test_*.py"), *(ROOT / "tests").glob(f"test_{name}.py")]
    defined = [line.split("(")[0].split(":")[0].split() for line in (ROOT / path).read_text().splitlines()]
    names = {words[1] for words in defined if len(words) == 2 and words[0] in ("def", "class")} | {module.stem}

    def relevance(file: Path) -> int:
        words = set(file.read_text(encoding="utf-8").replace("(", " ").replace(".", " ").replace(",", " ").split())
        return len(names & words)

    return [str(file.relative_to(ROOT)) for file in sorted(sorted(files), key=relevance, reverse=True)]


def without_parameters(tests: list[str]) -> list[str]:
    """The functions of these tests, which run with whatever parameters they have."""
    return list(dict.fromkeys(test.partition("[")[0] for test in tests))


def all_tests() -> list[str]:
    """Every test file, but the one about this tool."""
    files = (str(file.relative_to(ROOT)) for file in sorted((ROOT / "tests").rglob("test_*.py")))
    return [file for file in files if file != "tests/test_mutants.py"]


def environment(tree: Path) -> dict[str, str]:
    """That of a test run in a copy of the tree."""
    data = os.environ.get("DIFFUSCOPE_DATA", str(ROOT.parent / "shared" / "data"))
    return os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "DIFFUSCOPE_DATA": data}


def outcome(copy: Path, tests: list[str], timeout: float) -> int | None:
    """The exit status of the tests in a copy of the tree; None where they do not end in time."""
    listed = copy / "tests-of-mutant.txt"  # there can be more of them than a command line takes
    listed.write_text("\n".join(tests), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", f"@{listed}"],
        cwd=copy,
        env=environment(copy),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def write(path: Path, text: str) -> None:
    """Write a source with a time that no earlier version had."""
    path.write_text(text, encoding="utf-8")
    moment = next(file_times)
    os.utime(path, (moment, moment))


def git(*arguments: str) -> list[str]:
    """The lines that git answers."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def judged(mutants: list[Mutant], *, jobs: int, seconds: float, kept: Path) -> dict[Mutant, str | None]:
    """Which tests that execute a mutant kill it, by `seconds` of these at most: OWN, OTHER, or None of them."""
    tree = [name for name in git("ls-files", "-co", "--exclude-standard") if (ROOT / name).is_file()]
    digest = hashlib.sha256()
    for name in sorted(name for name in tree if name.startswith(("src/", "tests/"))):
        digest.update(name.encode() + (ROOT / name).read_bytes())
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    known = {line["of"]: line["killed"] for line in lines if line["tree"] == digest.hexdigest()}

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as workers:
        copies: Queue[Path] = Queue()
        for worker in range(jobs):
            for name in tree:
                target = Path(folder, str(worker), name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
            copies.put(Path(folder, str(worker)))
        suites = all_tests()
        record = (
            kept.parent / f"executed-{hashlib.sha256(repr((digest.hexdigest(), suites)).encode()).hexdigest()[:16]}"
        )
        if not record.is_dir():
            print(f"recording which of the tests in {len(suites)} files executes which line", file=sys.stderr)
            copy = copies.get()
            record_lines(copy, suites, record, jobs=jobs, environment=environment(copy))
            copies.put(copy)
        executed = ExecutedLines.read(record)

        def noticed(mutant: Mutant, suite: list[str]) -> bool:
            tests, took = executed.tests(mutant.path, mutant.lines, suite, seconds)
            limit, copy = 3 * took + 30, copies.get()
            write(copy / mutant.path, mutant.edit.applied(mutant.source))
            status = outcome(copy, tests, limit) if tests else PASSED[0]
            if status == NOT_FOUND:  # a parameter in their names is a value of the source, and another one now
                tests, limit = without_parameters(tests), 3 * limit
                status = outcome(copy, tests, limit)
            write(copy / mutant.path, mutant.source)
            if status == NOT_FOUND and outcome(copy, tests, limit) == NOT_FOUND:  # not for want of an import
                raise SystemExit(f"tests cannot be run by their names: {tests[:3]} ...")
            copies.put(copy)
            return status not in PASSED

        def killed(mutant: Mutant) -> str | None:
            of = f"{mutant!r} in {seconds:g} s"
            if of not in known:
                own = suite_of(mutant.path)
                suites = {OWN: own, OTHER: [file for file in all_tests() if file not in own]}
                known[of] = next((name for name, suite in suites.items() if noticed(mutant, suite)), None)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"tree": digest.hexdigest(), "of": of, "killed": known[of]}) + "\n")
            return known[of]

        try:
            return dict(zip(mutants, tqdm(workers.map(killed, mutants), total=len(mutants)), strict=True))
        except KeyboardInterrupt:
            workers.shutdown(cancel_futures=True)
            raise SystemExit("interrupted; the same command resumes") from None


def report(results: dict[Mutant, str | None], equivalent: set[str]) -> str:
    """The survivors, the counts by kind, and the rates with their intervals."""
    real = {mutant: killed for mutant, killed in results.items() if killed or mutant.diff not in equivalent}
    lines = []
    for mutant in sorted((m for m, killed in real.items() if not killed), key=lambda m: (m.path, m.line)):
        place, *changes = mutant.diff.splitlines()
        lines += [f"{place}:{mutant.line}  {mutant.edit.kind}", *(f"  {change}" for change in changes)]
    counts = Counter((mutant.edit.kind, killed is not None) for mutant, killed in real.items())
    for kind in sorted({kind for kind, _ in counts}):
        lines.append(f"{kind:18} killed {counts[kind, True]:3}, survived {counts[kind, False]:3}")
    own, killed, n = counted(real, OWN), counted(real, OWN, OTHER), len(real)
    lines.append(f"killed {killed}, survived {n - killed}, equivalent {len(results) - n}")
    for number, tests in ((own, "tests of their own subpackage"), (killed, "all tests")) if n else ():
        low, high = binomtest(number, n).proportion_ci(0.95)
        lines.append(
            f"{number / n:.0%} of those not equivalent are killed by {tests}, 95% interval {low:.0%} to {high:.0%}"
        )
    return "\n".join(lines)


def counted(results: dict[Mutant, str | None], *by: str) -> int:
    """How many are killed by these tests."""
    return sum(killed in by for killed in results.values())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n\n")[0])
    parser.add_argument("paths", nargs="*", help=f"files or folders; by default the changed files of {PACKAGE}")
    parser.add_argument("--base", default="origin/main", help="changed since this revision")
    parser.add_argument("--all", action="store_true", help="the whole source")
    parser.add_argument("--number", type=int, default=60, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="the tests that a mutant meets, at most")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    given = parser.parse_args()
    named = [str(Path(path).resolve().relative_to(ROOT)) for path in given.paths]
    if given.all or named:
        files = git("ls-files", "--", *(named or [PACKAGE]))
    else:
        files = git("diff", "--name-only", "--diff-filter=d", "--merge-base", given.base, "--", PACKAGE)
    files = [name for name in files if name.endswith(".py") and (ROOT / name).is_file()]
    library = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        library |= classes(path.read_text(encoding="utf-8"))
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in files}
    mutants = [Mutant(name, edit) for name, source in sources.items() for edit in edits(source, library)]
    chosen = drawn(mutants, given.number, given.seed)
    if given.list:
        print("\n".join(f"{mutant.edit.kind}: {mutant.diff}" for mutant in chosen))
        return
    blocks = (ROOT / EQUIVALENT).read_text(encoding="utf-8").strip().split("\n\n")
    equivalent = {"\n".join(line for line in block.splitlines() if not line.startswith("#")) for block in blocks}
    results = judged(chosen, jobs=given.jobs, seconds=given.seconds, kept=ROOT / "out" / "mutants.jsonl")
    print(report(results, equivalent))


if __name__ == "__main__":
    main()
