package cluster_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// resolveTo has a name lead to addresses, in this order, until the test ends.
// Without any the server of names fails.
func resolveTo(t *testing.T, name string, addresses ...string) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if len(addresses) == 0 {
				m.RCode = dnsmessage.RCodeServerFailure
			}
			q := m.Questions[0]
			if q.Type == dnsmessage.TypeA && q.Name.String() == name+"." {
				for _, a := range addresses {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
					})
				}
			}
			packed, err := m.Pack()
			if err == nil {
				_, _ = server.WriteTo(packed, from)
			}
		}
	}()
	address := server.LocalAddr().String()
	nameServer.Store(&address)
	t.Cleanup(func() {
		nameServer.Store(nil)
		server.Close()
	})
}

// nameServer is asked for names, where a test says so. The resolver is set before
// anything dials: a dial may outlive its test.
var nameServer atomic.Pointer[string]

func init() {
	// No proxy gets what is for the nodes, the credentials with it: nobody answers at this one.
	if err := os.Setenv("HTTP_PROXY", "http://127.0.0.1:1"); err != nil {
		panic(err)
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if a := nameServer.Load(); a != nil {
			network, address = "udp", *a
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

// deadHost takes no connection at an address: its queue of them is full, so that it
// answers nothing, as a host that is gone.
func deadHost(t *testing.T, ip string, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	at := &syscall.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(ip).As4()}
	if err := errors.Join(syscall.Bind(fd, at), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, strconv.Itoa(port)), 500*time.Millisecond)
		if err != nil {
			if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
				t.Fatal(err)
			}
			return
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this system takes any number of connections that nobody accepts")
}

// Of the hosts of a name that leads to several one refuses and one is dead: the others
// are tried in time.
func TestTransport_triesTheOtherAddressesOfAName(t *testing.T) {
	node := newFake(t, conduct{request: ok})
	at := node.Listener.Addr().(*net.TCPAddr)
	deadHost(t, "127.0.0.2", at.Port)
	resolveTo(t, "nodes.example.com", "127.0.0.3", "127.0.0.2", "127.0.0.1")
	conn, err := cluster.Connect("http://nodes.example.com:" + strconv.Itoa(at.Port))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := conn.QueryOne("SELECT token FROM sessions"); err != nil {
			t.Fatal(err)
		}
		node.CloseClientConnections() // or the next one would dial no more
	}
}

// What answers for names is out of order for a while: the connections that there
// are go on, and the breaker that would close them stays as it is.
func TestTransport_goesOnWithItsConnectionsWhileNamesFail(t *testing.T) {
	leader := newFake(t, leading())
	resolveTo(t, "nodes.example.com", "127.0.0.1")
	nodes := []string{"http://nodes.example.com:" + strconv.Itoa(leader.Listener.Addr().(*net.TCPAddr).Port)}
	goesOnWithItsConnections(t, leader, nodes, func() { resolveTo(t, "nodes.example.com") })
}
