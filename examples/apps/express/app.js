// A shop whose sessions are kept by Caddy.
import express from "express";

const app = express();
app.use(express.urlencoded({ extended: false }));

// The session comes with the request, and what changes goes with the response:
// a JSON merge patch. Headers are ASCII, so other characters are escaped.
app.use((req, res, next) => {
  req.session = JSON.parse(req.get("Session-Data") ?? "{}");
  res.change = (patch) =>
    res.set("Session-Set", JSON.stringify(patch).replace(/[\u007f-\uffff]/g,
      (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")));
  next();
});

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

app.get("/", (req, res) => {
  const { user, cart = {} } = req.session;
  const visits = (req.session.visits ?? 0) + 1;
  if (user) res.change({ visits });
  res.send(`<!doctype html>
<html lang="en">
<title>Shop</title>
${user
    ? `<p>Hello <b id="user">${escape(user)}</b>, visit <b id="visits">${visits}</b></p>
<form method="post" action="/logout"><button id="logout">Log out</button></form>`
    : `<form method="post" action="/login"><input name="user" aria-label="Name"><button id="login">Log in</button></form>`}
<ul id="cart">${Object.keys(cart).map((item) => `<li>${escape(item)}</li>`).join("")}</ul>
<form method="post" action="/cart"><input name="item" aria-label="Item"><button id="add">Add to cart</button></form>`);
});

app.post("/login", (req, res) => {
  res.change({ user: req.body.user || "nobody" });
  res.set("Session-Action", "renew").redirect(303, "/");
});

app.post("/cart", (req, res) => {
  // A key for each item: what two tabs add at a time is merged. Of two lists the last would win.
  res.change({ cart: { [req.body.item ?? ""]: 1 } });
  res.redirect(303, "/");
});

app.post("/logout", (req, res) => {
  res.set("Session-Action", "destroy").redirect(303, "/");
});

const port = process.env.PORT ?? 3000;
app.listen(port, "127.0.0.1", () => console.log(`listening on ${port}`));
