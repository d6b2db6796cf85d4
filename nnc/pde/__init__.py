"""Differential equations in the loss: training on residuals of equations, with unknown coefficients."""

from nnc.pde.problem import Problem
from nnc.pde.resampling import by_residual
from nnc.pde.terms import Residual, Values

__all__ = ["Problem", "Residual", "Values", "by_residual"]
