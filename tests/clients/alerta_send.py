"""Sends with Alerta's library, and with its command line, which asks for the configuration first."""

import os
import subprocess
import sys
from pathlib import Path

from alertaclient.api import Client

url, step = sys.argv[1:3]
key = sys.argv[3] if len(sys.argv) > 3 else ""
client = Client(endpoint=url, key=key)
correlate = ["NodeUp", "NodeDown"]


def send(event, severity, **more):
    return client.send_alert(
        resource="web-1",
        event=event,
        environment="Production",
        severity=severity,
        correlate=correlate,
        service=["shop"],
        text="does not answer",
        tags=["eu"],
        attributes={"region": "eu-1"},
        **more,
    )


if step == "fire":
    first, alert, _ = send("NodeDown", "major")
    assert (alert.id, alert.status, alert.severity) == (first, "open", "major"), alert
    again, alert, _ = send("NodeDown", "critical")
    assert (again, alert.status) == (first, "open"), alert
    print(first)
elif step == "ack":
    assert client.action(sys.argv[4], action="ack")["status"] == "ok"
elif step == "resolve":
    _, alert, _ = send("NodeUp", "normal")
    assert alert.status == "closed", alert
elif step == "cli":
    script = Path(sys.executable).parent / "alerta"
    environment = {**os.environ, "TERM": "", "ALERTA_ENDPOINT": url + "/api", "ALERTA_API_KEY": key}
    environment["ALERTA_CONF_FILE"] = "/dev/null"
    command = [script, "send", "-r", "web-1", "-e", "NodeDown", "-E", "Production", "-s", "major"]
    command += ["-S", "shop", "-t", "does not answer", "--timeout", "3600"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    print(printed.stdout)
elif step == "mistake":
    for arguments in [{"severity": "bad"}, {"severity": "major", "timeout": "soon"}]:
        try:
            send("NodeDown", **arguments)
        except Exception as error:
            print(error)
        else:
            raise AssertionError(f"taken: {arguments}")
else:
    raise AssertionError(step)
