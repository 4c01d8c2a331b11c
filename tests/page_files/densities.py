"""Coarser grids and fewer probes in the default run."""

SHORTER = {"equal_steps(0, 1, 50)": "equal_steps(0, 1, 5)", "rademacher(x_t, 32": "rademacher(x_t, 4",
           "Grid.line(-6, 6, 400)": "Grid.line(-6, 6, 100)", "1e-3, 400)": "1e-3, 100)"}  # fmt: skip
