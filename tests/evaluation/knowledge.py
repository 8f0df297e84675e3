#!/usr/bin/env python3
"""Judges what is offered for an incident: past incidents like it, and articles that fit.

A daemon is started in a folder of its own, is given real texts as alerts and as articles, and is asked over its
API. The texts are not part of this repository: DATA is a folder with `gitbugs/` (reports of bugs, of which some are
duplicates of others) and `rules_runbooks/` (alert rules, articles, and which article belongs to which rule).

  knowledge.py DATA WATCHKEEPER [--only similar articles]

`similar`: each report is an incident that is over; for each that has duplicates the share of which one is among the
first five (R@5), and the mean of one by the rank of the first (MRR). `articles`: for each rule with a known article
one alert, as its rule would send it; how often the article comes first (R@1) or among five (R@5): with the names of
alerts, without (they are taken out of rules and articles alike), and with the addresses that rules name. The baseline
is scikit-learn's TfidfVectorizer with its defaults and the cosine, on the same texts, where it is installed.

Exits with 1 if a goal is missed.
"""
import argparse
import collections
import csv
import json
import lzma
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

GOALS = {
    ("similar", "R@5"): 0.80,
    ("similar", "MRR"): 0.65,
    ("articles, with names", "R@1"): 0.90,
    ("articles, without names", "R@1"): 0.70,
}
RULES = """correlations:
  - name: each
    group_by: ['...']
    window: {gap: 1h, max: 1h}
    incident: {title: "{{ annotations.summary }}", reopen_within: 1s}
"""


class Daemon:
    """A daemon in a folder of its own."""

    def __init__(self, program, articles):
        self.folder = tempfile.TemporaryDirectory(prefix="knowledge-")
        rules = os.path.join(self.folder.name, "rules", "knowledge")
        os.makedirs(rules)
        with open(os.path.join(self.folder.name, "rules", "each.yaml"), "w") as file:
            file.write(RULES)
        for name, text in articles.items():
            with open(os.path.join(rules, name + ".md"), "w") as file:
                file.write(text)
        data = os.path.join(self.folder.name, "data")
        self.process = subprocess.Popen(
            [program, "serve", "--rules", os.path.dirname(rules), "--data", data, "--listen", "127.0.0.1:0"],
            cwd=self.folder.name, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                self.url = found.group(1)
                break
        else:
            raise SystemExit("the daemon did not start")

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def send(self, alerts):
        for at in range(0, len(alerts), 50):
            self.call("/api/v2/alerts", alerts[at:at + 50])

    def incidents(self, query=""):
        found, cursor = [], ""
        while cursor is not None:
            page = self.call(f"/api/v1/incidents?limit=500{query}" + (f"&cursor={cursor}" if cursor else ""))
            found += page["items"]
            cursor = page["next_cursor"]
        return found

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def lines(path):
    with lzma.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def short(text):
    """As much of a text as an annotation may hold."""
    return text.encode()[:8000].decode(errors="ignore") or "-"


def moment(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def baseline(documents, questions):
    """For each question the numbers of the documents, the likest first; None without scikit-learn."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        return None
    vectorizer = TfidfVectorizer()
    matrix = vectorizer.fit_transform(documents)
    likeness = (vectorizer.transform(questions) @ matrix.T).toarray()
    return (-likeness).argsort(axis=1, kind="stable")


def judged(ranks, most):
    """R@1, R@`most` and MRR of the ranks of the first right answers; None = it did not come."""
    count = len(ranks)
    share = lambda most: sum(it is not None and it <= most for it in ranks) / count
    return {"R@1": share(1), "R@5": share(5), "MRR": sum(1 / it for it in ranks if it) / count}


def rank(found, right):
    return next((at for at, it in enumerate(found, 1) if it in right), None)


def similar(data, program):
    folder = os.path.join(data, "gitbugs")
    with lzma.open(os.path.join(folder, "seamonkey_bugs.csv.xz"), "rt") as file:
        bugs = list(csv.DictReader(file))
    groups = collections.defaultdict(set)
    for bug in bugs:
        groups[bug["dup_group"]].add(bug["issue_id"])
    asked = [it for it in bugs if len(groups[it["dup_group"]]) > 1]
    daemon = Daemon(program, {})
    try:
        alerts = [{
            "labels": {"alertname": "BugReport", "bug": it["issue_id"]},
            "annotations": {"summary": it["summary"], "description": short(it["description"])},
            "startsAt": moment(-60),
        } for it in bugs]
        daemon.send(alerts)
        daemon.send([dict(it, endsAt=moment(-1)) for it in alerts])
        deadline = time.time() + 120
        while len(daemon.incidents("&state=closed")) < len(bugs) and time.time() < deadline:
            time.sleep(0.5)
        bug_of = {it["id"]: it["labels"]["bug"] for it in daemon.incidents()}
        if len(bug_of) != len(bugs):
            raise SystemExit(f"{len(bug_of)} incidents of {len(bugs)} reports")
        id_of = {bug: id for id, bug in bug_of.items()}
        # The first question reads what is past; the next ones find all of it.
        daemon.call(f"/api/v1/incidents/{id_of[asked[0]['issue_id']]}/similar?limit=1")
        ranks, begun = [], time.time()
        for it in asked:
            found = daemon.call(f"/api/v1/incidents/{id_of[it['issue_id']]}/similar?limit=100")["items"]
            ranks.append(rank([bug_of[one["id"]] for one in found], groups[it["dup_group"]] - {it["issue_id"]}))
        took = (time.time() - begun) / len(asked)
    finally:
        daemon.stop()
    texts = [it["summary"] + "\n" + it["description"] for it in bugs]
    other = baseline(texts, [it["summary"] + "\n" + it["description"] for it in asked])
    plain = None
    if other is not None:
        of = lambda order, it: [bugs[at]["issue_id"] for at in order if bugs[at]["issue_id"] != it["issue_id"]]
        plain = judged([rank(of(order, it), groups[it["dup_group"]] - {it["issue_id"]})
                        for order, it in zip(other, asked)], 5)
    print(f"  ({len(bugs)} past incidents, {len(asked)} asked, {took * 1000:.0f} ms an answer with 100 of them)")
    return [("similar", judged(ranks, 5), plain)]


def without(text, names):
    for name in names:
        text = re.sub(re.escape(name), " ", text, flags=re.IGNORECASE)
    return text


def page_of(article):
    """The address under which an article of that collection is published."""
    found = re.fullmatch(r"content/runbooks/(.+)\.md", article["path"])
    return "https://runbooks.prometheus-operator.dev/runbooks/" + found.group(1).lower() if found else None


def articles(data, program):
    folder = os.path.join(data, "rules_runbooks")
    rules = {it["rule_id"]: it for it in lines(os.path.join(folder, "rules.jsonl.xz"))}
    books = lines(os.path.join(folder, "runbooks.jsonl.xz"))
    gold = lines(os.path.join(folder, "gold_rule_runbook.jsonl.xz"))
    results = []
    for mode in ("with names", "without names", "with addresses"):
        results.append(fitting(mode, rules, books, gold, program))
    return results


def fitting(mode, rules, books, gold, program):
    named = mode != "without names"
    files, name_of, texts = {}, {}, []
    for number, book in enumerate(books):
        text = re.sub(r"\A---.*?^---\s*$", "", book["text"], flags=re.DOTALL | re.MULTILINE)
        file = re.sub(r"[^A-Za-z0-9]+", "-", book["id"]).strip("-") if named else f"a{number:03}"
        last = re.split(r"[/:]", book["id"])[-1]
        if not named:
            text = without(text, [book["title"], book["title"].replace(" ", ""), last])
        front = {"name": file, "title": book["title"] if named else f"Article {number:03}"}
        if mode == "with addresses" and page_of(book):
            front["urls"] = [page_of(book)]
        head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
        files[file] = f"---\n{head}---\n{text}"
        name_of[book["id"]] = file
        texts.append((book["title"] + "\n" if named else "") + text)
    alerts, questions = [], []
    for number, it in enumerate(gold):
        rule = rules[it["rule_id"]]
        plain = lambda text: re.sub(r"\{\{.*?\}\}", " ", text, flags=re.DOTALL)
        names = [] if named else [rule["alert"]]
        told = {key: without(plain(text), names) for key, text in rule["annotations"].items()
                if key in ("summary", "description", "message")}
        if mode == "with addresses" and it["runbook_url"]:
            told["runbook_url"] = it["runbook_url"]
        labels = {key: plain(text) or "x" for key, text in rule["labels"].items()}
        labels |= {"alertname": rule["alert"] if named else "Alert", "number": str(number)}
        alerts.append({"labels": labels, "annotations": told, "startsAt": moment(-60)})
        words = [told.get(key, "") for key in ("summary", "description", "message")]
        questions.append("\n".join(([rule["alert"]] if named else []) + words))
    daemon = Daemon(program, files)
    try:
        daemon.send(alerts)
        incidents = {it["labels"]["number"]: it["id"] for it in daemon.incidents()}
        ranks = []
        for number, it in enumerate(gold):
            found = daemon.call("/api/v1/incidents/" + incidents[str(number)])["articles"]
            ranks.append(rank([one["id"] for one in found], {name_of[id] for id in it["runbook_ids"]}))
    finally:
        daemon.stop()
    other = baseline(texts, questions)
    plain = None
    if other is not None:
        plain = judged([rank([books[at]["id"] for at in order], set(it["runbook_ids"]))
                        for order, it in zip(other, gold)], 5)
    return "articles, " + mode, judged(ranks, 5), plain


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("watchkeeper")
    parser.add_argument("--only", nargs="+", default=["similar", "articles"])
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.watchkeeper)
    results = []
    if "similar" in arguments.only:
        results += similar(arguments.data, program)
    if "articles" in arguments.only:
        results += articles(arguments.data, program)
    bad = 0
    print("| what | measure | ours | TF-IDF of scikit-learn | goal |\n|---|---|---|---|---|")
    for name, ours, plain in results:
        for measure in ("R@1", "R@5", "MRR"):
            goal = GOALS.get((name, measure))
            bad += goal is not None and ours[measure] < goal
            other = f"{plain[measure]:.3f}" if plain else "not installed"
            print(f"| {name} | {measure} | {ours[measure]:.3f} | {other} | {goal or ''} |")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
