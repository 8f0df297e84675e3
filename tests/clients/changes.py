"""Tells of a change with pdpyras, and as a pipeline does that speaks CDEvents."""

import sys

import pdpyras
import requests
from cloudevents.core.bindings.http import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

url = sys.argv[1]
changes = pdpyras.ChangeEventsAPISession("a-routing-key")
changes.url = url
details = {"service": "shop", "version": "1.2", "author": "ada", "environment": "production"}
links = [{"href": "https://ci.example.org/7", "text": "build"}]
assert changes.submit("shop 1.2 is out", source="ci", custom_details=details, links=links)

subject = {"id": "shop", "type": "service", "content": {"environment": {"id": "production"}}}
attributes = {
    "id": "271069a8-fc18-44f1-b38f-9d70a1695819",
    "source": "/ci/shop",
    "type": "dev.cdevents.service.deployed.0.2.0",
    "subject": "shop",
    "specversion": "1.0",
}
message = to_structured(CloudEvent(attributes, {"context": {}, "subject": subject}), JSONFormat())
for number in [1, 0]:
    reply = requests.post(
        f"{url}/ingest/cloudevents", headers=message.headers, data=message.body, timeout=30
    )
    assert reply.json()["changes"] == number, reply.text
