package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"heliotrope/internal/inventory"
	"heliotrope/internal/link"
	"heliotrope/internal/owner"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/testbed"
)

// sshHosts are the three hosts of an inventory. Each is an SSH server of the test on this machine, with its own data folder and
// its own /run/heliotrope.
type sshHosts struct {
	path            string // the inventory
	worker, witness string // this machine's copies
	servers         map[string]*remotetest.Server
	data            map[string]string
}

// newSSHHosts starts the servers, and writes the inventory lab-1.yaml with its key into a folder.
func newSSHHosts(t *testing.T, folder string) *sshHosts {
	t.Helper()
	h := &sshHosts{path: filepath.Join(folder, "lab-1.yaml"), worker: filepath.Join(folder, "worker"), witness: filepath.Join(folder, "witness"),
		servers: map[string]*remotetest.Server{}, data: map[string]string{}}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	public, err := ssh.NewPublicKey(private.Public())
	require.NoError(t, err)
	text, err := os.ReadFile(goodInventory)
	require.NoError(t, err)
	written := strings.ReplaceAll(string(text), "/etc/heliotrope/id", "keys/id")
	for _, host := range []struct{ name, address, key string }{
		{"host-a", "192.0.2.1:22", "SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y\n        - SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI"},
		{"host-b", `"[2001:db8::2]:22"`, "SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI"},
		{"store", "store.example.net:22", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4"},
	} {
		server, data := remotetest.NewServer(t), t.TempDir()
		server.LetIn(public)
		require.NoError(t, os.Mkdir(filepath.Join(data, "run"), 0o755))
		server.Move("/run/heliotrope", filepath.Join(data, "run/heliotrope"))
		h.servers[host.name], h.data[host.name] = server, data
		for _, change := range [][2]string{{host.address, server.Address()}, {host.key, server.Fingerprint()}, {"/var/lib/heliotrope\n", data + "\n"}} {
			require.Contains(t, written, change[0])
			written = strings.Replace(written, change[0], change[1], 1)
		}
	}
	require.NoError(t, os.Mkdir(filepath.Join(folder, "keys"), 0o700))
	for path, content := range map[string][]byte{h.path: []byte(written), filepath.Join(folder, "keys/id"): pem.EncodeToMemory(block),
		h.worker: []byte("the worker"), h.witness: []byte("the witness")} {
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	return h
}

func (h *sshHosts) connect(inv *inventory.Inventory) (*testbed.Testbed, error) {
	bed, err := testbed.Connect(inv)
	if err == nil {
		bed.WitnessBinary = h.witness
	}
	return bed, err
}

// run runs a command below worker on the hosts.
func (h *sshHosts) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := (&workerCommand{connect: h.connect, binary: h.worker}).command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		code = report(&errs, err)
	}
	return code, out.String(), errs.String()
}

// asked runs a command with --json, which must end with that exit code, and returns its report.
func (h *sshHosts) asked(t *testing.T, code int, command string) workerReport {
	t.Helper()
	got, stdout, stderr := h.run(t, command, h.path, "--json")
	require.Equal(t, code, got, "%s%s", stdout, stderr)
	var said workerReport
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	assert.Equal(t, "lab-1", said.Testbed)
	return said
}

// done is what was done with each program, as "HOST WORD WORD": the worker's and the witness's.
func (r workerReport) done() (all []string) {
	for _, host := range r.Hosts {
		line := host.Host
		for _, program := range host.Programs {
			line += " " + program.Done
		}
		all = append(all, line)
	}
	return all
}

// same says of each host whether its programs are this machine's, as "HOST IS IS".
func (r workerReport) same() (all []string) {
	for _, host := range r.Hosts {
		line := host.Host
		for _, program := range host.Programs {
			line += ", " + program.is()
		}
		all = append(all, line)
	}
	return all
}

// at is a file below a host's data folder.
func (h *sshHosts) at(host string, names ...string) string {
	return filepath.Join(append([]string{h.data[host]}, names...)...)
}

// looks is how often somebody has looked at a program on a host.
func (h *sshHosts) looks(host string) (count int) {
	for _, line := range h.servers[host].Lines() {
		if strings.Contains(line, "sha256sum <") {
			count++
		}
	}
	return count
}

// workerOn starts a shell script on a host as if it were a testbed's worker.
func (h *sshHosts) workerOn(t *testing.T, host, label, script string) record.Process {
	t.Helper()
	process := record.Process{Host: remote.Local(host), Dir: h.at(host, label+".run", testbed.WorkerFolder)}
	require.NoError(t, process.Start(t.Context(), "sh", "-c", script))
	t.Cleanup(func() { assert.NoError(t, process.Remove(context.Background())) })
	return process
}

// TestWorkerInstall: the programs are installed on all hosts; a second time changes nothing; a newer program replaces an older
// one; and a campaign's link finds the programs there and uploads nothing.
func TestWorkerInstall(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	assert.Equal(t, []string{"host-a, not there, not there", "host-b, not there, not there", "store, not there, not there"}, h.asked(t, 0, "status").same())
	installed := h.asked(t, 0, "install")
	assert.Equal(t, []string{"host-a installed installed", "host-b installed installed", "store installed installed"}, installed.done())
	assert.Empty(t, installed.Problems)
	for host := range h.servers {
		for name, want := range map[string]string{"heliotrope-worker": "the worker", "heliotrope-witness": "the witness"} {
			path := h.at(host, "lab-1.programs", name)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, want, string(text))
			info, err := os.Stat(path)
			require.NoError(t, err)
			assert.EqualValues(t, 0o755, info.Mode().Perm())
		}
		assert.NoDirExists(t, h.at(host, "run", "heliotrope"), "the lease was given back")
	}
	assert.Equal(t, []string{"host-a nothing nothing", "host-b nothing nothing", "store nothing nothing"}, h.asked(t, 0, "install").done())
	host := h.servers["host-a"].Connect(t, "host-a")
	require.NoError(t, link.InstallWorker(t.Context(), host, h.worker, h.at("host-a", "lab-1.programs"), func(int64, int64) { t.Error("the link uploads it again") }))

	require.NoError(t, os.WriteFile(h.worker, []byte("a newer worker"), 0o600))
	assert.Equal(t, []string{"host-a, another, the same", "host-b, another, the same", "store, another, the same"}, h.asked(t, 0, "status").same())
	upgraded := h.asked(t, 0, "install")
	assert.Equal(t, []string{"host-a replaced nothing", "host-b replaced nothing", "store replaced nothing"}, upgraded.done())
	assert.Len(t, upgraded.Hosts[0].Programs[0].SHA256, 64)
	assert.NotEqual(t, installed.Hosts[0].Programs[0].SHA256, upgraded.Hosts[0].Programs[0].SHA256)
	code, stdout, _ := h.run(t, "status", h.path)
	assert.Zero(t, code)
	assert.Regexp(t, `(?m)^host-b +heliotrope-worker +the same +`+upgraded.Hosts[0].Programs[0].SHA256[:12]+` +- +-$`, stdout)
	assert.Contains(t, stdout, "\n0 problems, 0 warnings\n")
}

// TestWorkerInstallWithoutWorkers: with mode: agentless the hosts get the witness alone.
func TestWorkerInstallWithoutWorkers(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	text, err := os.ReadFile(h.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(h.path, []byte(strings.Replace(string(text), "hypervisor: xen\n", "hypervisor: xen\nmode: agentless\n", 1)), 0o600))
	assert.Equal(t, []string{"host-a installed", "host-b installed", "store installed"}, h.asked(t, 0, "install").done())
	assert.NoFileExists(t, h.at("store", "lab-1.programs", "heliotrope-worker"))
}

// TestWorkerWithoutCopies: where this machine has no copies of the programs, status shows what the hosts have, says that it
// cannot compare that, and succeeds; remove needs no copies; and install wants only those that it installs.
func TestWorkerWithoutCopies(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	h.asked(t, 0, "install")
	require.NoError(t, os.Remove(h.worker))
	said := h.asked(t, 0, "status")
	assert.Equal(t, []string{"host-a, there, the same", "host-b, there, the same", "store, there, the same"}, said.same())
	require.Len(t, said.Problems, 1)
	assert.True(t, said.Problems[0].Warning)
	assert.Contains(t, said.Problems[0].Found, h.worker)
	assert.Contains(t, said.Problems[0].Fix, "put it beside heliotrope")
	require.NoError(t, os.Remove(h.witness))
	code, stdout, stderr := h.run(t, "status", h.path)
	assert.Zero(t, code, stderr)
	assert.Regexp(t, `(?m)^host-b +heliotrope-worker +there +[0-9a-f]{12} +- +-$`, stdout)
	assert.Contains(t, stdout, "\n0 problems, 2 warnings\n")
	removed := h.asked(t, 0, "remove")
	assert.Empty(t, removed.Problems)
	assert.Equal(t, []string{"host-a removed removed", "host-b removed removed", "store removed removed"}, removed.done())

	text, err := os.ReadFile(h.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(h.path, []byte(strings.Replace(string(text), "hypervisor: xen\n", "hypervisor: xen\nmode: agentless\n", 1)), 0o600))
	require.NoError(t, os.WriteFile(h.witness, []byte("the witness"), 0o600))
	assert.Equal(t, []string{"host-a installed", "host-b installed", "store installed"}, h.asked(t, 0, "install").done(), "the worker is not needed")
}

// TestWorkerStatus: for each worker it shows the testbed, the state, the start, what the worker takes, and what it said last.
func TestWorkerStatus(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	began := time.Now()
	process := h.workerOn(t, "host-a", "lab-1", `for i in 1 2 3 4 5 6 7; do echo "line $i" >&2; done; printf 'a \033[2Jtrick\n' >&2; echo ready; exec sleep 600`)
	started := time.Now()
	gone := h.workerOn(t, "host-a", "lab-2", "echo 'out of memory' >&2; exec sleep 600")
	for _, one := range []record.Process{process, gone} {
		require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(ctx context.Context) (bool, error) {
			said, err := one.Tail(ctx, "errors", 100)
			return strings.Contains(string(said), "trick\n") || strings.Contains(string(said), "memory\n"), err
		}))
	}
	require.NoError(t, gone.Signal(t.Context(), "KILL"))
	require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		alive, err := gone.Alive(ctx)
		return !alive, err
	}))
	require.NoError(t, os.MkdirAll(h.at("host-a", "Not a label.run", "worker"), 0o755))
	asked := time.Now()
	said := h.asked(t, 0, "status")
	took := time.Since(asked)
	workers := said.Hosts[0].Workers
	require.Len(t, workers, 2)
	assert.Equal(t, []string{"lab-1", "lab-2"}, []string{workers[0].Testbed, workers[1].Testbed})
	assert.Equal(t, []record.State{record.Running, record.Ended}, []record.State{workers[0].State, workers[1].State})
	require.NotNil(t, workers[0].Since)
	assert.False(t, workers[0].Since.Before(began.Add(-took-time.Second)), workers[0].Since)
	assert.False(t, workers[0].Since.After(started.Add(time.Second)), workers[0].Since)
	noted, err := os.ReadFile(filepath.Join(process.Dir, "pid"))
	require.NoError(t, err)
	assert.Equal(t, strings.Fields(string(noted))[0], strconv.Itoa(workers[0].PID))
	assert.Equal(t, []string{"line 4", "line 5", "line 6", "line 7", "a  [2Jtrick"}, workers[0].Said)
	assert.Equal(t, hostWorker{Testbed: "lab-2", State: record.Ended, Said: []string{"out of memory"}}, workers[1])
	assert.Empty(t, said.Hosts[1].Workers)
	code, stdout, stderr := h.run(t, "status", h.path)
	assert.Zero(t, code, stderr)
	assert.Regexp(t, `(?m)^host-a +lab-1 +running +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ +\d+\.\d MiB +\d+\.\d\d s$`, stdout)
	assert.Regexp(t, `(?m)^host-a +lab-2 +ended +- +- +- +-$`, stdout)
	assert.Contains(t, stdout, "host-a: the worker of lab-2 said last:\n  out of memory\n")
}

// TestWorkerOf: the figures of a worker are those that its host has told. What cannot be asked hides nothing else.
func TestWorkerOf(t *testing.T) {
	of := func(usage, tail remotetest.Reply) (hostWorker, error) {
		host := remotetest.NewFake(t, "host-a")
		for operation, reply := range map[string]remotetest.Reply{"usage": usage, "tail_of": tail, "status": {Stdout: "running\n\n"}} {
			host.On(func(call remotetest.Call) bool { return len(call.Args) > 4 && call.Args[4] == operation }, reply)
		}
		return workerOf(t.Context(), record.Process{Host: host, Dir: "/srv/heliotrope/lab-1.run/worker"})
	}
	usage, tail := remotetest.Reply{Stdout: "4711 86400 27136 1234\n"}, remotetest.Reply{Stdout: "listening\n"}
	asked := time.Now()
	worker, err := of(usage, tail)
	answered := time.Now()
	require.NoError(t, err)
	require.NotNil(t, worker.Since)
	const day = 24 * time.Hour
	assert.False(t, worker.Since.Before(asked.Add(-day).Truncate(time.Second)), worker.Since)
	assert.False(t, worker.Since.After(answered.Add(-day)), worker.Since)
	worker.Since = nil
	assert.Equal(t, hostWorker{State: record.Running, PID: 4711, ResidentBytes: 27136 << 10, CPUSeconds: 12.34, Said: []string{"listening"}}, worker)

	worker, err = of(remotetest.Reply{Stdout: "4711 -3 27136 1234\n"}, tail)
	require.ErrorContains(t, err, "-3")
	assert.Equal(t, hostWorker{State: record.Running, Said: []string{"listening"}}, worker)
	worker, err = of(usage, remotetest.Reply{ExitCode: 1, Stderr: "tail: cannot open"})
	require.ErrorContains(t, err, "cannot open")
	assert.Equal(t, 4711, worker.PID)
	assert.NotNil(t, worker.Since)
}

// TestWorkerStatusGoesOn: a worker of which something cannot be told is a problem, and is listed with the others.
func TestWorkerStatusGoesOn(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	first, second := h.workerOn(t, "host-a", "lab-1", "exec sleep 600"), h.workerOn(t, "host-a", "lab-2", "exec sleep 600")
	require.NoError(t, os.Remove(filepath.Join(first.Dir, "errors")))
	said := h.asked(t, exitFailure, "status")
	require.Len(t, said.Problems, 1)
	assert.Equal(t, "host-a", said.Problems[0].Host)
	workers := said.Hosts[0].Workers
	require.Len(t, workers, 2)
	for i, process := range []record.Process{first, second} {
		noted, err := os.ReadFile(filepath.Join(process.Dir, "pid"))
		require.NoError(t, err)
		assert.Equal(t, strings.Fields(string(noted))[0], strconv.Itoa(workers[i].PID))
	}
}

// TestWorkerRemove: it removes the testbed's programs and its running worker, and nothing else.
func TestWorkerRemove(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	h.asked(t, 0, "install")
	own := h.workerOn(t, "host-a", "lab-1", "exec sleep 600")
	others := h.workerOn(t, "host-a", "lab-2", "exec sleep 600")
	kept := []string{h.at("host-a", "notes.txt"), h.at("host-a", "lab-2.programs", "heliotrope-worker"), h.at("host-a", "lab-1.run", "witness-00001.1", "host.log"), h.at("host-b", "lab-1", "d.img")}
	for _, path := range kept {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("somebody's"), 0o600))
	}
	before := h.looks("host-a")
	removed := h.asked(t, 0, "remove")
	assert.Equal(t, []string{"host-a removed removed", "host-b removed removed", "store removed removed"}, removed.done())
	assert.Equal(t, 2, h.looks("host-a")-before, "it looks at each of the two programs once")
	assert.Equal(t, "not there", removed.Hosts[0].Programs[0].is())
	for host := range h.servers {
		assert.NoDirExists(t, h.at(host, "lab-1.programs"))
		assert.NoDirExists(t, h.at(host, "run", "heliotrope"), "the lease was given back")
	}
	for _, path := range kept {
		assert.FileExists(t, path)
	}
	for process, want := range map[record.Process]bool{own: false, others: true} {
		alive, err := process.Alive(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, alive, process.Dir)
	}
	assert.NoDirExists(t, own.Dir)
	assert.Equal(t, []string{"host-a nothing nothing", "host-b nothing nothing", "store nothing nothing"}, h.asked(t, 0, "remove").done())
}

// TestWorkerOfLeasedHosts: install and remove refuse a leased host and work on the others; install refuses nothing when it has
// nothing to change.
func TestWorkerOfLeasedHosts(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	h.asked(t, 0, "install")
	const holder = "campaign night of controller 1a2b3c4d"
	inv, err := inventory.Load(h.path)
	require.NoError(t, err)
	bed, err := h.connect(inv)
	require.NoError(t, err)
	defer bed.Close()
	leased := leaseOf(bed, inv.Machine("host-b"))
	require.Len(t, leased, 1)
	require.NoError(t, leased.Take(t.Context(), holder, owner.Lease))

	assert.Equal(t, holder, h.asked(t, 0, "status").Hosts[1].LeasedTo)
	assert.Equal(t, "host-b nothing nothing", h.asked(t, 0, "install").done()[1])
	require.NoError(t, os.WriteFile(h.witness, []byte("a newer witness"), 0o600))
	refused := h.asked(t, exitFailure, "install")
	assert.Equal(t, []string{"host-a nothing replaced", "host-b nothing nothing", "store nothing replaced"}, refused.done())
	require.Len(t, refused.Problems, 1)
	assert.Equal(t, "host-b", refused.Problems[0].Host)
	assert.Contains(t, refused.Problems[0].Found, "it is leased to "+holder+" until ")

	refused = h.asked(t, exitFailure, "remove")
	require.Len(t, refused.Problems, 1)
	assert.Empty(t, refused.Hosts[1].Programs, "a host that it may not touch is not looked at")
	assert.FileExists(t, h.at("host-b", "lab-1.programs", "heliotrope-witness"))
	assert.NoDirExists(t, h.at("host-a", "lab-1.programs"))
	code, stdout, stderr := h.run(t, "remove", h.path)
	assert.Equal(t, exitFailure, code)
	assert.Empty(t, stderr)
	assert.Contains(t, stdout, "\n1 problem, 0 warnings\n")

	require.NoError(t, leased.Release(t.Context(), holder))
	assert.Equal(t, "host-b removed removed", h.asked(t, 0, "remove").done()[1])
}

// TestWorkerBesideAnotherCommand: of two commands of one person at the same time, the second is refused and told which process
// has the host and what to do, and leaves that process its lease.
func TestWorkerBesideAnotherCommand(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	inv, err := inventory.Load(h.path)
	require.NoError(t, err)
	bed, err := h.connect(inv)
	require.NoError(t, err)
	defer bed.Close()
	leased := leaseOf(bed, inv.Machine("host-b"))
	for _, command := range []string{"install", "remove"} {
		other := owner.Command("worker "+command, me(), os.Getpid()+1)
		require.NoError(t, leased.Take(t.Context(), other, owner.Lease))
		refused := h.asked(t, exitFailure, command)
		require.Len(t, refused.Problems, 1, command)
		assert.Contains(t, refused.Problems[0].Found, "it is leased to "+other+" until ")
		assert.Contains(t, refused.Problems[0].Fix, "if it is dead, the host is free then", command)
		held, err := leased.State(t.Context())
		require.NoError(t, err)
		require.Len(t, held, 1)
		assert.Equal(t, other, held[0].Owner)
		require.NoError(t, leased.Release(t.Context(), other))
		assert.Empty(t, h.asked(t, 0, command).Problems, command)
	}
}

// TestWorkerOfHostsThatAreAway: each host that does not answer is a problem with a fix, and the others are done.
func TestWorkerOfHostsThatAreAway(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	h.servers["host-a"].RefuseLogins()
	h.servers["store"].ChangeHostKey(t)
	for _, step := range []struct{ command, is, done string }{
		{"status", "host-b, not there, not there", "host-b  "},
		{"install", "host-b, the same, the same", "host-b installed installed"},
		{"remove", "host-b, not there, not there", "host-b removed removed"},
	} {
		said := h.asked(t, exitFailure, step.command)
		assert.Equal(t, []string{step.is}, said.same(), step.command)
		assert.Equal(t, []string{step.done}, said.done(), step.command)
		require.Len(t, said.Problems, 2, step.command)
		for i, host := range []string{"host-a", "store"} {
			assert.Equal(t, host, said.Problems[i].Host)
			assert.NotEmpty(t, said.Problems[i].Fix)
		}
	}
	code, stdout, stderr := h.run(t, "status", h.path)
	assert.Equal(t, exitFailure, code)
	assert.Empty(t, stderr)
	assert.Contains(t, stdout, "\n2 problems, 0 warnings\n")
}

// TestWorkerOfLooseFolder: nothing is installed where everybody could exchange the program that root then starts.
func TestWorkerOfLooseFolder(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	require.NoError(t, os.Chmod(h.data["host-b"], 0o777))
	refused := h.asked(t, exitFailure, "install")
	assert.Equal(t, "host-a installed installed", refused.done()[0])
	require.Len(t, refused.Problems, 1)
	assert.Equal(t, "host-b", refused.Problems[0].Host)
	assert.Equal(t, h.data["host-b"], refused.Problems[0].Tried)
	assert.Contains(t, refused.Problems[0].Found, "everybody may write to it")
	assert.NoDirExists(t, h.at("host-b", "lab-1.programs"))
	assert.NoDirExists(t, h.at("host-b", "run", "heliotrope"), "the lease was given back")
}

func TestWorkerBadInput(t *testing.T) {
	h := newSSHHosts(t, t.TempDir())
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("version: 2\nnmae: x\n"), 0o600))
	for want, args := range map[string][]string{"accepts 1 arg(s)": {"install"}, "no such file": {"status", "none.yaml"}, "nmae": {"remove", broken}, "unknown flag": {"install", h.path, "--force"}} {
		code, stdout, stderr := h.run(t, args...)
		assert.Contains(t, stderr, want)
		assert.Empty(t, stdout, want)
		if want != "unknown flag" { // the flags' errors are bad input below the root only
			assert.Equal(t, exitBadInput, code, want)
		}
	}
	require.NoError(t, os.Remove(h.witness))
	code, _, stderr := h.run(t, "install", h.path)
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, h.witness+": no such file or directory; want it beside heliotrope")
	for host, server := range h.servers {
		assert.Zero(t, server.Attempts(), "%s was asked", host)
	}
}
