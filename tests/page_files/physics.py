"""Samples of the exact posterior are what the page says of them."""


def after(run, block):
    if "miss = " in block.text:
        assert float(run.names["miss"]) < 1e-10
        drawn, exact = run.names["fields"], run.names["exact"]
        standard_errors = (exact.trace / len(drawn)) ** 0.5
        assert float((drawn.mean(0) - exact.mean).norm()) < 3 * standard_errors
