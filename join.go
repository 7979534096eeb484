package caddysession

import (
	"reflect"
	"slices"

	"go.uber.org/zap"
)

// join notes that this handler is enclosed by one with the same session, whose
// settings hold. Those that it has otherwise do nothing here: that is said once.
func (h *Handler) join(outer *Handler) {
	if h == outer {
		return
	}
	if _, said := h.joined.LoadOrStore(outer, nil); said {
		return
	}
	if ignored := h.ignoredWithin(outer); len(ignored) > 0 {
		h.logger.Warn("a `session` within another one of the same store and cookie joins it, and what it sets itself is ignored: set these options in the outer one, or give the inner one a cookie of its own",
			zap.Strings("ignored", ignored))
	}
}

// ignoredWithin returns the options that this handler sets and that are something
// else in the outer one. Those of the store and the keys are the same on any store.
// A test has it that no option is missing.
func (h *Handler) ignoredWithin(outer *Handler) (names []string) {
	for _, option := range []struct {
		name string
		set  bool
		same bool
	}{
		{"cookie", h.Cookie != nil, reflect.DeepEqual(h.cookie, outer.cookie)},
		{"lifetime", h.Lifetime > 0, h.lifetime == outer.lifetime},
		{"idle_timeout", h.IdleTimeout > 0, h.idle == outer.idle},
		{"touch_interval", h.TouchInterval > 0, h.touch == outer.touch},
		{"renew_interval", h.RenewInterval > 0, h.renew == outer.renew},
		{"persist", h.Persist != nil, h.persist == outer.persist},
		{"remember_lifetime", h.RememberLifetime > 0, h.remember == outer.remember},
		{"max_size", h.MaxSize > 0, h.maxSize == outer.maxSize},
		{"cache", h.Cache > 0, h.cacheAge == outer.cacheAge},
		{"principal", h.Principal != "", h.principalKey == outer.principalKey},
		{"max_per_principal", h.MaxPerPrincipal != nil, reflect.DeepEqual(h.limit, outer.limit)},
		{"bind", len(h.Bind) > 0, slices.Equal(h.bind, outer.bind)},
		{"audience", h.Audience != "", h.audience == outer.audience},
		{"track", h.Track != nil, h.track == outer.track},
		{"on_store_error", h.OnStoreError != "", h.anonymous == outer.anonymous},
		{"revalidate", h.Revalidate > 0, h.revalidate == outer.revalidate},
		{"max_new_per_client", h.MaxNewPerClient != nil, h.perClient == outer.perClient},
		{"cross_origin", h.CrossOrigin != nil, h.origins.sameAs(outer.origins)},
	} {
		if option.set && !option.same {
			names = append(names, option.name)
		}
	}
	return names
}
