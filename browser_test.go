package caddysession_test

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

func TestBrowser_shopping(t *testing.T) {
	browser := startBrowser(t)
	app := startPHP(t)
	root, err := filepath.Abs("examples/apps/php/public")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, strings.Replace(example(t, app.caddyfile), "$SITE", "$TLS", 1), app.name, app.value, "ROOT", root)
	s.visitor().handshake("$TLS/")
	tab := &tab{t, browser, s.url("$TLS/")}

	tab.open()
	tab.wantLoggedOut()
	if c := tab.cookies(); len(c) != 0 {
		t.Errorf("a visitor who did nothing has %d cookies", len(c))
	}
	tab.submit("item", "Buch", "#add")
	tab.want("#cart li", "Buch")
	guest := tab.onlyCookie()
	if guest.Name != "__Host-session" || !guest.HTTPOnly || !guest.Secure || guest.SameSite != network.CookieSameSiteLax || guest.Path != "/" || strings.HasPrefix(guest.Domain, ".") {
		t.Errorf("the cookie is %s, HttpOnly %v, Secure %v, SameSite %s, path %s, domain %s", guest.Name, guest.HTTPOnly, guest.Secure, guest.SameSite, guest.Path, guest.Domain)
	}
	if visible := tab.eval("document.cookie"); visible != "" {
		t.Errorf("scripts see the cookie: %q", visible)
	}

	tab.submit("user", "Zoë", "#login")
	tab.want("#user", "Zoë")
	tab.want("#visits", "1")
	tab.want("#cart li", "Buch")
	if tab.onlyCookie().Value == guest.Value {
		t.Error("the login left the token as it was")
	}
	tab.do("reloading", chromedp.Reload())
	tab.want("#visits", "2")

	second := tab.another()
	second.open()
	second.want("#user", "Zoë")
	second.want("#visits", "3")

	tab.click("#logout")
	tab.wantLoggedOut()
	if c := tab.cookies(); len(c) != 0 {
		t.Errorf("after the logout the browser has %d cookies", len(c))
	}
	tab.back()
	tab.do("reloading", chromedp.Reload())
	tab.wantLoggedOut()
	second.do("reloading", chromedp.Reload())
	second.wantLoggedOut()
	s.table().wantRows(0)

	second.submit("user", "Bob", "#login")
	second.want("#visits", "1")
	tab.do("reloading", chromedp.Reload())
	tab.want("#user", "Bob")
}

// Over http WebKit keeps such a page all the same.
func TestBrowser_backAfterLogoutShowsNothingThatIsNotToBeStored(t *testing.T) {
	inBrowsers(t, func(t *testing.T, b surfer) {
		s := start(t, "$TLS {\nsession\nsession_edit /login put user alice\nsession_edit /logout destroy\n"+
			"header Content-Type text/html\nheader /private Cache-Control no-store\nrespond `<p id=user>{http.session.data.user}`\n}")
		s.visitor().handshake("$TLS/")
		b.visit(s.url("$TLS/login"))
		b.visit(s.url("$TLS/private"))
		b.want("#user", "alice")
		b.visit(s.url("$TLS/logout"))
		b.back()
		if at := b.eval("location.pathname"); at != "/private" {
			t.Fatalf("back leads to %s", at)
		}
		b.want("#user", "")
	})
}

// What visitors are who come from another site: by a link, back from a sign-in
// there, or with a form.
func TestBrowser_comingFromAnotherSite(t *testing.T) { inBrowsers(t, comeFromAnotherSite) }

func comeFromAnotherSite(t *testing.T, here surfer) {
	_, port, _ := net.SplitHostPort(freeAddress(t))
	s := start(t, `
(site) {
	session {
		cookie {args[0]} {
			same_site {args[0]}
		}
	}
	header Content-Type text/html
	handle /login {
		session_edit {
			put user alice
			redir /
		}
	}
	handle /begin {
		session_edit put page seen
		respond ok
	}
	handle {
		respond "<p id=user>{http.session.data.user}</p>"
	}
	handle_errors {
		respond "{err.message}"
	}
}
$TLS1 {
	import site strict
}
$TLS2 {
	import site lax
}
$TLS3 {
	import site none
}
$OTHER {
	header Content-Type text/html
	header Referrer-Policy no-referrer
	respond "<form method={query.method} action={query.to}><button>go</button></form>"
}`, "OTHER", "http://localhost:"+port)
	for _, site := range []string{"$TLS1/", "$TLS2/", "$TLS3/"} {
		s.visitor().handshake(site)
	}
	open := func(address string) {
		t.Helper()
		here.visit(s.url(address))
	}
	come := func(method, address string) {
		t.Helper()
		open("$OTHER/?method=" + method + "&to=" + s.url(address))
		here.click("button")
	}

	come("get", "$TLS1/login") // strict
	here.want("#user", "")
	open("$TLS1/")
	here.want("#user", "alice")
	come("get", "$TLS1/begin")
	open("$TLS1/")
	here.want("#user", "")

	come("get", "$TLS2/login") // lax
	here.want("#user", "alice")
	come("get", "$TLS2/begin")
	come("get", "$TLS2/")
	here.want("#user", "alice")
	come("post", "$TLS2/begin")
	open("$TLS2/")
	here.want("#user", "")
	come("post", "$TLS2/login")
	here.want("#user", "alice")

	open("$TLS3/login") // none
	come("post", "$TLS3/begin")
	if refused := here.eval("document.body.textContent"); !strings.Contains(refused, "hides which (Origin: null") {
		t.Errorf("a form of a page that does not say its origin is answered %q", refused)
	}
	open("$TLS3/")
	here.want("#user", "alice")
}

// startBrowser starts a Chromium of its own and returns the context of its first tab.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("Chromium is not installed")
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
	)
	t.Cleanup(end)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	return ctx
}

// tab is a tab of the browser that shows a site.
type tab struct {
	t    *testing.T
	ctx  context.Context
	site string
}

func (b *tab) another() *tab {
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	return &tab{b.t, ctx, b.site}
}

// patience is how long one step of a browser may take on a busy machine.
const patience = time.Minute

func (b *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx); err != nil { // a tab must not begin with a timeout
		b.t.Fatalf("%s: %v", what, err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// eval returns the text that a script gives.
func (b *tab) eval(script string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return text
}

func (b *tab) visit(address string) {
	b.t.Helper()
	b.site = address
	b.open()
}

func (b *tab) back() {
	b.t.Helper()
	b.do("going back", chromedp.NavigateBack())
}

func (b *tab) open() {
	b.t.Helper()
	b.do("opening "+b.site, chromedp.Navigate(b.site))
}

// submit fills in a form's field and presses its button.
func (b *tab) submit(field, value, button string) {
	b.t.Helper()
	b.do("filling in "+field, chromedp.SetValue(chromedp.CSS(`input[name="`+field+`"]`), value))
	b.click(button)
}

// click presses a button and waits for the page that it leads to.
func (b *tab) click(button string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(button)))
	if err != nil {
		b.t.Fatalf("pressing %s: %v", button, err)
	}
}

func (b *tab) want(selector, text string) {
	b.t.Helper()
	if got := b.eval(textOf(selector)); got != text {
		b.t.Fatalf("%s is %q, want %q", selector, got, text)
	}
}

// textOf is what an element says, "" if the page has none.
func textOf(selector string) string {
	return `document.querySelector("` + selector + `")?.textContent ?? ""`
}

// wantLoggedOut checks that the page is that of a visitor without a session.
func (b *tab) wantLoggedOut() {
	b.t.Helper()
	b.want("#login", "Log in")
	b.want("#user", "")
	b.want("#cart li", "")
}

// cookies returns all that the browser has.
func (b *tab) cookies() []*network.Cookie {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	all, err := chromedp.CallBrowser(ctx, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		b.t.Fatalf("reading cookies: %v", err)
	}
	return all.Cookies
}

func (b *tab) onlyCookie() *network.Cookie {
	b.t.Helper()
	all := b.cookies()
	if len(all) != 1 {
		b.t.Fatalf("the browser has %d cookies, want 1", len(all))
	}
	return all[0]
}
