package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

const defaultPort = "4001"

// parseAddresses checks the addresses of the nodes and completes their ports.
func parseAddresses(addresses []string) ([]*url.URL, error) {
	if len(addresses) == 0 {
		return nil, errors.New("cluster: no address of a node: want at least one, like http://host:4001")
	}
	urls := make([]*url.URL, 0, len(addresses))
	seen := make(map[string]bool)
	for i, address := range addresses {
		u, err := parseAddress(address)
		if err != nil {
			return nil, fmt.Errorf("cluster: address %d of %d: %w", i+1, len(addresses), err)
		}
		if u.User != nil {
			return nil, fmt.Errorf("cluster: address %d of %d (%s): the user name belongs in Username, the password in Password",
				i+1, len(addresses), u.Host)
		}
		if seen[u.Host] {
			return nil, fmt.Errorf("cluster: %s is listed twice", u.Host)
		}
		seen[u.Host] = true
		urls = append(urls, u)
	}
	return urls, nil
}

// parseAddress returns scheme, user and host of an address. Its errors quote
// only what cannot hold a password.
func parseAddress(address string) (*url.URL, error) {
	const want = "want http://host:port or https://host:port"
	u, err := url.Parse(address)
	if err != nil {
		// The error of url.Parse quotes the address with its password.
		return nil, fmt.Errorf("not a URL: %s", want)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("no http:// or https:// in front: %s", want)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("no host: %s", want)
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("%s: a path, query or fragment after the port: %s", u.Host, want)
	}
	port := cmp.Or(u.Port(), defaultPort)
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return nil, fmt.Errorf("%s: the port is not between 1 and 65535", u.Host)
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: net.JoinHostPort(u.Hostname(), port)}, nil
}
