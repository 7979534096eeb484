package embedded

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rqlite/gorqlite"
)

// Options are the settings of a Node. The zero value is the default.
type Options struct {
	// Synchronous says when an acknowledged write is on the disk. "full", the default: before it is
	// acknowledged. "normal": a power cut may take back the last writes, a crash of the process does not,
	// and the database stays whole in any case.
	Synchronous string
	// Replaced is told when the file was removed, or another took its place, while it was open: what was stored before
	// is gone, and the next request opens what lies there now. It must return quickly and not use the Node.
	Replaced func()
}

const (
	// maxBody is the size that a request may have, in bytes. The store's batches are 1 MiB.
	maxBody = 32 << 20
	// maxResult is how large the results of a request may become, in bytes, so that no query eats up the memory of the process.
	maxResult = 64 << 20
)

// Node answers rqlite's HTTP API from a SQLite file in this process. It is an http.RoundTripper, to be
// put under gorqlite, and an http.Handler, for debugging with rqlite's shell.
type Node struct {
	file    string
	options Options
	start   time.Time

	// What tests make small.
	maxBody         int64
	maxResult       int
	checkpointPages int

	mu     sync.Mutex // held while opening and closing
	closed bool
	db     atomic.Pointer[database]

	opener  sync.Mutex // guards opening
	opening *opening   // nil while nobody opens
}

// opening is one try to open the file, for all who come meanwhile.
type opening struct {
	done chan struct{} // closed when db and err are final
	db   *database
	err  error
}

// New makes a Node for the database in file, a path and no SQLite URI. It does no I/O: the file is opened by Open or the first
// request. There is none in memory: tests name a file in a temporary directory, and close the Node before that is removed.
func New(file string, o Options) *Node {
	return &Node{
		file: file, options: o, start: time.Now(),
		maxBody: maxBody, maxResult: maxResult, checkpointPages: checkpointPages,
	}
}

// Connect opens the database in file and returns a connection to it, for programs that use the store as
// a library. There is no way to close it but to end the process, which is safe at any moment; use New to have one.
func Connect(file string) (*gorqlite.Connection, error) {
	n := New(file, Options{})
	if err := n.Open(); err != nil {
		return nil, err
	}
	return n.Connection()
}

// Connection returns a connection to the node. It does no I/O.
func (n *Node) Connection() (*gorqlite.Connection, error) {
	// The name leads nowhere: the Node is the client's transport and looks at the path only.
	return gorqlite.OpenWithClient("http://embedded.invalid?disableClusterDiscovery=true&level=linearizable", &http.Client{Transport: n})
}

// Open locks and opens the file, if that is not done yet. When it fails, the next call or request tries again.
func (n *Node) Open() error {
	_, err := n.open(context.Background())
	return err
}

// open returns the database, opened if need be. That may take long, where another program has locked the file or a Close
// is under way: nobody waits for it longer than ctx.
func (n *Node) open(ctx context.Context) (*database, error) {
	if db := n.db.Load(); db != nil {
		return db, nil
	}
	o := n.tryToOpen()
	select {
	case <-o.done:
		return o.db, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tryToOpen begins to open the file, unless that is under way.
func (n *Node) tryToOpen() *opening {
	n.opener.Lock()
	defer n.opener.Unlock()
	if n.opening != nil {
		return n.opening
	}
	o := &opening{done: make(chan struct{})}
	n.opening = o
	go func() {
		o.db, o.err = n.openNow()
		n.opener.Lock()
		n.opening = nil
		n.opener.Unlock()
		close(o.done)
	}()
	return o
}

func (n *Node) openNow() (*database, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	if db := n.db.Load(); db != nil {
		return db, nil
	}
	db, err := openDatabase(n.file, n.options, n.checkpointPages)
	if err != nil {
		return nil, err
	}
	n.db.Store(db)
	return db, nil
}

// Close waits for requests under way, writes everything into the one file, and closes and unlocks it. The file is then a
// plain SQLite database without anything beside it. Requests fail with ErrClosed from then on; closing twice is harmless.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	db := n.db.Swap(nil)
	if db == nil {
		return nil
	}
	return db.close()
}
