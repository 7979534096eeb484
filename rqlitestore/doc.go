// Package rqlitestore keeps sessions in rqlite: a store for
// [github.com/alexedwards/scs/v2] that runs on a cluster of rqlite nodes or,
// through the package embedded, on one SQLite file in this process.
//
//	conn, err := embedded.Connect("sessions.db")
//	// or: cluster.Connect("http://n1:4001", "http://n2:4001", "http://n3:4001")
//	if err != nil { … }
//	sessions := scs.New()
//	sessions.Store = rqlitestore.New(conn)
//	http.ListenAndServe(":8080", sessions.LoadAndSave(mux))
//
// A connection from gorqlite.Open works as well, but gorqlite sends a write that
// failed on one node again to the next, also one that must not be repeated, and
// hangs with a node that hangs. Unless its URL says level=linearizable it reads at
// the level weak, which may find a session that was deleted. The package cluster
// does none of this.
//
// # Table
//
// The table is created by the first call that needs it. A table of scs's own
// rqlitestore is taken over as it is: its rows still read, and what is missing
// is added in place.
//
// # Coalescing
//
// Calls that wait at the same moment travel as one request with one statement,
// which is one entry in the Raft log for hundreds of sessions. Nothing waits on
// a timer: a batch is what gathered while the last one was under way. An error
// reaches the caller whose work it was, and a caller that gives up leaves the
// others alone.
//
// # What Delete promises
//
// A deleted token stays deleted: a request that loaded the session before it
// was deleted and commits it afterwards does not bring it back, which every
// plain table of sessions allows. [Options.ReviveDeleted] turns this off for
// those who use the store as a key-value table. What it cannot do: of two
// commits of one token by requests that run side by side the later one wins as
// a whole, and a commit that is delayed on its way may overwrite a newer one.
//
// # Versioned records
//
// [RqliteStore.Load], [RqliteStore.Create], [RqliteStore.Update] and
// [RqliteStore.Destroy] work on [Record], which has a version and an id that
// stays the same when the token changes. An update that lost a race is applied
// again to what is there now, so none is lost, and none is applied twice even
// when replies get lost.
//
// # Contexts
//
// A call ends with its context, which errors.Is finds in its error:
// [context.Canceled], [context.DeadlineExceeded] or the cause that it was given. One
// without a deadline ends after 3 s where it reads and after 5 s where it writes;
// calls that work in portions have as long for each. Calls that travel together,
// those of Find, Load, Current, Commit, Create, Update, Touch, Delete and Destroy,
// do so in requests that end then whatever their deadlines. A commit, create or
// delete that was given up may be done all the same. While another program writes
// to the file of the embedded node, a call may end up to 2 s late.
//
// # Running it
//
// [RqliteStore.List], [RqliteStore.Count] and [RqliteStore.CountByPrefix] show
// what is there, [RqliteStore.Export] and [RqliteStore.Import] move it to another
// store, and [Options.Observe] and [RqliteStore.Waiting] are for metrics. All of
// them work in portions, so that no session waits for them for long.
package rqlitestore
