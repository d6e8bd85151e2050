package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBadInput(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent.yaml")
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":      {nil, exitBadInput, "want -inventory PATH"},
		"an argument":  {[]string{"-inventory", absent, "more"}, exitBadInput, "no arguments"},
		"another flag": {[]string{"-password", "secret"}, exitBadInput, "not defined"},
		"no inventory": {[]string{"-inventory", absent}, exitFailure, absent},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			assert.Equal(t, tt.code, run(t.Context(), tt.args, &stderr))
			assert.Contains(t, stderr.String(), tt.want)
		})
	}
}
