#!/usr/bin/env python3
"""Judges correlation by real fault alerts of microservice systems with known faults.

The data is not part of this repository: alerts.csv(.xz), faults.csv and topology_SYSTEM.json of
boerste/rca-llm-reasoning. Each row becomes an alert; rows of the same series within a minute are one
firing, which is over a minute after its last row. Nothing in an alert names the fault.

  rca.py convert DATA SYSTEM OUT      writes OUT/events.jsonl and OUT/catalog.yaml
  watchkeeper replay OUT/events.jsonl --no-rules --catalog OUT/catalog.yaml --out OUT/result
  rca.py score DATA SYSTEM OUT        compares OUT/result with the faults
"""
import collections
import csv
import json
import lzma
import math
import os
import re
import sys
from datetime import datetime, timezone

# A series that is not heard of for so many seconds is over.
HOLD_SECONDS = 60


def rows(data, system):
    path = os.path.join(data, "alerts.csv")
    file = open(path, newline="") if os.path.exists(path) else lzma.open(path + ".xz", "rt", newline="")
    with file:
        found = [row for row in csv.DictReader(file) if row["system"] == system]
    return sorted(found, key=lambda row: int(row["ts_ms"]))


def host(name):
    """MicroSS names its hosts by address in alerts and by number in its topology."""
    address = re.fullmatch(r"0\.0\.0\.(\d+)", name)
    return f"host{address.group(1)}" if address else name


def labels(row):
    component, peer = host(row["component"]), host(row["peer_or_host"])
    told = {"service": component, "severity": "warning"}
    if row["kind"] == "metric":
        told["alertname"] = f"{row['signal']} {row['direction_or_code']}"
        if peer:
            told["instance"] = peer
        if peer == component or component.startswith(("host", "node-")):
            told["instance"] = told.pop("service")
    elif row["kind"] == "trace":
        code = row["direction_or_code"]
        told["alertname"] = "SlowCalls" if code == "PD" else f"FailedCalls{code}"
        told["operation"] = row["signal"]
        told["peer"] = peer
        told["severity"] = "warning" if code == "PD" else "critical"
    else:
        told["alertname"] = "UnusualLog"
        told["template"] = row["signal"]
    return {name: value for name, value in told.items() if value}


def at(milliseconds):
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def firings(data, system):
    """Each firing of a series: its labels, its begin and end, and the faults of its rows."""
    open_, done = {}, []
    for row in rows(data, system):
        key, now = json.dumps(labels(row), sort_keys=True), int(row["ts_ms"])
        known = open_.get(key)
        if known and now - known["last"] <= HOLD_SECONDS * 1000:
            known["last"] = now
            known["faults"].append(row["fault_id"])
            continue
        open_[key] = {"labels": labels(row), "first": now, "last": now, "faults": [row["fault_id"]]}
        done.append(open_[key])
    return done


def convert(data, system, out):
    os.makedirs(out, exist_ok=True)
    lines = []
    for firing in firings(data, system):
        body = {"labels": firing["labels"], "annotations": {}, "startsAt": at(firing["first"])}
        lines.append((firing["first"], 1, body))
        end = firing["last"] + HOLD_SECONDS * 1000
        lines.append((end, 0, dict(body, endsAt=at(end))))
    lines.sort(key=lambda line: line[:2])
    with open(f"{out}/events.jsonl", "w") as file:
        for moment, _, body in lines:
            file.write(json.dumps({"ts": at(moment), "source": system, "alert": body}) + "\n")
    with open(f"{out}/catalog.yaml", "w") as file:
        file.write(catalog(f"{data}/topology_{system}.json"))


def catalog(path):
    """Backstage documents: an instance needs the instances of what its service needs, and its host."""
    with open(path) as file:
        graph = json.load(file)
    kinds = {node["id"]: node["type"] for node in graph["nodes"]}
    instances, calls, hosts = (collections.defaultdict(list) for _ in range(3))
    for edge in graph["edges"]:
        source, target, label = edge["source"], edge["target"], edge["label"]
        if label == "has_instance":
            instances[source].append(target)
        elif label in ("control_flow", "data_flow", "registers_with"):
            calls[source].append(target)
        elif label == "hosted_on":
            hosts[source].append(target)
    service_of = {it: service for service, them in instances.items() for it in them}
    text = ""
    for name, kind in kinds.items():
        if kind == "Host":
            text += ("---\napiVersion: backstage.io/v1alpha1\nkind: Resource\n"
                     f"metadata: {{name: {name}}}\nspec: {{type: host, owner: x}}\n")
            continue
        called = calls[service_of.get(name, name)]
        needs = [it for service in called for it in [service, *instances[service]]]
        needs += instances[name] + [f"resource:default/{it}" for it in hosts[name]]
        text += ("---\napiVersion: backstage.io/v1alpha1\nkind: Component\n"
                 f"metadata: {{name: {name}}}\nspec: {{type: service, owner: x, dependsOn: {json.dumps(needs)}}}\n")
    return text


def score(data, system, out):
    assigned = {}
    with open(f"{out}/result/assignments.jsonl") as file:
        for line in file:
            it = json.loads(line)
            moment = datetime.fromisoformat(it["starts_at"].replace("Z", "+00:00")).timestamp()
            assigned[json.dumps(it["labels"], sort_keys=True), round(moment, 2)] = it["incident"]
    truth, guess = [], []
    for number, firing in enumerate(firings(data, system)):
        key = json.dumps(firing["labels"], sort_keys=True), round(firing["first"] / 1000, 2)
        incident = assigned.get(key) or f"alone {number}"
        truth += firing["faults"]
        guess += [incident] * len(firing["faults"])
    both, true, told = collections.Counter(zip(truth, guess)), collections.Counter(truth), collections.Counter(guess)
    count = len(truth)
    pairs = [sum(math.comb(it, 2) for it in them.values()) for them in (both, true, told)]
    expected = pairs[1] * pairs[2] / math.comb(count, 2)
    rand = (pairs[0] - expected) / ((pairs[1] + pairs[2]) / 2 - expected)
    precision = sum(n * n / told[incident] for (_, incident), n in both.items()) / count
    recall = sum(n * n / true[fault] for (fault, _), n in both.items()) / count
    print(f"{system}: {count} alerts, {len(true)} faults, {len(told)} incidents; "
          f"ARI {rand:.3f}, B-cubed F1 {2 * precision * recall / (precision + recall):.3f} "
          f"(precision {precision:.3f}, recall {recall:.3f}); {roots(data, system, out, both)}")


def roots(data, system, out, both):
    with open(f"{data}/faults.csv", newline="") as file:
        faults = {row["fault_id"]: row for row in csv.DictReader(file) if row["system"] == system}
    with open(f"{out}/result/incidents.jsonl") as file:
        told = {it["incident"]: it["root_cause"] for it in map(json.loads, file)}
    first = three = 0
    seen = {fault for fault, _ in both}
    for fault in seen:
        incident = max((n, str(it)) for (known, it), n in both.items() if known == fault)[1]
        causes = [host(it) for it in told.get(incident, [])]
        entity = faults[fault]["fault_entity"]
        # The fault of a service is in all of its instances.
        is_it = lambda it: it == entity or re.sub(r"-?\d+$", "", it) == entity
        first += any(map(is_it, causes[:1]))
        three += any(map(is_it, causes[:3]))
    return f"root first {first / len(seen):.2f}, among three {three / len(seen):.2f}"


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] not in ("convert", "score"):
        sys.exit(__doc__)
    globals()[sys.argv[1]](*sys.argv[2:])
