package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// clientCertificate makes a certificate that signs itself.
func clientCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "caddy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTransport_speaksTLSWithClientCertificates(t *testing.T) {
	t.Parallel()
	certificate, clients := clientCertificate(t)
	f := newUnstartedFake(t, leading())
	f.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	f.StartTLS()
	servers := x509.NewCertPool()
	servers.AddCert(f.Certificate())
	with := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: servers, Certificates: []tls.Certificate{certificate}}
	mustSend(t, t.Context(), open(t, cluster.Config{TLS: with, Username: "mary", Password: "p"}, f), execute)
	if got := f.requests(); len(got) != 1 || got[0].user != "mary" {
		t.Fatalf("arrived: %+v", got)
	}

	without := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: servers}
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, _, err := send(t, soon(), open(t, cluster.Config{TLS: without}, f), query); err == nil {
		t.Error("answered without a client certificate")
	}
	stranger := open(t, cluster.Config{}, f)
	stranger.Start()
	eventually(t, "a server of an unknown authority is refused", func() bool {
		_, _, err := send(t, soon(), stranger, execute)
		return err != nil && strings.Contains(err.Error(), "certificate")
	})
	if n := len(f.requests()); n != 1 {
		t.Errorf("%d requests arrived", n)
	}
}
