"""Sends CloudEvents in each mode, written by the SDK, and shakes hands first."""

import sys

import requests
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

url = sys.argv[1] + "/ingest/cloudevents"


def event(number, kind, data):
    attributes = {
        "id": number,
        "source": "/monitors/eu",
        "type": f"com.example.disk.{kind}",
        "subject": "db-1 \u00e4",
        "datacontenttype": "application/json",
        "specversion": "1.0",
    }
    return CloudEvent(attributes, data)


def send(message):
    reply = requests.post(url, headers=message.headers, data=message.body, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()


origin = {"WebHook-Request-Origin": "monitors.example.org", "WebHook-Request-Rate": "120"}
reply = requests.options(url, headers=origin, timeout=30)
assert reply.status_code == 200, reply.text
assert reply.headers["WebHook-Allowed-Origin"] == "monitors.example.org", reply.headers
assert reply.headers["WebHook-Allowed-Rate"] == "*", reply.headers
assert "POST" in reply.headers["Allow"], reply.headers

full = {"message": "Disk almost full", "severity": "major", "host": "db-1"}
fired = to_binary(event("1", "alert.fired", full), JSONFormat())
assert send(fired) == {"status": "ok", "alerts": 1, "changes": 0, "left_out": 0}

over = to_structured(event("2", "alert.resolved", full), JSONFormat())
if sys.argv[2] == "resolve":
    assert send(over) == {"status": "ok", "alerts": 1, "changes": 0, "left_out": 0}
    # What comes once more is known: it does not fire again.
    assert send(fired) == {"status": "ok", "alerts": 0, "changes": 0, "left_out": 0}

other = event("3", "order.shipped", {"order": 7})
batch = f"[{JSONFormat().write(other).decode()},{JSONFormat().write(other).decode()}]"
headers = {"content-type": "application/cloudevents-batch+json"}
reply = requests.post(url, headers=headers, data=batch, timeout=30)
assert reply.json() == {"status": "ok", "alerts": 0, "changes": 0, "left_out": 1}, reply.text

reply = requests.post(url, json={"specversion": "1.0"}, timeout=30)
assert reply.status_code == 400, reply.text
assert "no event" in reply.json()["error"]["message"], reply.text
