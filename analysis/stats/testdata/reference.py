#!/usr/bin/env python3
"""Known answers for package stats, by brute force: every resample, every sign, every
order. It shares nothing with the package but the definitions, and needs Python only:
    python3 reference.py > reference.json
"""
import itertools, json, math, random, statistics, sys
from collections import Counter
from fractions import Fraction

phi = statistics.NormalDist()


def ideal_bca(values, confidence=0.95):
    """BCa interval of a median over all n^n resamples (Efron and Tibshirani 1993, 14.3)."""
    n = len(values)
    dist = Counter()
    for combo in itertools.combinations_with_replacement(range(n), n):
        ways = math.factorial(n)
        for count in Counter(combo).values():
            ways //= math.factorial(count)
        dist[statistics.median(values[i] for i in combo)] += ways
    total = n**n
    theta = statistics.median(values)
    below = sum(w for m, w in dist.items() if m < theta)
    share = (below + dist[theta] / 2) / total
    z0 = phi.inv_cdf(share)
    left = [statistics.median(values[:i] + values[i + 1 :]) for i in range(n)]
    mean = sum(left) / n
    num = sum((mean - x) ** 3 for x in left)
    den = 6 * sum((mean - x) ** 2 for x in left) ** 1.5
    a = num / den if den else 0.0
    z = phi.inv_cdf(0.5 + confidence / 2)

    def quantile(z):
        level = phi.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
        seen = 0
        for m in sorted(dist):
            seen += dist[m]
            if seen / total >= level:
                return m, level, seen / total
        raise AssertionError

    (low, level_low, at_low), (high, level_high, at_high) = quantile(-z), quantile(z)
    return {"values": values, "low": low, "high": high, "z0": z0, "a": a, "levels": [level_low, level_high]}


def signed_rank(values):
    """Two-sided and one-sided p over all 2^n signs."""
    values = [v for v in values if v]
    n = len(values)
    size = [abs(v) for v in values]
    rank = [Fraction(sum(s < x for s in size) * 2 + sum(s == x for s in size) + 1, 2) for x in size]
    seen = sum(r for r, v in zip(rank, values) if v > 0)
    sums = [sum(r for r, s in zip(rank, signs) if s) for signs in itertools.product((0, 1), repeat=n)]
    less = sum(s <= seen for s in sums) / len(sums)
    greater = sum(s >= seen for s in sums) / len(sums)
    return {"values": values, "less": less, "greater": greater}


def mann_whitney(a, b):
    """One-sided p over all choices of len(a) of the ranks."""
    both = a + b
    rank = [Fraction(sum(s < x for s in both) * 2 + sum(s == x for s in both) + 1, 2) for x in both]
    seen = sum(rank[: len(a)])
    sums = [sum(c) for c in itertools.combinations(rank, len(a))]
    return {"a": a, "b": b, "less": sum(s <= seen for s in sums) / len(sums), "greater": sum(s >= seen for s in sums) / len(sums)}


def mann_kendall(y):
    """One-sided p over all orders."""
    def statistic(y):
        return sum((b > a) - (b < a) for a, b in itertools.combinations(y, 2))

    seen = statistic(y)
    all_ = [statistic(p) for p in itertools.permutations(y)]
    return {"y": y, "less": sum(s <= seen for s in all_) / len(all_), "greater": sum(s >= seen for s in all_) / len(all_)}


def theil_sen(x, y, confidence=0.95):
    n = len(x)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i, j in itertools.combinations(range(n), 2))
    c = phi.inv_cdf(0.5 + confidence / 2) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = math.floor((len(slopes) - c) / 2), math.ceil((len(slopes) + c) / 2)
    return {"x": x, "y": y, "slope": statistics.median(slopes), "low": slopes[low - 1], "high": slopes[high]}


def clopper_pearson(k, n, confidence=0.95):
    """By bisection of binomial tails, without the beta distribution."""
    def upper_tail(p):  # P(X >= k)
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))

    def lower_tail(p):  # P(X <= k)
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(0, k + 1))

    def solve(f):
        lo, hi = 0.0, 1.0
        for _ in range(200):
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if f(mid) else (lo, mid)
        return lo

    alpha = 1 - confidence
    return {"k": k, "n": n,
            "low": 0.0 if k == 0 else solve(lambda p: upper_tail(p) < alpha / 2),
            "high": 1.0 if k == n else solve(lambda p: lower_tail(p) > alpha / 2)}


def bca_variance(values, confidence=0.9, resamples=200_000, seed=5):
    """BCa interval of a variance."""
    rng = random.Random(seed)
    theta = statistics.pvariance(values)
    n = len(values)

    def variance(sample):
        mean = sum(sample) / n
        return sum((v - mean) ** 2 for v in sample) / n

    reps = sorted(variance(rng.choices(values, k=n)) for _ in range(resamples))
    z0 = phi.inv_cdf((sum(r < theta for r in reps) + sum(r == theta for r in reps) / 2) / resamples)
    left = [statistics.pvariance(values[:i] + values[i + 1 :]) for i in range(n)]
    mean = sum(left) / n
    a = sum((mean - x) ** 3 for x in left) / (6 * sum((mean - x) ** 2 for x in left) ** 1.5)
    z = phi.inv_cdf(0.5 + confidence / 2)
    level = lambda z: phi.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
    return {"a": a, "low": reps[int(level(-z) * resamples)], "high": reps[int(level(z) * resamples)]}


# Test A of Efron and Tibshirani's spatial data, 1993, table 14.1.
spatial = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]


def ratio_of_medians(a, b, resamples=400_000, seed=11):
    """BCa interval of median(a)/median(b), each drawn from alone (Davison and Hinkley 1997, 5.3)."""
    rng = random.Random(seed)
    stat = lambda a, b: statistics.median(a) / statistics.median(b)
    theta = stat(a, b)
    reps = sorted(stat(rng.choices(a, k=len(a)), rng.choices(b, k=len(b))) for _ in range(resamples))
    z0 = phi.inv_cdf((sum(r < theta for r in reps) + sum(r == theta for r in reps) / 2) / resamples)
    cubes = squares = 0.0
    for this, f in ((a, lambda s: stat(s, b)), (b, lambda s: stat(a, s))):
        n = len(this)
        left = [f(this[:i] + this[i + 1 :]) for i in range(n)]
        mean = sum(left) / n
        l = [(n - 1) * (mean - x) for x in left]
        cubes += sum(x**3 for x in l) / n**3
        squares += sum(x**2 for x in l) / n**2
    acc = cubes / squares**1.5 / 6 if squares else 0.0
    z = phi.inv_cdf(0.975)
    level = lambda z: phi.cdf(z0 + (z0 + z) / (1 - acc * (z0 + z)))
    return {"a": a, "b": b, "ratio": theta, "acceleration": acc, "low": reps[int(level(-z) * resamples)], "high": reps[int(level(z) * resamples)]}


rng = random.Random(20)
logs = lambda n, mu, sigma: [round(math.exp(rng.gauss(mu, sigma)), 3) for _ in range(n)]
json.dump({
    "bca_median": [ideal_bca(logs(n, 3, 0.7)) for n in (6, 7, 8, 9)],
    "bca_variance": bca_variance(spatial),
    "signed_rank": [signed_rank([round(rng.gauss(0.3, 1), 1) for _ in range(n)]) for n in (4, 7, 10, 13)],
    "mann_whitney": [mann_whitney([rng.randint(1, 9) for _ in range(n)], [rng.randint(2, 11) for _ in range(m)]) for n, m in ((3, 4), (6, 6), (5, 9), (8, 7))],
    "mann_kendall": [mann_kendall([round(rng.gauss(0.2 * i, 1), 3) for i in range(n)]) for n in (3, 5, 7, 8)],
    "theil_sen": [theil_sen(sorted(round(rng.uniform(0, 50), 2) for _ in range(n)), [round(rng.gauss(5, 1), 3) for _ in range(n)]) for n in (8, 12, 25)],
    "clopper_pearson": [clopper_pearson(k, n) for k, n in ((0, 6), (1, 6), (3, 10), (17, 40), (40, 40))],
    "ratio_of_medians": [ratio_of_medians(logs(8, 3, 0.4), logs(11, 2.8, 0.3)), ratio_of_medians(logs(15, 1, 0.8), logs(15, 1.5, 0.8), seed=12)],
}, sys.stdout)
