"""Writes reference.json: what SciPy and statsmodels say of the cases below.

python3 -m venv V && V/bin/pip install scipy statsmodels && V/bin/python reference.py > reference.json
"""
import json
import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.multitest import multipletests

SCALES = [1, 1e-3, 1e3]


def case(n, shift, scale, ties=False):
    r = np.random.default_rng([n, int(scale * 1000), int(shift * 100)])
    base = 2 + 0.1 * r.standard_normal(n)
    other = base + scale * (shift + r.standard_normal(n))
    if ties:  # differences of few values, zero among them
        other = base + r.integers(-2, 3, n) * 0.25
        base, other = np.round(base, 2), np.round(base, 2) + np.round(other - base, 2)
    d = other - base
    t = stats.ttest_rel(other, base)
    ci = t.confidence_interval(0.95)
    flip = stats.permutation_test(
        (other, base), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    return {
        "differences": d.tolist(), "mean": float(np.mean(d)), "sd": float(np.std(d, ddof=1)), "median": float(np.median(d)),
        "t": float(t.statistic), "p": float(t.pvalue), "low": float(ci.low), "high": float(ci.high), "sign_flip": float(flip.pvalue),
    }


def holm(p):
    return {"p": p, "holm": multipletests(p, method="holm")[1].tolist()}


r = np.random.default_rng(7)
print(json.dumps({
    "by": f"scipy {scipy.__version__}, statsmodels {statsmodels.__version__}, numpy {np.__version__}",
    "paired": [case(n, s, k) for n in (2, 3, 5, 6, 9, 13) for s in (0, 1) for k in SCALES] + [case(n, 0, 1, True) for n in (6, 8, 11)],
    "holm": [holm(p) for p in ([0.01], [0.01, 0.04], [0.04, 0.01, 0.03], [0.5, 0.6, 0.9], [0.02, 0.02, 0.02], r.uniform(0, 0.1, 12).tolist())],
}, indent=1))
