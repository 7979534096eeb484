package caddysession

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// sampledLog is a log for what any request may give reason to say: each message
// is written once a minute at most. Each handler has one: zap's own sampler would
// take half a megabyte for it.
type sampledLog struct {
	logger *zap.Logger
	said   sync.Map // message → *countedTimes
}

func (l *sampledLog) warn(message string, fields ...zap.Field) {
	l.times(message).Do(func(int64) { l.logger.Warn(message, fields...) })
}

// counted also says how many requests gave reason to since it was last said.
func (l *sampledLog) counted(level zapcore.Level, message string, fields ...zap.Field) {
	l.times(message).Do(func(requests int64) {
		l.logger.Log(level, message, append(fields, zap.Int64("requests", requests))...)
	})
}

func (l *sampledLog) times(message string) *countedTimes {
	known, ok := l.said.Load(message)
	if !ok {
		known, _ = l.said.LoadOrStore(message, &countedTimes{Sometimes: rate.Sometimes{Interval: time.Minute}})
	}
	return known.(*countedTimes)
}

// countedTimes does something now and then, and says how many times there was a
// reason to since it was last done.
type countedTimes struct {
	rate.Sometimes
	waiting atomic.Int64
}

func (c *countedTimes) Do(do func(times int64)) {
	c.waiting.Add(1)
	c.Sometimes.Do(func() { do(c.waiting.Swap(0)) })
}
