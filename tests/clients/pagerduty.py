"""Drives the Events API with pdpyras, in steps that the test asks for one by one."""

import sys

import pdpyras

url, step = sys.argv[1:3]
events = pdpyras.EventsAPISession("a-routing-key")
events.url = url

if step == "trigger":
    key = events.trigger(
        "Disk full on db-1",
        "db-1.example.org",
        severity="error",
        custom_details={"service": "shop", "free": "3 %"},
        links=[{"href": "https://graphs.example.org/1", "text": "graph"}],
    )
    assert len(key) == 32, key
    assert events.trigger("Disk full on db-1", "db-1", dedup_key=key, severity="critical") == key
    print(key)
elif step == "acknowledge":
    assert events.acknowledge(sys.argv[3]) == sys.argv[3]
elif step == "resolve":
    assert events.resolve(sys.argv[3]) == sys.argv[3]
elif step == "mistake":
    try:
        events.trigger("", "db-1")
    except pdpyras.PDHTTPError as error:
        body = error.response.json()
        assert error.response.status_code == 400, body
        assert body["status"] == "invalid event", body
        assert body["message"] == "Event object is invalid", body
        assert body["errors"] == ["'payload.summary' is missing or blank"], body
    else:
        raise AssertionError("an event without a summary was taken")
else:
    raise AssertionError(step)
