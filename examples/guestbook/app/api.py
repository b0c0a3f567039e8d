"""API: POST /entries puts an entry in the queue, GET /entries reads what the worker has stored."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import database
import redis

queue = redis.Redis("cache")
store = database.connect()


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "ok")
            return
        with store.cursor() as cursor:
            cursor.execute("SELECT text FROM entries ORDER BY id DESC LIMIT 50")
            self.answer(200, [row[0] for row in cursor.fetchall()])

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        queue.lpush("entries", text)
        self.answer(202, "queued")


ThreadingHTTPServer(("", 9000), Handler).serve_forever()
