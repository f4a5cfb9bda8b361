"""Decompositions of wide covariances in their own memory.

LAPACK works on one triangle of a symmetric matrix; afterwards the other one restores it, so that no copy is held.

scipy is imported where it is called: its own threads and buffers take tens of MB, and most trainings, which import this
module, are given their CCA.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.moments import mirror


@dataclass(frozen=True)
class PrincipalAxes:
    """Eigenvalues (D,), largest first and none negative, and eigenvectors as float32 columns (D, D) of a covariance."""

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> "PrincipalAxes":
        """Decompose a covariance (D, D)."""
        values, vectors = torch.linalg.eigh(covariance)
        return cls(values.flip(0).clamp(min=0), vectors.float().flip(1))

    @classmethod
    def of_standardized(cls, covariance: Tensor, scale: Tensor) -> "PrincipalAxes":
        """Decompose the covariance that rows have when their dimensions are divided by a scale (D,)."""
        return cls.of(covariance / scale / scale[:, None])

    def whitening(self, regularizer: float) -> Tensor:
        """Return (value + regularizer · mean value)^(-1/2) by axis, (D,); zero where nothing varies at all."""
        values = self.values + regularizer * self.values.mean()
        return torch.where(values > 0, values, torch.inf).rsqrt()


@dataclass(frozen=True)
class Factor:
    """The Cholesky factor L (D, D) of a regularised covariance; what is above its diagonal means nothing."""

    lower: np.ndarray

    def solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """Return L⁻¹ right, or L⁻ᵀ right, (D, K), in the memory of `right` if that is in Fortran's order."""
        from scipy.linalg import lapack

        solution, _ = lapack.dtrtrs(self.lower, right, lower=1, trans=int(transposed), overwrite_b=1)
        return solution


@contextmanager
def cholesky(covariance: Tensor, regularizer: float) -> Iterator[Factor]:
    """Lend the factor of covariance + regularizer · mean eigenvalue · identity; until the end the covariance is lost.

    covariance: (D, D), float64. Where nothing varies at all, the factor is the identity.
    """
    from scipy.linalg import lapack

    with _one_triangle(covariance) as matrix:
        mean = float(covariance.trace()) / len(covariance)
        matrix[np.diag_indices_from(matrix)] += regularizer * mean if mean > 0 else 1.0
        lower, failed = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError(f"the covariance with regulariser {regularizer} is not positive definite")
        yield Factor(lower)


def leading_axes(covariance: Tensor, count: int) -> Tensor:
    """Return the eigenvectors of the largest eigenvalues of a covariance (D, D) as columns (D, count)."""
    from scipy.linalg import eigh

    with _one_triangle(covariance) as matrix:
        last = len(matrix) - 1
        _, vectors = eigh(
            matrix, overwrite_a=True, check_finite=False, driver="evr", subset_by_index=[last + 1 - count, last]
        )
    return torch.from_numpy(vectors).flip(1)


def in_columns(matrix: Tensor) -> np.ndarray:
    """Return a copy of a matrix in Fortran's order, which LAPACK can overwrite.

    Its memory is PyTorch's, aligned alike every time: MKL's results depend on that in their last bits.
    """
    return matrix.T.clone(memory_format=torch.contiguous_format).numpy().T


def orthonormal(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Q (D, K) and R (K, K) of columns (D, K) in Fortran's order; Q takes their memory."""
    from scipy.linalg import qr

    return qr(columns, overwrite_a=True, mode="economic", check_finite=False)


def singular_vectors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, s and Vᵀ of a matrix (K, K) = U diag(s) Vᵀ, which is lost."""
    from scipy.linalg import svd

    return svd(matrix, overwrite_a=True, check_finite=False)


@contextmanager
def _one_triangle(covariance: Tensor) -> Iterator[np.ndarray]:
    """Lend a covariance as an array in Fortran's order, whose diagonal and lower triangle may be overwritten.

    The covariance has to be exactly symmetric.
    """
    diagonal = covariance.diagonal().clone()
    try:
        yield covariance.numpy().T
    finally:
        # The transposed matrix has the untouched triangle above its diagonal.
        mirror(covariance.T)
        covariance.diagonal().copy_(diagonal)
