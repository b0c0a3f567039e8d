"""Web front end: a form, and the entries."""

import html
import json
import socket
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API = "http://api:9000/entries"
PAGE = """<!doctype html><title>Guestbook</title><h1>Guestbook</h1>
<form method=post><input name=text autofocus> <button>Sign</button></form><ul>{entries}</ul><p>served by {host}</p>
"""


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, text="", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "ok")
            return
        with urllib.request.urlopen(API, timeout=5) as answer:
            entries = "".join(f"<li>{html.escape(entry)}</li>" for entry in json.load(answer))
        self.answer(200, PAGE.format(entries=entries, host=socket.gethostname()))

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        urllib.request.urlopen(API, data=form["text"][0].encode(), timeout=5).close()
        self.answer(303, Location="/")


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
