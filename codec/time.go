package codec

import "time"

// withSeconds is RFC 3339 with an offset to the second, which Go and zones from
// before standard time have and RFC 3339 has not.
const withSeconds = "2006-01-02T15:04:05.999999999Z07:00:00"

// time appends t as RFC 3339 text that keeps its instant and its offset.
func (e *encoder) time(t time.Time) error {
	const day = 24 * 60 * 60
	_, offset := t.Zone()
	if y := t.Year(); y < 0 || y > 9999 || offset <= -day || offset >= day {
		return unstorable("a time outside of the years 0 to 9999 or a day or more from UTC, store text or a number")
	}
	e.raw(`"`)
	if offset%60 == 0 {
		e.buf = t.AppendFormat(e.buf, time.RFC3339Nano)
	} else {
		e.oddTime(t, offset)
	}
	e.raw(`"`)
	return nil
}

// oddTime appends t in the form withSeconds. Go cannot format that itself: it
// writes the offset of -18 seconds as "+00:00:-18".
func (e *encoder) oddTime(t time.Time, offset int) {
	e.buf = t.AppendFormat(e.buf, "2006-01-02T15:04:05.999999999")
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	e.buf = append(e.buf, sign)
	e.buf = time.Unix(int64(offset), 0).UTC().AppendFormat(e.buf, time.TimeOnly)
}

// secondBehind is the one offset that Go's parser takes for none at all: so a time
// with it is put where times without any are.
var secondBehind = time.FixedZone("", -1)

// parseTime reads what encoder.time writes.
func parseTime(s string) (time.Time, error) {
	// In UTC, so that an offset which is by chance that of this machine does not
	// become its time zone.
	t, err := time.ParseInLocation(time.RFC3339Nano, s, time.UTC)
	if err != nil {
		t, err = time.ParseInLocation(withSeconds, s, secondBehind)
	}
	return t, err
}
