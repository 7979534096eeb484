// Package embedded is a single rqlite node inside the process: it answers rqlite's HTTP API from a SQLite
// file. It is pure Go and needs no cgo.
//
// The session store knows one road to its rows: gorqlite, which speaks HTTP. With a cluster, what lies under
// gorqlite is an http.RoundTripper that reaches real nodes. With a Node it is one that reaches into a file,
// and nothing above can tell the difference. So a laptop and a cluster run the same code, every test of the
// store runs on both, and a site that outgrows one process changes one line.
//
//	conn, err := embedded.Connect("sessions.db")     // one process, one file
//	conn, err := cluster.Connect("http://n1:4001")   // any number of processes, a cluster
//
// # What it answers
//
// /db/execute, /db/query, /db/request, /status, /nodes, /leader and /readyz, in the shapes, types, error texts
// and HTTP statuses of rqlite 10. The conformance test sends the same requests to a Node and to a real node
// and lists the few answers that differ, each with its reason. Consistency levels are accepted and mean
// nothing: every read sees every write that was acknowledged before it began. A queued write is done at once.
//
// Two habits of rqlite are kept because code that is to run on both must find them here:
//
//   - A statement gives the rows of RETURNING only if the word is followed by a space. Before a line break it runs
//     and reports what it changed.
//   - In a transaction sent to /db/request a statement that does not compile (a table that is missing, broken
//     syntax) does not roll back the others. One that fails when it runs does. In /db/execute both do.
//
// # Durability
//
// A write is acknowledged after its transaction is in the write-ahead log and the log is synced to the disk
// (WAL mode, synchronous=FULL). A process that is killed at any moment loses nothing that it acknowledged:
// the next to open the file recovers the log. A request whose context ends is finished or rolled back
// as a whole. One connection writes, a few read, and neither waits for the other. Writes that wait together share
// one transaction and one sync; each keeps its own result and its own rollback. The log is written back in
// the background and stays within some megabytes however many short reads overlap; one that takes long holds it up.
//
// Close writes the log back into the file, which is then one plain SQLite database: it can be copied, opened
// with any tool, or handed to an rqlite cluster (POST it to /db/load or /boot). While the node is open, copying
// the file alone would miss the newest rows: use a tool that understands the log, such as sqlite3's .backup.
//
// # One process
//
// A file belongs to one Node. The lock is on a file beside it, named like it with .lock at the end; it is
// released by Close and by the end of the process, whatever kind of end that is. Whoever comes second gets
// ErrLocked with every request until the lock is free, and works from then on. Do not put the file on a network
// file system: SQLite's log needs shared memory, and locks there are often not what they seem.
//
// # Looking inside
//
// A Node is also an http.Handler, so that rqlite's shell can be pointed at it. See ServeHTTP for what to mind:
// there is no authentication.
package embedded
