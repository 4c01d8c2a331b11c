"""The versions of every dependency that a test run is to have: the oldest that pyproject.toml allows, or the newest.

`python tools/versions.py oldest` prints constraints for pip, one line for each dependency with a floor, of the core and
of all extras. `newest` prints none, so that pip takes what there is.
"""

import re
import sys
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,.-]+\])?\s*>=\s*(?P<floor>[\w.]+)")


def floors(pyproject: str) -> dict[str, str]:
    """The least version of every requirement that states one.

    >>> floors('[project]\\ndependencies = ["torch>=2.5", "numpy"]')
    {'torch': '2.5'}
    """
    project = tomllib.loads(pyproject)["project"]
    extras = project.get("optional-dependencies", {}).values()
    found = {}
    for requirement in [*project["dependencies"], *(each for extra in extras for each in extra)]:
        if match := REQUIREMENT.match(requirement):
            found[match["name"]] = match["floor"]
    return found


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("oldest", "newest"):
        raise SystemExit("usage: versions.py oldest|newest")
    if sys.argv[1] == "oldest":
        text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
        print("\n".join(f"{name}=={floor}" for name, floor in sorted(floors(text).items())))


if __name__ == "__main__":
    main()
