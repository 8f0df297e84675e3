#!/usr/bin/env python3
"""Judges what is found in data that others made: short texts of 77 intents, alerts of known faults.

The data is not part of this repository: DATA/banking77/train.csv(.xz) of PolyAI and DATA/rca_fault_alerts
of boerste/rca-llm-reasoning. Each text, or each fault, is an incident in a file for
`watchkeeper problem detect --file`. scikit-learn gets the same features: the same words (numbers masked),
or symptoms, places and names, by their rarity, in vectors of length 1. Its parameters are the best of some
that are tried *with* the labels, and its k-means is told how many groups there are; ours are told nothing.
What is in no group is a group of its own, on both sides. Needs scikit-learn.

  public.py DATA WATCHKEEPER OUT [--only texts faults]

Exits with 1 if a baseline is better than ours.
"""
import argparse
import collections
import csv
import json
import lzma
import math
import os
import re
import subprocess
import sys

import numpy
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN, HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score

import rca


def rows_of(folder, name):
    path = os.path.join(folder, name)
    opened = open(path, newline="") if os.path.exists(path) else lzma.open(path + ".xz", "rt", newline="")
    with opened as file:
        return list(csv.DictReader(file))


def words(text):
    text = re.sub(r"\d+(\.\d+)?", "#", text).lower()
    return {word for word in re.split(r"\W+", text) if len(word) > 1}


def vectors(documents):
    counts = collections.Counter(token for tokens in documents for token in set(tokens))
    number = {token: index for index, token in enumerate(sorted(counts))}
    rows, columns, parts = [], [], []
    for row, tokens in enumerate(documents):
        weighed = {token: math.log(1 + len(documents) / counts[token]) for token in sorted(set(tokens))}
        length = math.sqrt(sum(it * it for it in weighed.values())) or 1.0
        for token, part in weighed.items():
            rows.append(row)
            columns.append(number[token])
            parts.append(part / length)
    return csr_matrix((parts, (rows, columns)), shape=(len(documents), len(number)))


def index(labels, truth):
    """The adjusted Rand index, each stray a group of its own."""
    alone = max(labels, default=0) + 1
    return adjusted_rand_score(truth, [it if it >= 0 else alone + row for row, it in enumerate(labels)])


def baselines(documents, truths):
    matrix = vectors(documents)
    distances = numpy.clip(1.0 - (matrix @ matrix.T).toarray(), 0.0, None)
    tried = {"DBSCAN": [], "HDBSCAN": [], "KMeans": []}
    for tolerance in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        tried["DBSCAN"].append(DBSCAN(eps=tolerance, min_samples=3, metric="precomputed").fit_predict(distances))
    for least in (3, 5, 15):
        tried["HDBSCAN"].append(HDBSCAN(min_cluster_size=least, metric="precomputed", copy=True).fit_predict(distances))
    for truth in truths.values():
        groups = len(set(truth))
        tried["KMeans"].append(KMeans(groups, n_init=5, random_state=7).fit_predict(matrix))
    return {name: {what: max(index(it, truth) for it in labels) for what, truth in truths.items()}
            for name, labels in tried.items()}


def ours(arguments, name, incidents, algorithm):
    """The labels that our detection gives."""
    folder = os.path.join(arguments.out, name)
    os.makedirs(os.path.join(folder, "rules"), exist_ok=True)
    os.makedirs(os.path.join(folder, "models"), exist_ok=True)
    with open(os.path.join(folder, "models", "problems.yaml"), "w") as file:
        print('problem_detection: [{name: default, schedule: {cron: "0 0 * * *"}, '
              f'algorithm: {algorithm}}}]', file=file)
    path = os.path.join(folder, "incidents.jsonl")
    with open(path, "w") as file:
        for number, it in enumerate(incidents):
            print(json.dumps({"id": number, **it}), file=file)
    found = subprocess.run(
        [arguments.watchkeeper, "problem", "detect", "--file", path, "--rules", os.path.join(folder, "rules"),
         "-o", "json"], check=True, stdout=subprocess.PIPE)
    labels = [-1] * len(incidents)
    found = json.loads(found.stdout)
    for number, it in enumerate(found["items"]):
        for incident in it["incidents"]:
            labels[incident] = number
    return labels, found["seconds"]


def texts(arguments):
    rows = rows_of(os.path.join(arguments.data, "banking77"), "train.csv")
    incidents = [{"title": row["text"]} for row in rows]
    return (incidents, [words(row["text"]) for row in rows],
            {"intent": [row["category"] for row in rows]}, "communities")


def faults(arguments):
    """An incident for each fault, from its alerts in their order; nothing in it names the fault."""
    folder = os.path.join(arguments.data, "rca_fault_alerts")
    alerts = collections.defaultdict(list)
    for row in rows_of(folder, "alerts.csv"):
        alerts[row["system"], row["fault_id"]].append(row)
    incidents, documents, kinds, places = [], [], [], []
    for row in rows_of(folder, "faults.csv"):
        told = sorted(alerts[row["system"], row["fault_id"]], key=lambda it: int(it["ts_ms"]))
        symptoms = []
        for labels in map(rca.labels, told):
            it = {"alertname": labels["alertname"], "place": labels.get("service") or labels.get("instance", "")}
            if it not in symptoms:
                symptoms.append(it)
        if not symptoms:
            continue
        incidents.append({"title": symptoms[0]["alertname"], "opened_at": rca.at(int(row["start_ms"])),
                          "symptoms": symptoms[:64]})
        documents.append([token for it in symptoms[:64] for token in
                          (it["alertname"] + "@" + it["place"], "name " + it["alertname"], "place " + it["place"])])
        kinds.append((row["system"], row["fault_type"]))
        places.append((row["system"], row["fault_type"], row["fault_entity"]))
    return incidents, documents, {"kind": kinds, "kind and place": places}, "dbscan"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("watchkeeper")
    parser.add_argument("out")
    parser.add_argument("--only", nargs="+", choices=["texts", "faults"], default=["texts", "faults"])
    arguments = parser.parse_args()
    worse = False
    for name, make in (("texts", texts), ("faults", faults)):
        if name not in arguments.only:
            continue
        incidents, documents, truths, algorithm = make(arguments)
        truths = {what: [str(it) for it in truth] for what, truth in truths.items()}
        best = {}
        for tried in dict.fromkeys([algorithm, "dbscan", "communities"]):
            labels, seconds = ours(arguments, name, incidents, tried)
            figures = {what: index(labels, truth) for what, truth in truths.items()}
            best = best or figures
            print(f"{name}: {len(incidents)} incidents, ours ({tried}): {len(set(labels) - {-1})} groups, "
                  f"{sum(it < 0 for it in labels)} alone, {seconds:.1f} s, "
                  + ", ".join(f"{what} {it:.3f}" for what, it in figures.items()), flush=True)
        for other, figures in baselines(documents, truths).items():
            worse = worse or any(it > best[what] for what, it in figures.items())
            print(f"{name}: scikit-learn {other}: " + ", ".join(f"{what} {it:.3f}" for what, it in figures.items()),
                  flush=True)
    sys.exit(worse)


if __name__ == "__main__":
    main()
