"""Drives the alert API with Opsgenie's SDK, in steps that the test asks for one by one."""

import sys

import opsgenie_sdk

url, step, key = sys.argv[1:4]
configuration = opsgenie_sdk.Configuration()
configuration.api_key["Authorization"] = key
configuration.host = url
api = opsgenie_sdk.AlertApi(opsgenie_sdk.ApiClient(configuration=configuration))
by_alias = {"identifier": "disk-db-1", "identifier_type": "alias"}

if step == "create":
    body = opsgenie_sdk.CreateAlertPayload(
        message="Disk full on db-1",
        alias="disk-db-1",
        description="97 % of /var",
        priority="P2",
        entity="db-1",
        source="monitor",
        tags=["db", "eu"],
        details={"service": "shop"},
    )
    reply = api.create_alert(create_alert_payload=body)
    assert reply.result == "Request will be processed" and reply.request_id, reply
    result = reply.retrieve_result()
    assert result.data.is_success is True, result
    assert result.data.status == "Created alert", result
    assert result.data.alias == "disk-db-1", result
    alert = api.get_alert(identifier=reply.id).data
    assert (alert.status, alert.priority, alert.entity) == ("open", "P2", "db-1"), alert
    assert alert.tags == ["db", "eu"], alert
elif step == "work":
    acknowledged = opsgenie_sdk.AcknowledgeAlertPayload(user="ada", note="")
    api.acknowledge_alert(**by_alias, acknowledge_alert_payload=acknowledged)
    note = opsgenie_sdk.AddNoteToAlertPayload(user="ada", note="looking at the logs")
    api.add_note(**by_alias, add_note_to_alert_payload=note)
    assert api.get_alert(**by_alias).data.acknowledged is True
elif step == "close":
    close = opsgenie_sdk.CloseAlertPayload(user="ada", note="cleaned up")
    reply = api.close_alert(**by_alias, close_alert_payload=close)
    assert reply.retrieve_result().data.status == "Alert closed"
    unknown = api.close_alert(identifier="no such", identifier_type="alias")
    assert unknown.request_id, unknown
elif step == "ping":
    heartbeats = opsgenie_sdk.HeartbeatApi(opsgenie_sdk.ApiClient(configuration=configuration))
    assert heartbeats.ping("backup").request_id
elif step == "mistake":
    try:
        api.create_alert(create_alert_payload=opsgenie_sdk.CreateAlertPayload(message=""))
    except Exception as error:
        assert f"({sys.argv[4]})" in str(error), error
    else:
        raise AssertionError("an alert without a message was taken")
else:
    raise AssertionError(step)
