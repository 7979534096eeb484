package caddysession

import "github.com/caddy-session/caddy-session/rqlitestore"

// row is a session's row as a request knows it: as it was found, or as the request
// has last written it. What the request did since is not in it. It is replaced as a
// whole, by adopt, stored and dropRow, and never changed in part: what holds of one
// row does not hold of the next.
//
// The zero row says that nothing is stored. Any other has an ID, values, and a
// ticket that leads to it, unless that is void.
type row struct {
	rec        rqlitestore.Record // as the table has it; a save is compared with it
	ticket     ticket             // the way in that this request has
	void       bool               // it leads nowhere: another request had replaced the older one first
	principal  string             // whom the values name
	values     []byte             // as read or written, encoded: what is changed from here on is told by them
	merged     bool               // the table has more than these: what others had stored meanwhile
	cached     bool               // the table may have newer ones, which others stored
	remembered bool               // it is marked so in the table, which another request may have done
}

// exists reports whether there is a row.
func (r *row) exists() bool { return r.rec.ID != "" }

// inGrace reports whether a login elsewhere superseded the row: of its values only
// what is the same before and after is to be seen, and nothing is written under its
// ticket.
func (r *row) inGrace() bool { return !r.rec.Superseded.IsZero() }

// knownRow is the session's row as it is known.
func (s *Session) knownRow() row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.row
}

func (s *Session) isUnstored() bool {
	known := s.knownRow()
	return !known.exists()
}

// keepsRow reports whether there is a stored session that this request does not end.
// s.mu is held.
func (s *Session) keepsRow() bool { return s.row.exists() && !s.ending }

// stored makes what was written the session's row. The ticket's token is new, or
// that of the row before.
func (s *Session) stored(written row) {
	s.h.backend.observeWrite(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.row.exists() && s.row.rec.Token != written.rec.Token {
		s.h.backend.ended(s.row.rec.Token)
	}
	if written.ticket.token != s.row.ticket.token {
		s.issue = !written.void
	}
	s.row, s.edits = written, nil
	s.deleted, s.rotating = false, ""
}

// dropRow says that nothing of the session is stored any more. scs may still have
// its token.
func (s *Session) dropRow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost, s.row = s.row.ticket.token, row{}
}
