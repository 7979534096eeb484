<?php
// The session comes with the request, and what changes goes with the response.
$session = json_decode($_SERVER['HTTP_SESSION_DATA'] ?? '{}', true);
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$user = $session['user'] ?? null;
$cart = $session['cart'] ?? [];

// A JSON merge patch. Headers have no control characters, and JSON leaves one as it is.
function change(array $patch): void
{
    header('Session-Set: ' . str_replace("\x7f", '\u007f', json_encode($patch, JSON_INVALID_UTF8_SUBSTITUTE)));
}

// A field of the form; field[]=… makes an array, which is none.
function posted(string $field): string
{
    $value = $_POST[$field] ?? '';
    return is_string($value) ? $value : '';
}

function redirect(string $to): void
{
    header('Location: ' . $to, true, 303);
    exit;
}

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    switch ($path) {
        case '/login':
            change(['user' => posted('user') ?: 'nobody']);
            header('Session-Action: renew');
            redirect('/');
        case '/cart':
            // A key for each item: what two tabs add at a time is merged. Of two lists the last would win.
            change(['cart' => (object) [posted('item') => 1]]);
            redirect('/');
        case '/logout':
            header('Session-Action: destroy');
            redirect('/');
    }
}

if ($path !== '/') {
    http_response_code(404);
    exit;
}

$visits = 0;
if ($user !== null) {
    $visits = ($session['visits'] ?? 0) + 1;
    change(['visits' => $visits]);
}
?>
<!doctype html>
<html lang="en">
<title>Shop</title>
<?php if ($user !== null): ?>
<p>Hello <b id="user"><?= htmlspecialchars($user) ?></b>, visit <b id="visits"><?= $visits ?></b></p>
<form method="post" action="/logout"><button id="logout">Log out</button></form>
<?php else: ?>
<form method="post" action="/login"><input name="user" aria-label="Name"><button id="login">Log in</button></form>
<?php endif ?>
<ul id="cart"><?php foreach (array_keys($cart) as $item): ?><li><?= htmlspecialchars($item) ?></li><?php endforeach ?></ul>
<form method="post" action="/cart"><input name="item" aria-label="Item"><button id="add">Add to cart</button></form>
