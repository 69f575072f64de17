package audit

import (
	"container/list"
	"sync"
)

// cache keeps what was read from sealed segments, the most recently used
// first, as far as it fits the budget.
type cache struct {
	budget int64 // bytes

	mu    sync.Mutex // guards what follows
	used  int64
	order *list.List // of *cached, the newest in front
	items map[cacheKey]*list.Element
}

// cacheKey names a part of a segment's file.
type cacheKey struct {
	base int64
	part int
}

// Parts other than the sections of the index, which have their own numbers.
const (
	partFrames = -1
	partHead   = -2
	partColumn = 1000      // plus the section
	partFrame  = 1_000_000 // plus the number of the frame
)

type cached struct {
	key   cacheKey
	value any
	size  int64
}

func newCache(budget int64) *cache {
	return &cache{budget: budget, order: list.New(), items: map[cacheKey]*list.Element{}}
}

func (c *cache) get(key cacheKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.items[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*cached).value, true
}

// put keeps value, which must not be changed any more.
func (c *cache) put(key cacheKey, value any, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok || size > c.budget {
		return
	}
	c.items[key] = c.order.PushFront(&cached{key, value, size})
	for c.used += size; c.used > c.budget; {
		last := c.order.Back()
		c.order.Remove(last)
		old := last.Value.(*cached)
		delete(c.items, old.key)
		c.used -= old.size
	}
}

// drop forgets a segment.
func (c *cache) drop(base int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, el := range c.items {
		if key.base == base {
			c.order.Remove(el)
			delete(c.items, key)
			c.used -= el.Value.(*cached).size
		}
	}
}
