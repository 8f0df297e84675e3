"""Tells Prometheus what it reads off the real thing, anew each time it is asked.

exporter.py PORT postgresql HOST PORT DATABASE   how long sessions sit in a transaction, as postgres_exporter does
exporter.py PORT filesystem FOLDER               its size and what is free, as node_exporter does
exporter.py PORT probe URL                       how a server answers, as blackbox_exporter does
"""

import http.server
import os
import subprocess
import sys
import urllib.error
import urllib.request

SESSIONS = """
SELECT datname, state, coalesce(extract(epoch FROM max(now() - xact_start)), 0)
FROM pg_stat_activity WHERE datname IS NOT NULL AND state IS NOT NULL GROUP BY datname, state
"""


def told_of_postgresql(host, port, database):
    printed = subprocess.run(
        ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--field-separator=,", "--host", host, "--port", port,
         "--username", "postgres", "--dbname", database, "--command", SESSIONS],
        capture_output=True, text=True, timeout=5, check=True).stdout
    for line in printed.splitlines():
        name, state, seconds = line.split(",")
        labels = f'datname="{name}",server="{host}:{port}",state="{state}"'
        yield f"pg_stat_activity_max_tx_duration{{{labels}}} {seconds}"


def told_of_filesystem(folder):
    about = os.statvfs(folder)
    for name, blocks in (("size", about.f_blocks), ("avail", about.f_bavail)):
        yield f'node_filesystem_{name}_bytes{{mountpoint="{folder}"}} {blocks * about.f_frsize}'


def told_of_probe(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            code = reply.status
    except urllib.error.HTTPError as error:
        code = error.code
    except OSError:
        code = 0
    yield f"probe_http_status_code {code}"


KINDS = {"postgresql": told_of_postgresql, "filesystem": told_of_filesystem, "probe": told_of_probe}


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ""
        if self.path == "/metrics":
            body = "\n".join(KINDS[sys.argv[2]](*sys.argv[3:])) + "\n"
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
