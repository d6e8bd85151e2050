package storage_test

import (
	"errors"
	"strings"
	"testing"

	"heliotrope/internal/storage"
)

func TestCheckSpec(t *testing.T) {
	const mebibyte = 1 << 20
	for name, test := range map[string]struct {
		spec storage.Spec
		ok   bool
	}{
		"good":       {storage.Spec{Name: "d0-a", SizeBytes: 64 * mebibyte}, true},
		"longest":    {storage.Spec{Name: strings.Repeat("x", 32), SizeBytes: mebibyte}, true},
		"too long":   {storage.Spec{Name: strings.Repeat("x", 33), SizeBytes: mebibyte}, false},
		"no name":    {storage.Spec{SizeBytes: mebibyte}, false},
		"dot":        {storage.Spec{Name: "a.b", SizeBytes: mebibyte}, false},
		"slash":      {storage.Spec{Name: "../b", SizeBytes: mebibyte}, false},
		"upper case": {storage.Spec{Name: "D0", SizeBytes: mebibyte}, false},
		"no size":    {storage.Spec{Name: "d0"}, false},
		"negative":   {storage.Spec{Name: "d0", SizeBytes: -mebibyte}, false},
		"odd size":   {storage.Spec{Name: "d0", SizeBytes: mebibyte + 512}, false},
	} {
		if err := storage.CheckSpec(test.spec); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestObserver(t *testing.T) {
	failed := errors.New("failed")
	var seen []storage.Step
	observe := storage.Observer(func(step storage.Step) { seen = append(seen, step) })
	if err := observe.Measure("drbd", "d0", "promote", func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if len(seen) != 1 || seen[0].Kind != "drbd" || seen[0].Disk != "d0" || seen[0].Name != "promote" || !errors.Is(seen[0].Err, failed) || seen[0].Started.IsZero() {
		t.Errorf("seen: %+v", seen)
	}
	observe = nil
	if err := observe.Measure("drbd", "d0", "promote", func() error { return nil }); err != nil {
		t.Error(err)
	}
}
