package caddysession

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// checkBind reports what no session can be bound to.
func (h *Handler) checkBind() error {
	for _, placeholder := range h.Bind {
		switch {
		case !strings.HasPrefix(placeholder, "{") || !strings.HasSuffix(placeholder, "}"):
			return fmt.Errorf("bind takes placeholders like {http.request.header.User-Agent}, not %q", placeholder)
		case strings.HasPrefix(placeholder, "{http.session."):
			return fmt.Errorf("bind %s: a session cannot be bound to itself", placeholder)
		}
		if err := checkLongForm("bind", placeholder); err != nil {
			return err
		}
	}
	return nil
}

// binding is what the request is, as far as sessions are bound to it: a digest
// of the placeholders' names and one of their values; "" without `bind`. With
// other names, after a change of the configuration, sessions stay good and are
// bound anew. It is asked for when the request arrives, for handlers may change
// what comes later, like request_header does.
func (h *Handler) binding(ctx context.Context) string {
	if len(h.bind) == 0 {
		return ""
	}
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	values := make([]string, len(h.bind))
	for i, placeholder := range h.bind {
		values[i] = h.fill(repl, placeholder, "bind has a placeholder that Caddy does not know, which binds sessions to nothing: is it misspelt?")
	}
	return digestOf(h.bind) + digestOf(values)
}

// digestLength is that of one digest: 128 bits in base64url.
const digestLength = 22

func digestOf(texts []string) string {
	digest := sha256.New()
	for _, text := range texts {
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		digest.Write([]byte(text))
	}
	return base64.RawURLEncoding.EncodeToString(digest.Sum(nil)[:16])
}

// isBound reports whether the session that was loaded may be used by this
// request. One that was stored before there was `bind` may.
func (s *Session) isBound(loaded context.Context, id string) bool {
	if len(s.h.bind) == 0 {
		return true
	}
	stored, now := s.h.manager.GetString(loaded, boundKey), s.binding
	if len(stored) != len(now) || stored[:digestLength] != now[:digestLength] || stored == now {
		return true
	}
	s.h.backend.metrics.unboundSession.Inc()
	s.h.sampled.counted(zap.InfoLevel, "a session is presented by another client than the one that it is bound to: it is none here",
		zap.String("session_id", id))
	return false
}

// putBinding binds a session that is being stored.
func (s *Session) putBinding(ctx context.Context) {
	if len(s.h.bind) > 0 && s.h.manager.GetString(ctx, boundKey) != s.binding {
		s.h.manager.Put(ctx, boundKey, s.binding)
	}
}
