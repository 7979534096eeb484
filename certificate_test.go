package caddysession_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"time"
)

// withCertificate gives a config the certificate of its https sites. Caddy
// would obtain one itself, in a goroutine that races with its own start under
// the race detector (caddytls.TLS.Start and certmagic's events).
func withCertificate(config []byte) ([]byte, error) {
	var c struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	all := map[string]json.RawMessage{}
	for _, to := range []any{&c, &all} {
		if err := json.Unmarshal(config, to); err != nil {
			return nil, err
		}
	}
	tls := map[string]json.RawMessage{}
	if raw, ok := c.Apps["tls"]; ok {
		if err := json.Unmarshal(raw, &tls); err != nil {
			return nil, err
		}
	}
	pair, err := localCertificate()
	if err != nil {
		return nil, err
	}
	if tls["certificates"], err = json.Marshal(map[string]any{"load_pem": []any{pair}}); err != nil {
		return nil, err
	}
	if c.Apps == nil {
		c.Apps = map[string]json.RawMessage{}
	}
	if c.Apps["tls"], err = json.Marshal(tls); err != nil {
		return nil, err
	}
	if all["apps"], err = json.Marshal(c.Apps); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// localCertificate is one for 127.0.0.1, in the form of Caddy's load_pem.
var localCertificate = sync.OnceValues(func() (map[string]string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key":         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}, nil
})
