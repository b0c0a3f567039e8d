"""The board: GET / shows each room's last reading, GET /rooms/ROOM all of a room; POST /rooms/ROOM publishes one."""

import contextlib
import datetime
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import broker
import readings

publisher = broker.client("board", clean=True)
publisher.loop_start()
own = threading.local()


def rows(statement, *values):
    """Return rows as dictionaries."""
    if not hasattr(own, "store"):
        own.store = readings.connect()
    found = own.store.execute(statement, values)
    return [dict(zip((column[0] for column in found.description), row, strict=True)) for row in found]


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, content):
        data = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/":
            self.answer(200, rows("SELECT room, degrees, max(at) AS at, count(*) AS count FROM readings GROUP BY room"))
        elif self.path.startswith("/rooms/"):
            self.answer(200, rows("SELECT degrees, at FROM readings WHERE room = ? ORDER BY id", self.path[7:]))
        else:
            self.answer(404, "there are / and /rooms/ROOM")

    def do_POST(self):
        degrees = float(self.rfile.read(int(self.headers["Content-Length"])))
        reading = {"degrees": degrees, "at": datetime.datetime.now(datetime.UTC).isoformat()}
        sent = publisher.publish(self.path[1:], json.dumps(reading), qos=1)
        with contextlib.suppress(ValueError, RuntimeError):
            sent.wait_for_publish(5)
        if sent.is_published():
            self.answer(202, "the broker has it")
        else:
            self.answer(503, "the broker does not answer")


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
