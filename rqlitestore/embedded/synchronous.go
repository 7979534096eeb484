package embedded

import (
	"cmp"
	"context"
	"fmt"
)

// SetSynchronous changes when writes are acknowledged, see Options, for those that come from now on.
func (n *Node) SetSynchronous(mode string) error {
	pragma, err := synchronousPragma(mode)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.options.Synchronous = mode
	db := n.db.Load()
	if db == nil {
		return nil // it will be opened so
	}
	conn, err := db.takeWriter(context.Background())
	if err != nil {
		return err
	}
	defer db.putWriter(conn)
	return conn.Exec(pragma)
}

func (n *Node) synchronous() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return cmp.Or(n.options.Synchronous, "full")
}

// synchronousPragma is the statement that sets a mode.
func synchronousPragma(mode string) (string, error) {
	switch mode {
	case "", "full":
		return "PRAGMA synchronous=FULL", nil
	case "normal":
		return "PRAGMA synchronous=NORMAL", nil
	}
	return "", fmt.Errorf("session database: synchronous is %q, must be full or normal", mode)
}
