"""Quantiles of the normal distribution, to the last digit on every machine."""

from __future__ import annotations

from decimal import Context, Decimal

# The series below loses 14 digits at 8 standard deviations; the rest is twice as exact as a float.
_EXACT = Context(prec=50)
_SMALLEST = 2.0**-54
_SQRT_2_PI = Decimal("2.50662827463100050241576528481104525300698674060993832")


def normal_quantile(u: float) -> Decimal:
    """Return z with a share `u` of a standard normal distribution below it; 0 counts as half of the least step.

    The standard library's answer depends, in its last bit, on how the C library was built; one step of Newton's method in
    decimal makes two such answers one.
    """
    from statistics import NormalDist  # 10 ms that few sweeps need

    if u > 0.5:
        return -normal_quantile(1.0 - u)  # exact: both are multiples of the least step
    u = max(u, _SMALLEST)
    z = Decimal(NormalDist().inv_cdf(u))
    square = _EXACT.multiply(z, z)
    density = _EXACT.divide(_EXACT.exp(_EXACT.divide(-square, Decimal(2))), _SQRT_2_PI)
    error = _EXACT.subtract(_share_below(z, square, density), Decimal(u))
    return _EXACT.subtract(z, _EXACT.divide(error, density))


def _share_below(z: Decimal, square: Decimal, density: Decimal) -> Decimal:
    """Return the share below z: 1/2 + density * (z + z^3/3 + z^5/(3*5) + ...)."""
    term = total = z
    divisor = 1
    while abs(term) > abs(total) * Decimal("1e-45"):
        divisor += 2
        term = _EXACT.divide(_EXACT.multiply(term, square), Decimal(divisor))
        total = _EXACT.add(total, term)
    return _EXACT.add(Decimal("0.5"), _EXACT.multiply(density, total))
