"""Jobs over HTTP: POST /jobs with {"below": [1000, …]}; GET /jobs for counts, /results for all results."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import queue_names as names
import redis

queue = names.connect()


def counts():
    """Return how many jobs are where."""
    having = [queue.llen(key) for key in queue.scan_iter("taken:*")]
    return {"waiting": queue.llen(names.JOBS), "taken": sum(having), "done": queue.hlen(names.RESULTS)}


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, content):
        data = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.guarded({"/jobs": counts, "/results": lambda: list(map(json.loads, queue.hvals(names.RESULTS)))})

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.guarded({"/jobs": lambda: names.put(queue, json.loads(text)["below"])})

    def guarded(self, paths):
        try:
            if self.path in paths:
                self.answer(200, paths[self.path]())
            else:
                self.answer(404, "there are /jobs and /results")
        except redis.ConnectionError as error:
            self.answer(503, f"the queue does not answer: {error}")


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
