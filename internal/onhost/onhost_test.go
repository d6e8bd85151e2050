package onhost

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/witness"
)

// TestAllNamesAreInTheDictionary: each counter's name is there once, including
// those of the drivers and the classes of traffic.
func TestAllNamesAreInTheDictionary(t *testing.T) {
	known := map[string]bool{}
	for _, counter := range Counters() {
		name := counter.Device + " " + counter.Name
		assert.False(t, known[name], "%s is there twice", name)
		assert.NotEmpty(t, counter.Unit, name)
		assert.NotEmpty(t, counter.Text, name)
		known[name] = true
	}
	for _, one := range parts {
		for _, counter := range one.Counters {
			assert.True(t, known[counter.Device+" "+counter.Name], counter)
		}
	}
	for _, class := range []string{"migration", "iscsi", "nfs", "drbd", "heartbeat", "iolog", "control", witness.OtherClass} {
		for _, counter := range witness.ClassCounters(class) {
			assert.True(t, known[witness.WAN+" "+counter.Name], counter.Name)
		}
	}
}

// TestNamesAreOneDriversOwn: no driver's reader or watcher has the name of
// another driver's, or of one that every witness has.
func TestNamesAreOneDriversOwn(t *testing.T) {
	readers := map[string]bool{witness.BlockReader: true, witness.InterfaceReader: true}
	watchers := map[string]bool{}
	for _, one := range parts {
		for name := range one.Readers {
			assert.False(t, readers[name], name)
			readers[name] = true
		}
		for name := range one.Watchers {
			assert.False(t, watchers[name], name)
			watchers[name] = true
			assert.NotNil(t, Watcher(name), name)
		}
	}
	assert.Len(t, Readers(), len(readers)-2)
	assert.Nil(t, Watcher("nobody"))
}
