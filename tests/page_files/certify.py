"""The samplers take a minute of grids each: here twelve steps are enough to see that they run."""

SHORTER = {
    "certify(my_sampler)": "certify(my_sampler, steps=(5, 10), samples=100, seconds=1.0)",
    "check_sampler(my_sampler)": "assert check_sampler",
}


def check(run):
    assert run.names["certificate"].verdict in ("passes", "undecided")
    assert run.names["certificate"].target.order == 1
