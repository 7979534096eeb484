package caddysession

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// AdminAPI answers below /session/ of Caddy's admin endpoint: which stores
// there are and how they are, which sessions are in them, and how sessions are
// ended or moved. Caddy guards it like all of the endpoint: by the address it
// listens on, and by Host and Origin.
//
// No token and no hash of one is ever shown, but in an export.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.session",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// Routes returns the routes of the admin API.
func (AdminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/session/stores", Handler: byMethod{http.MethodGet: adminStores}},
		{Pattern: "/session/count", Handler: byMethod{http.MethodGet: ofStore(adminCount)}},
		{Pattern: "/session/sessions", Handler: byMethod{http.MethodGet: ofStore(adminList), http.MethodDelete: ofStore(adminRevokeMany)}},
		{Pattern: "/session/sessions/{id}", Handler: byMethod{http.MethodGet: ofStore(adminShow), http.MethodDelete: ofStore(adminRevoke)}},
		{Pattern: "/session/purge", Handler: byMethod{http.MethodPost: ofStore(adminPurge)}},
		{Pattern: "/session/export", Handler: byMethod{http.MethodGet: ofStore(adminExport), http.MethodPost: ofStore(adminExport)}},
		{Pattern: "/session/import", Handler: byMethod{http.MethodPost: ofStore(adminImport)}},
		{Pattern: "/session/", Handler: caddy.AdminHandlerFunc(func(http.ResponseWriter, *http.Request) error {
			return apiError(http.StatusNotFound, "the admin API of session has stores, count, sessions, purge, export and import")
		})},
	}
}

// byMethod chooses the handler by the method of the request. It is given the stores
// of the config that is running.
type byMethod map[string]adminHandler

type adminHandler func(w http.ResponseWriter, r *http.Request, stores []namedStore) error

func (m byMethod) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	handle, ok := m[r.Method]
	if !ok {
		allowed := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
		w.Header().Set("Allow", allowed)
		return apiError(http.StatusMethodNotAllowed, "the method is not one of %s", allowed)
	}
	w.Header().Set("Cache-Control", "no-store")
	stores, letGo := holdStores()
	defer letGo()
	return handle(w, r, stores)
}

// ofStore is for what is asked of one store: that which the request names.
func ofStore(handle func(w http.ResponseWriter, r *http.Request, s namedStore) error) adminHandler {
	return func(w http.ResponseWriter, r *http.Request, stores []namedStore) error {
		s, err := storeFor(r, stores)
		if err != nil {
			return err
		}
		return handle(w, r, s)
	}
}

func apiError(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

// unavailable is the answer when a store did not do what it was asked for.
func (s namedStore) unavailable(err error) error {
	if clear := s.backend.blocked(); clear != nil {
		err = clear
	}
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
}

// blocked tells why the file of an embedded node cannot be opened.
func (b *backend) blocked() error {
	if b.node == nil {
		return nil
	}
	return b.node.Open()
}

func writeJSON(w http.ResponseWriter, answer any) error {
	encoded, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(encoded, '\n')) // a client that did not wait cannot be told
	return nil
}

// flag reads a parameter that is on or off.
func flag(r *http.Request, name string) (bool, error) {
	value := r.URL.Query().Get(name)
	if value == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, apiError(http.StatusBadRequest, "%s is 1 or 0, not %q", name, value)
	}
	return on, nil
}

var (
	_ caddy.AdminRouter  = AdminAPI{}
	_ caddy.AdminHandler = byMethod{}
)
