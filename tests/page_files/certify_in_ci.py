"""The slow run certifies all samplers from the printed test files, and the first as the workflow does.

The default run certifies the DDIM on fewer grids.
"""

import importlib.util
from pathlib import Path

from diffuscope.certify import certify, target_of


def check(run):
    import my_samplers  # pyright: ignore[reportMissingImports]

    assert [target_of(sampler).order for sampler in (my_samplers.euler, my_samplers.ancestral)] == [1, 1]
    spec = importlib.util.spec_from_file_location("page_of_a_ddim", "tests/test_my_ddim.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    found = certify(page.certified_ddim, steps=(16, 25, 40, 63))
    assert found.verdict == "passes"
    assert [finding.name for finding in found.others] == ["invariance"]
    if run.whole:
        assert Path("certificate.xml").exists()
        assert Path("certificate/certificate.html").exists()
