package cluster

import (
	"context"
	"net"
	"time"
)

const (
	dialTimeout = time.Second            // for hosts that do not even refuse
	dialStagger = 200 * time.Millisecond // before the next address of a name is tried beside the one before
)

// dial connects to whichever of the addresses of a name takes the connection first.
// A net.Dialer would try one after the other within one time, all of which the first
// one takes when its host is dead.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil {
		return dialer.DialContext(ctx, network, address)
	}
	addresses, err := lookup(ctx, host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(addresses))
	next := time.NewTimer(0)
	defer next.Stop()
	begun, failed := 0, 0
	for {
		select {
		case <-next.C:
			if begun == len(addresses) {
				continue
			}
			ip := addresses[begun]
			begun++
			go func() {
				conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(ip, port))
				results <- result{conn, err}
			}()
			next.Reset(dialStagger)
		case r := <-results:
			if r.err == nil {
				go func() { // what else comes about is one too many
					for range begun - failed - 1 {
						if late := <-results; late.conn != nil {
							late.conn.Close()
						}
					}
				}()
				return r.conn, nil
			}
			if err == nil {
				err = r.err
			}
			if failed++; failed == len(addresses) {
				return nil, err
			}
			next.Reset(0)
		}
	}
}

func lookup(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return net.DefaultResolver.LookupHost(ctx, host)
}
