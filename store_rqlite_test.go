package caddysession_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Nodes are verified, by the authority that the config names; who has not the
// certificate that they ask for is not let in. What the files hold is read anew
// with each config.
func TestRqlite_overTLS(t *testing.T) {
	node := httptest.NewUnstartedServer(newStandIn(t).Config.Handler)
	var presented atomic.Pointer[[]byte]
	node.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
		presented.Store(&chain[0])
		return nil
	}}
	node.Config.ErrorLog = log.New(io.Discard, "", 0)
	node.StartTLS()
	t.Cleanup(node.Close)
	own, err := localCertificate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	authority := filepath.Join(dir, "ca.pem")
	writeFile(t, authority, own["certificate"]) // another one
	writeFile(t, filepath.Join(dir, "client.pem"), own["certificate"])
	writeFile(t, filepath.Join(dir, "client.key"), own["key"])

	const site = `
$SITE {
	session {
		rqlite $NODE {
			$TRUST
			tls_cert {env.SESSION_TEST_FILES}/client.pem {env.SESSION_TEST_FILES}/client.key
			timeout 300ms
		}
	}
	session_edit /put put user alice
	respond "ok {http.session.data.user}"
}`
	t.Setenv("SESSION_TEST_CA", authority)
	t.Setenv("SESSION_TEST_FILES", dir)
	s := start(t, site, "NODE", node.URL, "TRUST", "tls_ca {env.SESSION_TEST_CA}")
	s.visitor().get("/", "Cookie", "session="+unknownCookie()).want(t, http.StatusServiceUnavailable, "")
	s.logged("certificate signed by unknown authority")

	writeFile(t, authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.Certificate().Raw})))
	s.reload(site)
	s.visitor().get("/put").want(t, http.StatusOK, "ok alice")
	s.logged("the session store is available") // as one that was told to be down

	// The certificate is a new one some day, and that of the node does for it here.
	key, err := x509.MarshalPKCS8PrivateKey(node.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "client.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.Certificate().Raw})))
	writeFile(t, filepath.Join(dir, "client.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	s.reload(site)
	s.visitor().get("/put").want(t, http.StatusOK, "ok alice")
	if !bytes.Equal(*presented.Load(), node.Certificate().Raw) {
		t.Error("the node is shown the certificate from before")
	}

	s.names["TRUST"] = "tls_insecure_skip_verify"
	s.reload(site)
	s.visitor().get("/put").want(t, http.StatusOK, "ok alice")
	s.logged("the certificates of the rqlite nodes are not verified")
}

// A node that does not answer is given up after `timeout`, not after all the time
// that the request has.
func TestRqlite_timeoutIsThatOfOneAttempt(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE {
			timeout 300ms
		}
	}
	session_edit /put put user alice
	respond "ok {http.session.data.user}"
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/put").want(t, http.StatusOK, "ok alice")
	attempts := make(chan time.Duration, 100)
	store.mode.Store(serveMode(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		begun, probe := time.Now(), !bytes.Contains(bodyOf(r), []byte("sessions"))
		select {
		case <-r.Context().Done():
			if !probe {
				attempts <- time.Since(begun)
			}
		case <-store.done:
		}
	}))
	answered := make(chan *answer, 1)
	go func() {
		a, _ := v.try(http.MethodGet, "/")
		answered <- a
	}()
	first := <-attempts
	store.works()
	if first > 1500*time.Millisecond {
		t.Errorf("an attempt lasted %v", first)
	}
	if a := <-answered; a == nil || a.body != "ok alice" {
		t.Errorf("the answer is %v", a)
	}
}
