package storage_test

import (
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
