package activities

import (
	"context"
	"errors"
	"path"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// rest is what is not asked of a programBed.
type rest = Machines

// programBed is machines that programs can be put on.
type programBed struct {
	rest
	hosts map[string]remote.Host

	mu        sync.Mutex
	witnessed []string
}

func (b *programBed) Name() string { return "lab" }
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

func (away) Files(context.Context) (remote.Files, error) { return nil, errors.New("no route to host") }

// TestPrograms: the witness is put on hosts without a worker, too; and a host that
// is away keeps its programs, and no other host does.
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
	require.NotContains(t, hostB.Memory().Paths(), program)
}
