"""A shop whose sessions are kept by Caddy."""

import json

from flask import Flask, redirect, render_template_string, request

app = Flask(__name__)

PAGE = """<!doctype html>
<html lang="en">
<title>Shop</title>
{% if user %}
<p>Hello <b id="user">{{ user }}</b>, visit <b id="visits">{{ visits }}</b></p>
<form method="post" action="/logout"><button id="logout">Log out</button></form>
{% else %}
<form method="post" action="/login"><input name="user" aria-label="Name"><button id="login">Log in</button></form>
{% endif %}
<ul id="cart">{% for item in cart %}<li>{{ item }}</li>{% endfor %}</ul>
<form method="post" action="/cart"><input name="item" aria-label="Item"><button id="add">Add to cart</button></form>
"""


def session():
    """The session comes with the request."""
    return json.loads(request.headers.get("Session-Data", "{}"))


def change(response, **patch):
    """What changes goes with the response: a JSON merge patch, in ASCII."""
    response = app.make_response(response)
    response.headers["Session-Set"] = json.dumps(patch)
    return response


@app.get("/")
def index():
    s = session()
    cart = s.get("cart", {})
    if "user" not in s:
        return render_template_string(PAGE, cart=cart)
    visits = s.get("visits", 0) + 1
    return change(render_template_string(PAGE, user=s["user"], visits=visits, cart=cart), visits=visits)


@app.post("/login")
def login():
    response = change(redirect("/", 303), user=request.form.get("user", "nobody"))
    response.headers["Session-Action"] = "renew"
    return response


@app.post("/cart")
def add():
    # A key for each item: what two tabs add at a time is merged. Of two lists the last would win.
    return change(redirect("/", 303), cart={request.form.get("item", ""): 1})


@app.post("/logout")
def logout():
    response = redirect("/", 303)
    response.headers["Session-Action"] = "destroy"
    return response
