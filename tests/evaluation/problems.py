#!/usr/bin/env python3
"""Judges the problems that are found in generated histories, over incidents that our own correlation made.

The generator and the judge are not part of this repository: TOOLS is the folder of `storm.py` and
`score.py`. For each seed a fortnight of 60 services with twelve faults that keep coming back is made,
once, in OUT/SEED, replayed without rules, and scored; a line for each, and what is missed.

  problems.py TOOLS WATCHKEEPER OUT [--seeds 1 2 3] [--hours 336] [--services 60] [--no-catalog]

Exits with 1 if a goal is missed.
"""
import argparse
import json
import os
import subprocess
import sys

# What a history must reach: at least, or at most.
GOALS = {
    "problem_precision": (0.90, True),
    "problem_recall": (0.80, True),
    "problems_recovered": (0.80, True),
    "false_problems": (0.05, False),
    "rhythm_right": (0.80, True),
}


def score(arguments, seed):
    folder = os.path.join(arguments.out, str(seed))
    result = os.path.join(folder, "result")
    if not os.path.exists(os.path.join(folder, "catalog.yaml")):
        subprocess.run(
            [sys.executable, os.path.join(arguments.tools, "storm.py"), folder, "--seed", str(seed),
             "--recurring", "12", "--hours", str(arguments.hours), "--services", str(arguments.services)],
            check=True, stdout=subprocess.DEVNULL)
    catalog = [] if arguments.no_catalog else ["--catalog", f"{folder}/catalog.yaml"]
    told = subprocess.run(
        [arguments.watchkeeper, "replay", f"{folder}/events.jsonl", "--no-rules", *catalog,
         "--changes", f"{folder}/changes.jsonl", "--out", result, "-o", "json"],
        check=True, stdout=subprocess.PIPE)
    judged = subprocess.run(
        [sys.executable, os.path.join(arguments.tools, "score.py"), folder, f"{result}/assignments.jsonl",
         "--problems", f"{result}/problems.jsonl", "--json"],
        check=True, stdout=subprocess.PIPE)
    return json.loads(judged.stdout), json.loads(told.stdout)


def missed(figures, name):
    bound, is_least = GOALS[name]
    if name == "rhythm_right" and not figures["rhythms"]:
        return False
    return figures[name] < bound if is_least else figures[name] > bound


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("watchkeeper")
    parser.add_argument("out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--hours", type=int, default=336)
    parser.add_argument("--services", type=int, default=60)
    parser.add_argument("--no-catalog", action="store_true")
    arguments = parser.parse_args()
    bad = 0
    for seed in arguments.seeds:
        figures, told = score(arguments, seed)
        misses = [name for name in GOALS if missed(figures, name)]
        bad += bool(misses)
        print(f"seed {seed}: {figures['problems']} found, {figures['true_problems']} true; "
              f"precision {figures['problem_precision']:.3f}, recall {figures['problem_recall']:.3f}, "
              f"recovered {figures['problems_recovered']:.3f}, false {figures['false_problems']:.3f}, "
              f"rhythm {figures['rhythm_right']:.2f} of {figures['rhythms']}; "
              f"{told['incidents']} incidents; "
              + ("missed: " + ", ".join(misses) if misses else "all goals met"), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
