package node

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/remote"
)

func TestParseListener(t *testing.T) {
	for line, want := range map[string]string{
		"   0: 030012C6:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19217 1":                                                 "198.18.0.3:3260",
		"   1: 00000000000000000000000000000000:0801 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19217 1": "[::]:2049",
		"   2: 0000000000000000FFFF0000030012C6:0CBC 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19217 1": "[::ffff:198.18.0.3]:3260",
		"   3: 030012C6:0CBC 010012C6:D431 01 00000000:00000000 00:00000000 00000000     0        0 19218 1":                                                 "",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":                                                   "",
		"": "",
	} {
		got, listens := parseListener(line)
		assert.Equal(t, want != "", listens, line)
		if listens {
			assert.Equal(t, netip.MustParseAddrPort(want), got)
		}
	}
}

func TestFailure(t *testing.T) {
	plain := errors.New("refused")
	assert.NoError(t, Failure(t.Context(), nil))
	for name, test := range map[string]struct {
		err   error
		class fault.Class
		code  cause.Code
	}{
		"storage":       {plain, fault.TargetFailed, cause.StorageFailed},
		"took too long": {&remote.Error{Host: "a", ExitCode: -1, Err: context.DeadlineExceeded}, fault.TargetFailed, cause.TimeOut},
		"way lost":      {&remote.Error{Host: "a", ExitCode: -1, Err: remote.ErrConnectionLost}, fault.Infrastructure, cause.Infrastructure},
		"classed":       {fault.As(fault.Invalid, plain), fault.Invalid, cause.Infrastructure},
	} {
		err := Failure(t.Context(), test.err)
		assert.Equal(t, test.class, fault.Of(err), name)
		assert.Equal(t, test.code, fault.CauseOf(err), name)
	}
	assert.NoError(t, Before(t.Context(), nil))
	assert.Equal(t, cause.Infrastructure, fault.Told(Before(t.Context(), plain)), "whoever is told must not think again")
	assert.Equal(t, fault.TargetFailed, fault.Of(Before(t.Context(), Failure(t.Context(), plain))))
	assert.Equal(t, cause.Infrastructure, fault.Told(Unusable("x")))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, plain, Failure(ended, plain))
	assert.Equal(t, plain, Before(ended, plain))
}
