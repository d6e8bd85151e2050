package watch

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// FuzzEvents: whatever events libvirt sends, what is written of them is lines of a time, a number, a state and a
// resolution.
func FuzzEvents(f *testing.F) {
	of := uuid.MustParse("6f0dbb0e-2a9c-4c0b-9b5e-5b1f7f1d4c11")
	domain := func(kind, detail uint32) []byte {
		return new(body).number(1).text("lab.vm").uuid(of).number(7).number(kind).number(detail).bytes
	}
	f.Add(false, domain(eventSuspended, suspendedMigrated))
	f.Add(false, domain(eventStopped, stoppedCrashed))
	f.Add(true, new(body).number(1).text("lab.vm").uuid(of).number(7).text(stop).number(0).number(1795374199).number(532000).bytes)
	form := regexp.MustCompile(`^(-?\d+ -?\d+ [a-z-]+ -?\d+\n)*$`)
	f.Fuzz(func(t *testing.T, fromQEMU bool, content []byte) {
		p := packet{program: remoteProgram, procedure: eventLifecycle, body: content}
		if fromQEMU {
			p.program, p.procedure = qemuProgram, monitorEvent
		}
		var out bytes.Buffer
		l := &lines{out: &out}
		at := time.Unix(1795374199, 0)
		if err := l.take(at, p, of); err != nil {
			require.ErrorIs(t, err, errUnreadable)
			require.Empty(t, out.String())
			return
		}
		require.NoError(t, l.prove(at, at))
		require.Regexp(t, form, out.String())
	})
}
