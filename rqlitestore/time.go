package rqlitestore

import (
	"strconv"
	"time"
)

// Times are stored as Julian days, as SQLite's julianday() gives them and as
// scs's SQL stores have them.
const (
	unixEpochJulian = 2440587.5
	msPerDay        = 86_400_000
)

// julian returns t as a Julian day, rounded to the millisecond.
func julian(t time.Time) float64 {
	return float64(t.Round(time.Millisecond).UnixMilli())/msPerDay + unixEpochJulian
}

// appendJulian appends t as a Julian day in decimal.
func appendJulian(b []byte, t time.Time) []byte {
	return strconv.AppendFloat(b, julian(t), 'f', -1, 64)
}

// unixMsSQL is the SQL expression that turns a column with a Julian day into
// milliseconds since 1970. A day near 2000 has steps of 0.04 ms, so rounding
// gives back exactly what was stored.
func unixMsSQL(column string) string {
	return "CAST(round((" + column + "-2440587.5)*86400000.0) AS INTEGER)"
}
