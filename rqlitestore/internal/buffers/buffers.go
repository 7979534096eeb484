// Package buffers keeps the memory of large requests and answers for the next ones.
package buffers

import (
	"bytes"
	"sync"
)

// Pool is a pool of buffers.
type Pool struct {
	most int
	pool sync.Pool
}

// NewPool returns a Pool that keeps no buffer of more than most bytes.
func NewPool(most int) *Pool { return &Pool{most: most} }

// Get returns an empty buffer.
func (p *Pool) Get() *bytes.Buffer {
	if b, ok := p.pool.Get().(*bytes.Buffer); ok {
		return b
	}
	return new(bytes.Buffer)
}

// Put takes a buffer back, of which nobody uses anything any more.
func (p *Pool) Put(b *bytes.Buffer) {
	if b.Cap() <= p.most {
		b.Reset()
		p.pool.Put(b)
	}
}
