"""A small service that dies, or that breaks, as real ones do.

service.py PORT fragile REQUESTS   ends when it has answered so many
service.py PORT versioned FILE     FILE names the version that it runs; version 2 answers with errors
"""

import http.server
import os
import sys

kind, what = sys.argv[2:]
answered = 0
version = open(what, encoding="utf-8").read().strip() if kind == "versioned" else "1"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global answered
        is_well = self.path != "/" or version != "2"
        self.send_response(200 if is_well else 500)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(f'service_version{{version="{version}"}} 1\n'.encode())
        self.wfile.flush()
        answered += self.path == "/metrics"
        if kind == "fragile" and answered >= int(what):
            os._exit(1)

    def log_message(self, *_):
        pass


# Its port may still be remembered from its last life.
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
