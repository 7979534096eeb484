package embedded

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// params are the parameters in the URL of a request. Those that only mean something in a cluster
// (level, freshness, retries …) are checked as rqlite checks them and otherwise ignored.
type params struct {
	timings       bool
	transaction   bool
	queue         bool
	associative   bool
	blobsAsArrays bool
	pretty        bool
	noLeader      bool
	sync          bool
	dbTimeout     time.Duration // 0: none
	freshness     bool
	strict        bool // freshness_strict
	query         string
	key           string
	version       string
}

func parseParams(raw string) (p params, err error) {
	if strings.ContainsAny(raw, "%+;") || strings.Contains(raw, "q=") {
		return parseEncodedParams(raw)
	}
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		if err := p.set(key, value); err != nil {
			return p, err
		}
	}
	return p, p.check()
}

func parseEncodedParams(raw string) (p params, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return p, err
	}
	for key, v := range values {
		if err := p.set(key, v[0]); err != nil {
			return p, err
		}
	}
	return p, p.check()
}

func (p params) check() error {
	if p.strict && !p.freshness {
		return errors.New("freshness_strict requires freshness")
	}
	return nil
}

func (p *params) set(key, value string) (err error) {
	switch key {
	case "timings":
		p.timings = true
	case "transaction":
		p.transaction = true
	case "queue":
		p.queue = true
	case "associative":
		p.associative = true
	case "blob_array":
		p.blobsAsArrays = true
	case "pretty":
		p.pretty = true
	case "noleader":
		p.noLeader = true
	case "sync":
		p.sync = true
	case "freshness_strict":
		p.strict = true
	case "key":
		p.key = value
	case "ver":
		p.version = value
	case "q":
		if p.query = value; value == "" {
			return errors.New("query parameter not set")
		}
	case "db_timeout", "timeout", "freshness", "linearizable_timeout":
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("%s is not a valid duration", key)
		}
		switch key {
		case "db_timeout":
			p.dbTimeout = d
		case "freshness":
			p.freshness = true
		}
	case "retries", "trailing_logs":
		if _, err := strconv.Atoi(value); err != nil {
			return fmt.Errorf("%s is not a valid integer", key)
		}
	}
	return nil
}
