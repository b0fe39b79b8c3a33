"""Means with intervals: Wilson's over positions, a bootstrap over samples."""

import numpy as np
import pytest
from scipy.stats import binomtest

from probekit.paper.means import Mean


def test_shares_have_wilsons_interval() -> None:
    for count, n in ((0, 20), (103, 200), (200, 200), (538, 1000)):
        share = Mean.wilson(count / n, n)
        expected = binomtest(count, n).proportion_ci(method="wilson")
        assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_samples_that_differ_widen_the_interval() -> None:
    n = np.full(40, 20.0)
    alike = Mean.bootstrap(0.5 * n, n, seed=0)
    apart = Mean.bootstrap(n * (np.arange(40) % 2), n, seed=0)
    assert alike.value == apart.value == 0.5
    assert alike.high - alike.low < 1e-9
    # A standard error of 0.5/sqrt(40): the interval is 4 of them wide, not that of 800 draws.
    assert apart.high - apart.low == pytest.approx(4 * 0.5 / 40**0.5, rel=0.15)
