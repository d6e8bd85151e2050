// Package inflight is one page of memory that the load shares with the guest's
// witness: what is in flight, and which site is near.
package inflight

// Page is that page.
type Page struct{}

// Create makes the page, for the load.
func Create(path string, token uint64, workers int) (*Page, error) { panic("not built") }

// Open finds the page of that token, for the witness.
func Open(path string, token uint64) (*Page, error) { panic("not built") }

// Set publishes a worker's oldest I/O in flight, by the guest's wall clock (0:
// none), and its completed I/Os.
func (p *Page) Set(worker int, oldestNs int64, completed uint64) { panic("not built") }

// Get is the oldest of all workers and the sum of what they completed. ok is
// false when a worker was writing.
func (p *Page) Get() (oldestNs int64, completed uint64, ok bool) { panic("not built") }

// SetNear says at which site the guest's domain runs: 'a', 'b', or 0.
func (p *Page) SetNear(site byte, atNs int64) { panic("not built") }

// Near is what was said, and when.
func (p *Page) Near() (site byte, atNs int64) { panic("not built") }
