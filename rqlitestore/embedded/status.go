package embedded

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// nodeID is the name of the one node. A real cluster uses the node's id or Raft address.
const nodeID = "embedded"

// jsonReply is the reply with v as JSON.
func jsonReply(v any, p params) (reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return reply{}, err
	}
	if p.pretty {
		b = indent(b)
	}
	return reply{status: http.StatusOK, body: b}, nil
}

// status answers /status with what rqlite's shell and gorqlite read of it.
func (n *Node) status(req *http.Request, p params, _ []byte) (reply, error) {
	if _, err := n.open(req.Context()); err != nil {
		return plainText(http.StatusServiceUnavailable, err.Error()+"\n"), nil
	}
	now := time.Now()
	all := map[string]any{
		"build": map[string]any{"version": Version, "compiler": runtime.Compiler},
		"http":  map[string]any{"auth": "disabled"},
		"node": map[string]any{
			"start_time":   n.start,
			"current_time": now,
			"uptime":       now.Sub(n.start).String(),
		},
		"os":      map[string]any{"pid": os.Getpid()},
		"runtime": map[string]any{"GOARCH": runtime.GOARCH, "GOOS": runtime.GOOS, "version": runtime.Version()},
		"store": map[string]any{
			"addr":    nodeID,
			"dir":     filepath.Dir(n.file),
			"leader":  map[string]any{"node_id": nodeID, "addr": nodeID},
			"node_id": nodeID,
			"nodes":   []any{map[string]any{"id": nodeID, "addr": nodeID, "suffrage": "voter"}},
			"ready":   true,
			"sqlite3": n.sqliteStatus(),
		},
	}
	return jsonReply(member(all, p.key), p)
}

func (n *Node) sqliteStatus() map[string]any {
	return map[string]any{
		"path":        n.file,
		"version":     sqlite.Version,
		"size":        fileSize(n.file),
		"wal_size":    fileSize(n.file + "-wal"),
		"synchronous": n.synchronous(),
	}
}

func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// member is what a dotted key leads to: {} where it leads nowhere.
func member(v any, key string) any {
	for name := range strings.SplitSeq(key, ".") {
		m, ok := v.(map[string]any)
		if key == "" || !ok {
			return v
		}
		if v, ok = m[name]; !ok {
			return map[string]any{}
		}
	}
	return v
}

// node describes this node as /nodes and /leader do.
func (n *Node) node(req *http.Request) map[string]any {
	m := map[string]any{
		"id": nodeID, "addr": nodeID, "version": Version,
		"voter": true, "reachable": true, "leader": true,
	}
	if req.Host != "" {
		m["api_addr"] = "http://" + req.Host
	}
	if _, err := n.open(req.Context()); err != nil {
		m["reachable"], m["leader"], m["error"] = false, false, err.Error()
	}
	return m
}

// nodes answers /nodes, in the form of a map and in the newer one of a list.
func (n *Node) nodes(req *http.Request, p params, _ []byte) (reply, error) {
	if p.version == "2" {
		return jsonReply(map[string]any{"nodes": []any{n.node(req)}}, p)
	}
	return jsonReply(map[string]any{nodeID: n.node(req)}, p)
}

// leader answers /leader: this node, always.
func (n *Node) leader(req *http.Request, p params, _ []byte) (reply, error) {
	return jsonReply(n.node(req), p)
}

// ready answers /readyz.
func (n *Node) ready(req *http.Request, p params, _ []byte) (reply, error) {
	if p.noLeader {
		return plainText(http.StatusOK, "[+]node ok"), nil
	}
	if _, err := n.open(req.Context()); err != nil {
		return plainText(http.StatusServiceUnavailable, "[+]node ok\n[+]store not ready: "+err.Error()), nil
	}
	ok := "[+]node ok\n[+]leader ok\n[+]store ok"
	if p.sync {
		ok += "\n[+]sync ok"
	}
	return plainText(http.StatusOK, ok+"\n[+]db ok"), nil
}
