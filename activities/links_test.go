package activities

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/simulated"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// rest is the part of the interface that a programBed does not implement.
type rest = Machines

// programBed has machines on which programs can be installed.
type programBed struct {
	rest
	hosts map[string]remote.Host

	torn      int // how often it was torn down
	mu        sync.Mutex
	witnessed []string
}

func (b *programBed) Name() string { return "lab" }

func (b *programBed) Teardown(context.Context) error {
	b.torn++
	return errors.New("host-a: tear down: no route to host")
}

func (b *programBed) Close() error { return nil }

func (b *programBed) Machines() []trial.Machine {
	return []trial.Machine{{Name: "host-a", Witness: true}, {Name: "host-b", Witness: true}, {Name: "helper"},
		{Name: trial.Guest, Worker: true, Witness: true}}
}

func (b *programBed) Machine(name string) remote.Host { return b.hosts[name] }
func (b *programBed) ProgramDir(name string) string   { return path.Join("/data", name, "lab.programs") }

func (b *programBed) InstallWitness(_ context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.witnessed = append(b.witnessed, name)
	return nil
}

// away is a host that cannot be reached.
type away struct{ remote.Host }

func (away) Name() string { return "host-a" }

func (away) Files(context.Context) (remote.Files, error) { return nil, errors.New("no route to host") }

// TestPrograms: the witness is also installed on hosts without a worker. In the end the
// testbed is torn down, and only a host that is away keeps its programs.
func TestPrograms(t *testing.T) {
	hostB := remotetest.NewFake(t, "host-b")
	bed := &programBed{hosts: map[string]remote.Host{"host-a": away{}, "host-b": hostB}}
	links := &Links{Open: func(context.Context, trial.Lane, trial.Ref) (testbed.Bed, error) { return bed, nil }}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(links)

	_, err := env.ExecuteActivity(links.Install, Target{})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"host-a", "host-b"}, bed.witnessed)

	program := path.Join(bed.ProgramDir("host-b"), "heliotrope-witness")
	require.NoError(t, hostB.Memory().MkdirAll(path.Dir(program)))
	require.NoError(t, hostB.Memory().WriteFile(program, []byte("program"), 0o755))
	_, err = env.ExecuteActivity(links.Remove, Target{})
	require.ErrorContains(t, err, "/data/host-a/lab.programs from host-a: no route to host")
	require.ErrorContains(t, err, "host-a: tear down: no route to host")
	require.Equal(t, 1, bed.torn)
	require.NotContains(t, hostB.Memory().Paths(), program)
}

// TestNothingIsLeftOnAModel: a testbed without machines of its own is torn down, too,
// whichever attempt has left something there.
func TestNothingIsLeftOnAModel(t *testing.T) {
	hosts := t.TempDir()
	open := func(_ context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error) {
		return simulated.Open(lane.Name, ref, simulated.Faults{Hosts: hosts}), nil
	}
	guest := filepath.Join(hosts, "sim-1-a", "guest")
	require.NoError(t, os.MkdirAll(filepath.Dir(guest), 0o755))
	require.NoError(t, os.WriteFile(guest, nil, 0o600))
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	links := &Links{Open: open}
	env.RegisterActivity(links)
	_, err := env.ExecuteActivity(links.Remove, Target{Lane: trial.Lane{Name: "sim-1"}, Ref: trial.Ref{Campaign: "unit"}})
	require.NoError(t, err)
	require.NoFileExists(t, guest)
}
