#!/usr/bin/env python3
"""Makes tests/golden/dbscan.json: points, and the labels that scikit-learn's DBSCAN gives them.

Two cases: points of a plane by Euclidean distance, and sparse vectors with weights by cosine distance,
as our own index hands them to linfa. -1 is noise. Needs scikit-learn (made with 1.9.1).

  dbscan_labels.py > tests/golden/dbscan.json
"""
import json
import random

import numpy
from sklearn.cluster import DBSCAN


def plane(dice):
    """Three hills, a bridge between two of them, and strays; in thousandths."""
    middles = [(0, 0, 900), (6000, 1000, 700), (3000, 7000, 1200)]
    points = [[int(dice.gauss(x, spread)), int(dice.gauss(y, spread))]
              for x, y, spread in middles for _ in range(110)]
    points += [[int(dice.gauss(200 * step, 90)), int(dice.gauss(30 * step, 90))] for step in range(26)]
    points += [[dice.randrange(-6000, 12000), dice.randrange(-6000, 12000)] for _ in range(44)]
    dice.shuffle(points)
    return points


def sparse(dice):
    """Each row is tokens with parts in thousandths, ascending; of eight kinds, and of none."""
    rows, weights = [], []
    for number in range(240):
        kind = number % 10
        own = range(kind * 5, kind * 5 + 7) if kind < 8 else range(60)
        tokens = sorted(set(dice.sample(list(own), 4)) | {dice.randrange(60)})
        rows.append([[token, dice.randrange(300, 1000)] for token in tokens])
        weights.append(dice.choice([1, 1, 1, 2, 5]))
    return rows, weights


def matrix(rows):
    parts = numpy.zeros((len(rows), 64))
    for row, tokens in enumerate(rows):
        for token, part in tokens:
            parts[row, token] = part
    return parts / numpy.linalg.norm(parts, axis=1, keepdims=True)


def main():
    dice = random.Random(7)
    points = plane(dice)
    rows, weights = sparse(dice)
    unit = matrix(rows)
    distances = numpy.clip(1.0 - unit @ unit.T, 0.0, None)
    cases = {"plane": [], "sparse": []}
    for tolerance, least in ((0.35, 4), (0.6, 5), (0.9, 8)):
        labels = DBSCAN(eps=tolerance, min_samples=least).fit_predict(numpy.array(points) / 1000.0)
        cases["plane"].append({"tolerance": tolerance, "min_points": least, "labels": labels.tolist()})
    for tolerance, least in ((0.2, 3), (0.3, 4), (0.4, 6)):
        found = DBSCAN(eps=tolerance, min_samples=least, metric="precomputed")
        labels = found.fit_predict(distances, sample_weight=weights)
        cases["sparse"].append({"tolerance": tolerance, "min_points": least, "labels": labels.tolist()})
    print(json.dumps({"points": points, "rows": rows, "weights": weights, **cases}, separators=(",", ":")))


if __name__ == "__main__":
    main()
