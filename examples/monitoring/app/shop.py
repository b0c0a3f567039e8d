"""The shop: GET /buy/THING sells one; GET /metrics tells Prometheus how many were sold."""

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

sold = Counter("shop_sold", "Things sold.", ["thing"])


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, kind, data):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/metrics":
            self.answer(200, CONTENT_TYPE_LATEST, generate_latest())
        elif self.path.startswith("/buy/"):
            thing = self.path[5:]
            sold.labels(thing).inc()
            self.answer(200, "application/json", json.dumps({"sold": thing, "by": socket.gethostname()}).encode())
        else:
            self.answer(404, "text/plain", b"there are /buy/THING and /metrics\n")

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
