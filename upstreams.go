package caddysession

import (
	"fmt"
	"maps"
	"net/http"
)

// sharing is an `upstream` block and the session that it shares.
type sharing struct {
	*upstream
	session *Session
}

// upstreams are those around a handler, the outermost first.
type upstreams []sharing

// withdraw takes what was sent of a session out of the request, as where it failed:
// an error route without a `session` of its own may lead to the application as well.
func (all *sessions) withdraw(header http.Header, s *Session) {
	for _, u := range all.shared.of(s) {
		maps.DeleteFunc(header, u.owns)
	}
}

// ofInnermost returns those that share the session of the innermost one. That
// session is what the application is sent and may change, as any of them says.
func (us upstreams) ofInnermost() upstreams {
	if len(us) == 1 {
		return us
	}
	return us.of(us[len(us)-1].session)
}

// of returns those that share a session.
func (us upstreams) of(s *Session) (same upstreams) {
	for _, u := range us {
		if u.session == s {
			same = append(same, u)
		}
	}
	return same
}

// edited writes the current session as it has become into the request's headers.
// In an error route those that were written before lie there still; what does not
// fit is no reason to have no error page.
func (all *sessions) edited(header http.Header) error {
	if all.page != nil && all.shared.of(all.current).fill(header) != nil {
		all.withdraw(header, all.current)
	}
	return all.upstreams.fill(header)
}

// fill writes the sessions into the request's headers, each where its own
// `upstream` says, instead of what was written before.
func (us upstreams) fill(header http.Header) error {
	if len(us) == 0 {
		return nil
	}
	var values map[string]any
	for i, u := range us {
		if i == 0 || u.session != us[i-1].session {
			if err := u.session.Load(); err != nil {
				return err
			}
			values = u.session.values()
		}
		for name := range u.config.Headers {
			header.Del(name)
		}
		if err := u.write(header, values); err != nil {
			return err
		}
	}
	return us.ofInnermost().fillData(header, values)
}

// fillData writes what goes into one header together. All of these share the
// same session, whose values these are.
func (us upstreams) fillData(header http.Header, values map[string]any) error {
	header.Del(dataHeader)
	header.Del(idHeader)
	if len(us.sent()) == 0 {
		return nil
	}
	if id := us[0].session.id(); id != "" {
		header.Set(idHeader, id)
	}
	return us.writeData(header, values)
}

// sent are the keys that go into one header together.
func (us upstreams) sent() (keys []string) {
	if len(us) == 1 {
		return us[0].config.Send
	}
	for _, u := range us {
		keys = append(keys, u.config.Send...)
	}
	return keys
}

func (us upstreams) writeData(header http.Header, values map[string]any) error {
	data, err := sentData(us.sent(), values)
	if err != nil {
		return fmt.Errorf("the session as header %s: %w", dataHeader, err)
	}
	if data != "" {
		header.Set(dataHeader, data)
	}
	return nil
}

// check reports values that could not be sent. All of these share the same session.
func (us upstreams) check(values map[string]any) error {
	for _, u := range us {
		if err := u.write(make(http.Header), values); err != nil {
			return err
		}
	}
	return us.writeData(make(http.Header), values)
}

// accept reports whether the application may change the session that all of these share.
func (us upstreams) accept() bool {
	for _, u := range us {
		if u.config.Accept {
			return true
		}
	}
	return false
}
