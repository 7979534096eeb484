package rqlitestore

import "time"

// Request is one request of the store to its database, as [Options.Observe] is
// told of it.
type Request struct {
	// Kind says what was asked for: find, load, current, create, save, renew,
	// touch, destroy, destroy_principal, commit, delete, presented, resolve,
	// cleanup, list, count, export or import. A resolve asks what became of a
	// create, save or renew whose rows were not all stored or whose reply got
	// lost.
	Kind string
	// Rows is how many sessions the request was about: the size of the batch.
	// It is 0 where nobody knows before the answer, as for a list.
	Rows int
	// Duration is how long the request took, with what the connection repeated
	// of it.
	Duration time.Duration
	// Err is why it failed, or nil. A save that lost a race did not fail.
	Err error
}

// What requests are about.
const (
	kindFind             = "find"
	kindLoad             = "load"
	kindCurrent          = "current"
	kindCreate           = "create"
	kindSave             = "save"
	kindRenew            = "renew"
	kindTouch            = "touch"
	kindDestroy          = "destroy"
	kindDestroyPrincipal = "destroy_principal"
	kindCommit           = "commit"
	kindDelete           = "delete"
	kindPresented        = "presented"
	kindResolve          = "resolve"
	kindCleanup          = "cleanup"
	kindList             = "list"
	kindCount            = "count"
	kindExport           = "export"
	kindImport           = "import"
)

// work is what a request is about.
type work struct {
	kind string
	rows int
}

// observed runs one request and tells the observer, if there is one.
func (s *RqliteStore) observed(w work, request func() error) error {
	if s.observe == nil {
		return request()
	}
	begin := time.Now()
	err := request()
	s.observe(Request{Kind: w.kind, Rows: w.rows, Duration: time.Since(begin), Err: err})
	return err
}

// Waiting returns how many calls wait for the database at this moment: those in
// a request that is under way and those that wait for the next one.
func (s *RqliteStore) Waiting() int {
	n := 0
	for _, l := range s.lanes {
		n += l.size()
	}
	return n
}

// gauge is a lane of any kind.
type gauge interface{ size() int }
