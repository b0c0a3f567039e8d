"""Tickets over HTTP, with forms for people and JSON for programs.

GET /            the page              POST /tickets            a new ticket: title=…
GET /tickets/ID  one ticket as JSON    POST /tickets/ID/close   close it
"""

import socket

import database
import psycopg2
from flask import Flask, abort, jsonify, redirect, render_template_string, request

app = Flask(__name__)
PAGE = """<!doctype html><title>Tickets</title><h1>Tickets</h1>
<form method=post action=/tickets><input name=title autofocus required> <button>Open</button></form>
<ul>{% for id, title, closed in rows %}<li>{% if closed %}<s>{{ title }}</s>{% else %}{{ title }}
<form method=post action="/tickets/{{ id }}/close"><button>Close</button></form>{% endif %}</li>{% endfor %}</ul>
<p>served by {{ host }}</p>"""


def query(statement, *values):
    """Run a statement in a transaction of its own; returns its rows."""
    link = database.connect()
    try:
        with link, link.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    finally:
        link.close()


@app.errorhandler(psycopg2.OperationalError)
def no_database(error):
    return f"the database does not answer: {error}", 503


@app.get("/health")
def health():
    return jsonify(query("SELECT count(*) FROM migrations"))


@app.get("/")
def page():
    rows = query("SELECT id, title, closed IS NOT NULL FROM tickets ORDER BY closed IS NOT NULL, id DESC LIMIT 50")
    return render_template_string(PAGE, rows=rows, host=socket.gethostname())


@app.post("/tickets")
def open_ticket():
    [[number]] = query("INSERT INTO tickets (title) VALUES (%s) RETURNING id", request.form["title"])
    return redirect("/", 303) if request.accept_mimetypes.accept_html else (jsonify(id=number), 201)


@app.get("/tickets/<int:number>")
def ticket(number):
    rows = query("SELECT id, title, closed IS NOT NULL FROM tickets WHERE id = %s", number)
    return jsonify(dict(zip(("id", "title", "closed"), rows[0], strict=True))) if rows else abort(404)


@app.post("/tickets/<int:number>/close")
def close(number):
    rows = query("UPDATE tickets SET closed = coalesce(closed, now()) WHERE id = %s RETURNING id", number)
    return redirect("/", 303) if rows else abort(404)
