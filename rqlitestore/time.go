package rqlitestore

import (
	"math"
	"strconv"
	"time"
)

// Times are stored as Julian days, as SQLite's julianday() gives them and as
// scs's SQL stores have them.
const (
	unixEpochJulian = 2440587.5
	msPerDay        = 86_400_000

	firstDay = 1_000_000
	lastDay  = 9_999_999
)

var (
	firstTime = time.UnixMilli((firstDay - unixEpochJulian) * msPerDay)
	lastTime  = time.UnixMilli((lastDay - unixEpochJulian) * msPerDay)
)

// julian returns t as a Julian day, rounded to the millisecond. Days that have
// more or fewer than seven digits before the point, far outside of history, are
// cut off.
func julian(t time.Time) float64 {
	switch { // first, because a time that means "never" overflows in milliseconds
	case t.Before(firstTime):
		return firstDay
	case t.After(lastTime):
		return lastDay
	}
	return float64(t.Round(time.Millisecond).UnixMilli())/msPerDay + unixEpochJulian
}

// appendJulian appends t as a Julian day in decimal, in 18 bytes. Ten decimals
// are more than a float64 has there.
func appendJulian(b []byte, t time.Time) []byte {
	return strconv.AppendFloat(b, julian(t), 'f', 10, 64)
}

// daysSQL is the SQL expression for a column with a Julian day as days since
// 1970, which SQLite prints to about 10 decimals: enough for the millisecond.
func daysSQL(column string) string { return column + "-2440587.5" }

// parseDays reads what daysSQL gives.
func parseDays(s string) (time.Time, error) {
	days, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(int64(math.Round(days * msPerDay))), nil
}
