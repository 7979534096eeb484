package caddysession

import "context"

// What is done to a session through scs's own manager is found out from what scs has
// afterwards: it asks the store to delete for two reasons, and tells of nothing else.

// takeDelete is what scs's Delete means within a request: the commit will know
// why. It reports false for a token that is not this session's.
func (s *Session) takeDelete(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != "" && (token == s.row.ticket.token || token == s.rotating) {
		s.deleted = true
		return true
	}
	return token == "" || token == s.lost
}

// detectDestroy tells scs's Destroy from its RenewToken: both delete, one leaves no token.
func (s *Session) detectDestroy() {
	s.mu.Lock()
	pending := s.deleted && !s.ending
	s.mu.Unlock()
	if !pending || s.h.manager.Token(s.scs) != "" { // scs locks its data for it, and saves under that lock
		return
	}
	s.mu.Lock()
	s.ending, s.deleted, s.edits = true, false, nil
	s.mu.Unlock()
}

// detectRenewal finds out whether the session was renewed since a rotation began
// that was not stored. Whoever renews it wants more than another token.
func (s *Session) detectRenewal(ctx context.Context) {
	token := s.h.manager.Token(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != s.rotating {
		s.rotating = ""
	}
}

// detectRemember finds out whether the session's cookie is to outlive the browser.
func (s *Session) detectRemember(ctx context.Context) {
	remembered := s.h.manager.GetBool(ctx, rememberKey)
	s.mu.Lock()
	s.issue = s.issue || remembered != s.remembered
	s.remembered = remembered
	s.mu.Unlock()
}
