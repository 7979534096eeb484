package rqlitestore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// A write id is what a save leaves in its row, so that after a lost reply one
// can see whether it was applied. It is a dot, the name of the store that wrote,
// and what tells the writes of that store apart, in base64url: no secret.
//
// A store sends one write of a session at a time, so it only ever asks for its
// last one. Therefore a row keeps one write id of each store, the newest first:
// however often others save a row meanwhile, it can be told whose writes it has.
// Only ids of the 8 stores that wrote last are kept.
const (
	writerLen  = 1 + 5 // 30 bits tell the stores of one row apart
	writeIDLen = writerLen + 6
	keptWrites = 8
	writesLen  = keptWrites * writeIDLen // characters
)

// newWriter returns the first part of a store's write ids.
func newWriter() string { return "." + randomText(writerLen-1) }

func (s *RqliteStore) newWriteID() string { return s.writer + randomText(writeIDLen-writerLen) }

// randomText returns n random characters of base64url, at most 10.
func randomText(n int) string {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	return base64.RawURLEncoding.EncodeToString(b[:])[:n]
}

// writesSQL is the expression for the write ids of a row with one more in front.
func writesSQL(id, ids string) string {
	ids = "coalesce(" + ids + ",'')"
	older := fmt.Sprintf("instr(%s,substr(%s,1,%d))", ids, id, writerLen)
	return fmt.Sprintf("substr(%[1]s||iif(%[3]s,substr(%[2]s,1,%[3]s-1)||substr(%[2]s,%[3]s+%[4]d),%[2]s),1,%[5]d)",
		id, ids, older, writeIDLen, writesLen)
}
