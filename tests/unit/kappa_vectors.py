#!/usr/bin/env python3
"""Cohen's kappa and its standard error once more, another way, for tests/unit/test_kappa.c.

No formula of server/kappa.c is used: kappa is counted over the two lists of labels in fractions, and
its error is the delta method with every derivative taken numerically (Richardson's extrapolation) of
kappa as a function of the k*k shares, over the multinomial covariance.

usage: kappa_vectors.py        prints lines of: k, the k*k counts, kappa, se
"""
from collections import Counter
from fractions import Fraction
import math, random


def kappa_of_lists(a, b):
    n = len(a)
    po = Fraction(sum(x == y for x, y in zip(a, b)), n)
    ca, cb = Counter(a), Counter(b)
    pe = sum(Fraction(ca[c], n) * Fraction(cb[c], n) for c in set(a) | set(b))
    return (po - pe) / (1 - pe)


def kappa_of_shares(p, k):
    total = sum(p)
    po = sum(p[i * k + i] for i in range(k)) / total
    pe = sum(sum(p[i * k:i * k + k]) * sum(p[i::k]) for i in range(k)) / total ** 2
    return (po - pe) / (1 - pe)


def se_of_counts(counts, k):
    n = sum(counts)
    p = [c / n for c in counts]
    grad = []
    for i in range(len(p)):
        def slope(h):
            up, down = p[:], p[:]
            up[i] += h
            down[i] -= h
            return (kappa_of_shares(up, k) - kappa_of_shares(down, k)) / (2 * h)
        grad.append((4 * slope(5e-4) - slope(1e-3)) / 3)
    mean = sum(g * x for g, x in zip(grad, p))
    return math.sqrt(max(0, sum(x * (g - mean) ** 2 for g, x in zip(grad, p))) / n)


def lists_of(counts, k):
    a, b = [], []
    for i in range(k):
        for j in range(k):
            a += [i] * counts[i * k + j]
            b += [j] * counts[i * k + j]
    return a, b


def main():
    random.seed(7)
    tables = [(3, [75, 1, 4, 5, 4, 1, 0, 0, 10]), (2, [20, 5, 10, 15]), (2, [45, 15, 25, 15]),
              (2, [25, 35, 5, 35]), (4, [21, 12, 0, 0, 4, 17, 1, 0, 3, 9, 15, 2, 0, 0, 0, 1]),
              (2, [1, 9, 9, 1]), (2, [118, 5, 2, 0]), (2, [3, 1, 0, 2])]
    for i in range(200):
        k = 2 + i % 5
        tables.append((k, [1 + random.randrange(40) for _ in range(k * k)]))
    for k, counts in tables:
        kappa = kappa_of_lists(*lists_of(counts, k))
        assert abs(float(kappa) - kappa_of_shares([float(c) for c in counts], k)) < 1e-12
        print(k, *counts, "%.12f %.9f" % (kappa, se_of_counts(counts, k)))


if __name__ == "__main__":
    main()
