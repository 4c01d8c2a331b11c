"""The slow run certifies both samplers from the printed test file, and the first as the workflow does."""

from pathlib import Path

from diffuscope.certify import target_of


def check(run):
    import my_samplers  # pyright: ignore[reportMissingImports]

    assert [target_of(sampler).order for sampler in (my_samplers.euler, my_samplers.ancestral)] == [1, 1]
    if run.whole:
        assert Path("certificate.xml").exists()
        assert Path("certificate/certificate.html").exists()
