"""Tridiagonal matrices against dense linear algebra."""

import pytest
import torch

from diffuscope.densities.tridiagonal import Tridiagonal


def matrices(generator, *, periodic, lines=3, size=7):
    """Random diagonally dominant matrices, and the same as dense ones."""
    bands = [torch.randn(lines, size, generator=generator, dtype=torch.float64) for _ in range(3)]
    lower, diagonal, upper = bands[0], bands[1].abs() + 4, bands[2]
    if not periodic:
        lower[:, 0] = upper[:, -1] = 0
    rows = torch.arange(size)
    dense = torch.zeros(lines, size, size, dtype=torch.float64)
    dense[:, rows, rows] += diagonal
    dense[:, rows, (rows - 1) % size] += lower
    dense[:, rows, (rows + 1) % size] += upper
    return Tridiagonal(lower, diagonal, upper), dense


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("lines", "size"), [(3, 7), (1, 2), (2, 2), (1, 3)])
def test_products_solutions_and_transposes_are_those_of_the_dense_matrix(periodic, lines, size, generator):
    matrix, dense = matrices(generator, periodic=periodic, lines=lines, size=size)
    x = torch.randn(lines, size, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(matrix.apply(x), torch.einsum("bij,bj->bi", dense, x), atol=1e-14, rtol=0)
    torch.testing.assert_close(matrix.solve(x), torch.linalg.solve(dense, x), atol=1e-14, rtol=0)
    torch.testing.assert_close(matrix.transposed().apply(x), torch.einsum("bji,bj->bi", dense, x), atol=1e-14, rtol=0)
    torch.testing.assert_close(matrix.transposed().solve(x), torch.linalg.solve(dense.mT, x), atol=1e-14, rtol=0)


@pytest.mark.parametrize("periodic", [False, True])
def test_the_solution_is_differentiable_in_the_right_side_and_in_every_band(periodic, generator):
    matrix, _ = matrices(generator, periodic=periodic)
    inner = slice(None) if periodic else slice(1, None)
    b = torch.randn(3, 7, generator=generator, dtype=torch.float64).requires_grad_()
    lower, diagonal, upper = (
        band[:, inner].clone().requires_grad_() for band in (matrix.lower, matrix.diagonal, matrix.upper.flip(-1))
    )

    def solved(b, lower, diagonal, upper):
        pad = (0, 0) if periodic else (1, 0)
        full = [torch.nn.functional.pad(band, pad) for band in (lower, upper)]
        centre = diagonal if periodic else torch.cat([matrix.diagonal[:, :1], diagonal], 1)
        return Tridiagonal(full[0], centre, full[1].flip(-1)).solve(b)

    assert torch.autograd.gradcheck(solved, (b, lower, diagonal, upper))


def test_a_singular_matrix_is_said_to_be_singular():
    zero = torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(ZeroDivisionError, match="singular"):
        Tridiagonal(zero, zero, zero).solve(torch.ones(1, 3, dtype=torch.float64))


def test_a_first_row_of_its_diagonal_and_a_corner_alone_can_be_solved():
    """[[2, 0, 1], [1, 3, 1], [1, 1, 2]]: the row without its corner is only what the correction leaves of its 2."""
    lower, diagonal, upper = (torch.tensor([row], dtype=torch.float64) for row in ([1, 1, 1], [2, 3, 2], [0, 1, 1]))
    matrix, x = Tridiagonal(lower, diagonal, upper), torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    assert matrix.apply(x).tolist() == [[5.0, -2.0, 5.0]]
    torch.testing.assert_close(matrix.solve(matrix.apply(x)), x, rtol=1e-12, atol=1e-12)
