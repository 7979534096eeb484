package sqlite

import "container/list"

const (
	// maxStatements is how many prepared statements a connection keeps. The store uses about a dozen.
	maxStatements = 128
	// maxKeptText is the longest text of a statement that is kept: longer ones are hardly sent again.
	maxKeptText = 16 << 10
)

// cache keeps prepared statements by their text, the least recently used gives way.
type cache struct {
	order  *list.List // of *cached, most recently used first
	byText map[string]*list.Element
}

type cached struct {
	text string
	stmt *Stmt
}

func newCache() cache {
	return cache{order: list.New(), byText: make(map[string]*list.Element, maxStatements)}
}

func (c *cache) get(text string) *Stmt {
	e := c.byText[text]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).stmt
}

func (c *cache) put(text string, s *Stmt) {
	if len(text) > maxKeptText || c.byText[text] != nil {
		return
	}
	if c.order.Len() >= maxStatements {
		oldest := c.order.Remove(c.order.Back()).(*cached)
		delete(c.byText, oldest.text)
		oldest.stmt.finalize()
	}
	s.kept = true
	c.byText[text] = c.order.PushFront(&cached{text: text, stmt: s})
}

func (c *cache) clear() {
	for e := c.order.Front(); e != nil; e = e.Next() {
		e.Value.(*cached).stmt.finalize()
	}
	c.order.Init()
	clear(c.byText)
}
