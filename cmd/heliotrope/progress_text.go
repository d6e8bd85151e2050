package main

import (
	"sync"

	"github.com/vbauerster/mpb/v8/decor"
)

// sharedText is a line that one goroutine sets and another one draws.
type sharedText struct {
	lock sync.Mutex
	text string
}

func (s *sharedText) set(text string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.text = text
}

func (s *sharedText) decorate(decor.Statistics) string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.text
}
