package rqlitestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const defaultListLimit = 100

// errAfter: what a page is to begin behind is not what List returned as next with
// another page of the same principals.
var errAfter = errors.New("list sessions: after is not from a page of this list")

// ListOptions say which sessions [RqliteStore.List] returns.
type ListOptions struct {
	// Principals are whose sessions are listed; without any, everybody's are.
	// One principal may have several names here, as when its name is hashed
	// under more than one key.
	Principals []string
	// After is where the page begins: behind the one with which List returned
	// this as next.
	After string
	// Limit is how many sessions a page has at most: 100 by default and 1,000
	// at most.
	Limit int
}

// List returns one page of the sessions that have not expired, each by its
// current row: of principals those that were created or renewed last come first,
// one principal after the other; all there are come in the order of their tokens.
// A page may be shorter than the limit, because its size is limited as well. next
// is what to go on with in [ListOptions.After], and "" at the end.
//
// A session whose data cannot be read has nil Data, all others have not. Reading
// page by page gives no snapshot: sessions that come, go or get another token
// meanwhile may be missing, or be there twice.
func (s *RqliteStore) List(ctx context.Context, o ListOptions) (recs []Record, next string, err error) {
	if o.Limit <= 0 {
		o.Limit = defaultListLimit
	}
	o.Limit = min(o.Limit, pageRows)
	if len(o.Principals) > 0 {
		return s.listOf(ctx, o)
	}
	from := ""
	if o.After != "" {
		from = behind(o.After)
	}
	recs, more, err := s.page(ctx, from, o.Limit)
	if err != nil {
		return nil, "", fmt.Errorf("list sessions: %w", err)
	}
	if more {
		next = recs[len(recs)-1].Token
	}
	return recs, next, nil
}

// place is where a page of the sessions of principals begins: with those of the
// principal at the index whose rows have a lower number.
type place struct {
	index int
	below int64
}

func (p place) String() string { return fmt.Sprintf("%d:%d", p.index, p.below) }

func parsePlace(after string) (p place, err error) {
	if after == "" {
		return place{0, math.MaxInt64}, nil
	}
	index, below, _ := strings.Cut(after, ":")
	if p.index, err = strconv.Atoi(index); err == nil {
		p.below, err = strconv.ParseInt(below, 10, 64)
	}
	if err != nil || p.index < 0 {
		return place{}, errAfter
	}
	return p, nil
}

// listOf is List for principals. It goes by the numbers of rows, for these are
// what the index on principals is in the order of: by tokens each page would have
// to look at all that a principal has.
func (s *RqliteStore) listOf(ctx context.Context, o ListOptions) (recs []Record, next string, err error) {
	at, err := parsePlace(o.After)
	if err != nil {
		return nil, "", err
	}
	for ; at.index < len(o.Principals); at = (place{at.index + 1, math.MaxInt64}) {
		principal := o.Principals[at.index]
		if slices.Contains(o.Principals[:at.index], principal) {
			continue
		}
		left := o.Limit - len(recs)
		found, last, more, err := s.pageOf(ctx, principal, at.below, max(left, 1)) // whether there is one more at least
		switch {
		case err != nil:
			return nil, "", fmt.Errorf("list sessions: %w", err)
		case left == 0 && len(found) > 0:
			return recs, at.String(), nil
		}
		recs = append(recs, found...)
		if more {
			return recs, place{at.index, last}.String(), nil
		}
	}
	return recs, "", nil
}

// pageOf reads the current rows of a principal that have a lower number than
// below, the highest first, and returns the lowest number. Data that cannot be
// read is nil.
func (s *RqliteStore) pageOf(ctx context.Context, principal string, below int64, limit int) (recs []Record, last int64, more bool, err error) {
	rows, more, err := s.packedPage(ctx, kindList, s.sql.pageOf, strconv.FormatInt(below, 10), limit, hexText(principal))
	if err != nil {
		return nil, 0, false, err
	}
	numbers := make(map[string]int64, len(rows))
	recs = make([]Record, len(rows))
	last = below
	for i, row := range rows {
		number, packed, _ := strings.Cut(row, ",")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n >= below {
			return nil, 0, false, errReply
		}
		if recs[i], err = listedRecord(packed); err != nil {
			return nil, 0, false, err
		}
		numbers[recs[i].Token], last = n, min(last, n)
	}
	if more && len(recs) == 0 {
		return nil, 0, false, errReply
	}
	slices.SortFunc(recs, func(a, b Record) int { return cmp.Compare(numbers[b.Token], numbers[a.Token]) })
	return recs, last, more, nil
}

// page reads the current rows from the token from on. Data that cannot be read
// is nil.
func (s *RqliteStore) page(ctx context.Context, from string, limit int) (recs []Record, more bool, err error) {
	rows, more, err := s.packedPage(ctx, kindList, s.sql.page, hexText(from), limit)
	if err != nil {
		return nil, false, err
	}
	recs = make([]Record, len(rows))
	for i, row := range rows {
		if recs[i], err = listedRecord(row); err != nil {
			return nil, false, err
		}
	}
	if err := putInOrder(recs, func(r Record) string { return r.Token }, from, more); err != nil {
		return nil, false, err
	}
	return recs, more, nil
}

// listedRecord reads a packed row. Data that cannot be read is nil.
func listedRecord(packed string) (Record, error) {
	rec, _, readable, err := parseRecord(packed)
	if !readable {
		rec.Data = nil
	}
	return rec, err
}
