"""Verifies an export of the audit trail with nothing but Python: prints how many entries are good."""

import hashlib
import json
import sys

with open(sys.argv[1], encoding="utf-8") as lines:
    header = json.loads(next(lines))
    reached, count = header["anchor"], 0
    for line in lines:
        entry = json.loads(line)
        told = entry.pop("hash")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == told, entry["id"]
        assert entry["previous"] == reached["hash"], entry["id"]
        assert int(entry["id"][4:]) == int(reached["id"][4:]) + 1, entry["id"]
        reached, count = {"id": entry["id"], "hash": told}, count + 1
    assert reached == header["last"], reached
print(count)
