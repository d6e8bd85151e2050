package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"heliotrope/internal/freeport"
	"heliotrope/internal/ledger"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/wan/probe"
	"heliotrope/internal/wan/throughput"
	"heliotrope/internal/witness"
)

// TestMain runs the program itself when the test's program is called by its name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == witness.Program {
		main()
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program is a path by which the test's program becomes the program.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	path := filepath.Join(t.TempDir(), witness.Program)
	must(t, os.Symlink(self, path))
	return path
}

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitBadInput, "no command"},
		{[]string{"watch"}, exitBadInput, `unknown command "watch"`},
		{[]string{"help"}, 0, ""},
		{[]string{"version"}, 0, ""},
		{[]string{"version", "-v"}, exitBadInput, "want 0 arguments, not 1"},
		{[]string{"host"}, exitBadInput, "want 1 arguments, not 0"},
		{[]string{"host", ""}, exitBadInput, "config"},
		{[]string{"host", "[]"}, exitBadInput, "config"},
		{[]string{"host", `{"device":{}}`}, exitBadInput, "device"},
		{[]string{"host", `{} {}`}, exitBadInput, "more than one value"},
		{[]string{"host", `{"sources":[{"role":"wan","reader":"interface","device":"a b"}]}`}, exitBadInput, "network interface"},
		{[]string{"host", `{"sources":[{"role":"wan","reader":"interface","device":"lo"}],"classes":[{"name":"nfs","protocol":"tcp"}]}`}, exitFailure, "bridge"},
		{[]string{"host", `{"sources":[{"role":"wan","reader":"nobody","device":"lo"}]}`}, exitBadInput, `no reader "nobody"`},
		{[]string{"host", `{"watcher":"nobody","domain":"6f1dbb0e-2a9c-5c0b-9b5e-5b1f7f1d4c11"}`}, exitBadInput, `watcher "nobody"`},
		{[]string{"guest", "{}"}, exitBadInput, "two addresses"},
		{[]string{"load", "{}"}, exitBadInput, "want a budget"},
		{[]string{"load", `{"Access":{"engine":"fio"}}`}, exitBadInput, "for engine fio"},
		{[]string{"load", `{"device":"/dev/sda"}`}, exitBadInput, "device"},
		{[]string{"load", `{"access":{"name":"x","engine":"heliotrope","lines":[{"size_bytes":512,"share_percent":100}]},"targets":[{"device":"/no/such/disk","sizebytes":4096}],"budget":{"keepbytes":1}}`},
			exitBadInput, "/no/such/disk"},
		{[]string{"fill", "/no/such/disk", "0", "-1", "1"}, exitBadInput, "TO"},
		{[]string{"fill", "/no/such/disk", "0", "4096", "1"}, exitFailure, "/no/such/disk"},
		{[]string{"ledger", "/dev/null", `{"offset":0}`, "1"}, exitBadInput, "region"},
		{[]string{"ledger", "/dev/null", `{"offset_bytes":0,"size_bytes":4096,"seed":"1"}`, "-1"}, exitBadInput, "number of a record"},
		{[]string{"ledger", "/no/such/disk", `{"offset_bytes":0,"size_bytes":4096,"seed":"1"}`, "1"}, exitFailure, "/no/such/disk"},
		{[]string{"receive", "here"}, exitBadInput, "IP address and a port"},
		{[]string{"send", "127.0.0.1:1", "NaN", "1"}, exitBadInput, "seconds"},
		{[]string{"send", "127.0.0.1:1", "1", "0"}, exitBadInput, "bytes"},
		{[]string{"probe-send", "nowhere", "{}"}, exitBadInput, "want an IP address"},
		{[]string{"probe-send", "127.0.0.1:1", `{"tokens":"1"}`}, exitBadInput, "unknown field"},
		{[]string{"probe-receive", "127.0.0.1:1", `{"token":"1"}`}, exitBadInput, "a probe of 0 loads"},
	} {
		t.Chdir(t.TempDir()) // so that nothing of the previous one is there
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), test.args, &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.says) {
			t.Errorf("%q: code %d, %q; want %d, %q", test.args, code, stderr.String(), test.code, test.says)
		}
		// Its caller sees the last lines of output: they must have the error, and not the
		// usage.
		misused := strings.Contains(test.says, "command") || strings.Contains(test.says, "arguments")
		if lines := strings.Count(stderr.String(), "\n"); misused != strings.Contains(stderr.String(), "usage:") || !misused && lines > 1 {
			t.Errorf("%q: code %d with %q", test.args, code, stderr.String())
		}
	}
}

// start starts a recording and waits until it has made steps.
func start(t *testing.T, recording record.Recording, steps int64) {
	t.Helper()
	t.Cleanup(func() { must(t, recording.Remove(context.Background())) })
	must(t, recording.Start(t.Context()))
	must(t, recording.Start(t.Context())) // it is running already
	for {
		progress, err := recording.Progress(t.Context())
		must(t, err)
		if !progress.Running {
			t.Fatalf("it ended: %s", progress.Problem)
		}
		if progress.Steps >= steps {
			return
		}
	}
}

func stop(t *testing.T, recording record.Recording) {
	t.Helper()
	must(t, recording.Stop(t.Context()))
	must(t, recording.Stop(t.Context()))
	progress, err := recording.Progress(t.Context())
	must(t, err)
	if progress.Running || progress.Problem != "" {
		t.Errorf("after Stop: %+v", progress)
	}
}

// TestHostAndGuest lets a host's and a guest's program talk to each other on this machine,
// started as for a trial.
func TestHostAndGuest(t *testing.T) {
	port := freeport.Loopback(t).Port()
	hostAddress, guestAddress := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)
	here, path := remote.Local("here"), program(t)
	hostFolder, guestFolder := filepath.Join(t.TempDir(), "above", "host"), filepath.Join(t.TempDir(), "above", "guest")
	host, err := witness.NewHost(here, path, hostFolder, witness.HostConfig{
		Sources: []witness.Source{
			{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: "/dev/no-such-disk"},
			{Role: witness.TestNet, Reader: witness.InterfaceReader, Device: "lo"}},
		Listen: hostAddress, Guest: guestAddress, Token: math.MaxUint64})
	must(t, err)
	guest, err := witness.NewGuest(here, path, guestFolder, witness.GuestConfig{
		Listen: guestAddress, SiteA: hostAddress, Token: math.MaxUint64})
	must(t, err)
	start(t, host, 1)
	start(t, guest, 100)
	start(t, host, 4)
	for folder, least := range map[string]int64{hostFolder: 4, guestFolder: 100} {
		started := witness.Started(here, folder, folder == guestFolder)
		progress, err := started.Progress(t.Context())
		must(t, err)
		if !progress.Running || progress.Steps < least {
			t.Errorf("%s by its folder alone: %+v, want at least %d steps", folder, progress, least)
		}
		if err := started.Start(t.Context()); err == nil {
			t.Errorf("%s was started, without what it is to watch", folder)
		}
	}
	stop(t, guest)
	stop(t, host)

	if files, err := guest.Fetch(t.Context(), t.TempDir(), nil); err != nil || len(files) != 0 {
		t.Errorf("the guest left %v, %v", files, err)
	}
	folder := t.TempDir()
	files, err := host.Fetch(t.Context(), folder, nil)
	must(t, err)
	if len(files) != 3 {
		t.Errorf("fetched %v", files)
	}
	devices := map[string]int{}
	must(t, witness.ReadCounters(open(t, folder, witness.CountersFile), func(r witness.Reading) error {
		devices[r.Device]++
		return nil
	}))
	if len(devices) != 4 || devices[witness.Clock] == 0 || devices[witness.CPU] == 0 || devices[witness.Memory] == 0 || devices[witness.TestNet] == 0 {
		t.Errorf("counters of %v", devices)
	}
	var sequence []uint64
	must(t, witness.ReadHeartbeats(open(t, folder, witness.HeartbeatsFile), func(h witness.Heartbeat) error {
		sequence = append(sequence, h.Sequence)
		return nil
	}))
	if len(sequence) < 100 || !slices.IsSorted(sequence) || sequence[0] != 1 {
		t.Errorf("%d heartbeats: %v", len(sequence), sequence)
	}
	exchanges := 0
	must(t, witness.ReadExchanges(open(t, folder, witness.ExchangesFile), func(e witness.Exchange) error {
		if e.Ahead.Abs() > e.Uncertainty { // both read the same clock
			t.Errorf("the same clock is ahead by %s ± %s", e.Ahead, e.Uncertainty)
		}
		exchanges++
		return nil
	}))
	if exchanges == 0 {
		t.Error("the guest told no time")
	}
}

func open(t *testing.T, folder, name string) io.Reader {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, name))
	must(t, err)
	t.Cleanup(func() { must(t, file.Close()) })
	return file
}

// TestLogOfTheLoad sends blocks to a host's program, which writes them to a file.
func TestLogOfTheLoad(t *testing.T) {
	address := netip.MustParseAddr("127.0.0.1")
	at := netip.AddrPortFrom(address, freeport.Loopback(t).Port())
	host, err := witness.NewHost(remote.Local("here"), program(t), filepath.Join(t.TempDir(), "above", "host"), witness.HostConfig{
		Listen: netip.AddrPortFrom(address, freeport.Loopback(t).Port()), Guest: netip.AddrPortFrom(address, freeport.Loopback(t).Port()), Token: 7, LogListen: at})
	must(t, err)
	start(t, host, 1)

	access := spec.Access{Name: "one", Lines: []spec.Line{{SizeBytes: 512, SharePercent: 100}}}
	targets := []spec.Target{{SizeBytes: 1 << 20}}
	hash, err := iolog.ConfigHash(access, targets, 1)
	must(t, err)
	sequence, err := spec.NewSequence(access, targets, 0, 1)
	must(t, err)
	store := iolog.NewStore(iolog.Budget{})
	writer := iolog.NewWriter(iolog.Header{Token: 7, Config: hash, Workers: 1}, sequence, iolog.Stamp{WallNs: 1}, store)
	sequence.Next()
	writer.Submitted(iolog.Stamp{WallNs: 1000, MonoNs: 999})
	writer.Completed(0, 0, iolog.Stamp{WallNs: 2000, MonoNs: 1999})
	must(t, writer.Close(iolog.Stamp{WallNs: 3000, MonoNs: 2999}))
	ctx, end := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- store.Send(ctx, func() netip.AddrPort { return at }) }()
	for left := int64(1); left > 0; {
		left, err = store.WriteTo(io.Discard)
		must(t, err)
	}
	end()
	must(t, <-sent)
	stop(t, host)

	folder := t.TempDir()
	_, err = host.Fetch(t.Context(), folder, nil)
	must(t, err)
	account, err := iolog.Read([]io.Reader{open(t, folder, witness.LogFile)},
		iolog.Replay{Access: access, Targets: targets, Seed: 1, Token: 7}, func(iolog.Entry) error { return nil })
	must(t, err)
	if account.IOs != 1 || len(account.Missing) > 0 {
		t.Errorf("read %+v", account)
	}
}

// TestAPartThatFails: the whole program ends, and says why.
func TestAPartThatFails(t *testing.T) {
	notOurs := netip.MustParseAddrPort("192.0.2.1:17190") // RFC 5737
	config, err := json.Marshal(witness.HostConfig{Listen: notOurs, Guest: notOurs})
	must(t, err)
	process := record.Process{Host: remote.Local("here"), Dir: filepath.Join(t.TempDir(), "above", "host")}
	t.Cleanup(func() { must(t, process.Remove(context.Background())) })
	_ = process.Start(t.Context(), program(t), "host", string(config)) // it may end before or after Start looks
	for {
		status, err := process.Status(t.Context())
		must(t, err)
		if status.State == record.Running {
			continue
		}
		if status.State != record.Ended || !strings.Contains(status.Problem(), notOurs.String()) {
			t.Errorf("status %+v, want the end with its reason", status)
		}
		return
	}
}

// TestFilesAreNotOverwritten: a second program in the same folder is an error.
func TestFilesAreNotOverwritten(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.WriteFile(witness.CountersFile, []byte("kept"), 0o644))
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"host", "{}"}, io.Discard, &stderr); code != exitFailure {
		t.Errorf("code %d, %s", code, &stderr)
	}
	text, err := os.ReadFile(witness.CountersFile)
	must(t, err)
	if string(text) != "kept" {
		t.Errorf("the file is now %q", text)
	}
}

func TestLedgerReport(t *testing.T) {
	region := ledger.Region{SizeBytes: 4 * ledger.RecordBytes, Seed: math.MaxUint64}
	text, err := json.Marshal(region)
	must(t, err)
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, make([]byte, region.SizeBytes), 0o644))
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"ledger", disk, string(text), "3"}, &stdout, &stderr)
	if strings.Contains(stderr.String(), "invalid argument") {
		t.Fatal("no direct I/O in the folder for temporary files; set TMPDIR to one that has: ", stderr.String())
	}
	var report ledger.Report
	must(t, json.Unmarshal(stdout.Bytes(), &report))
	if code != 0 || report.Acked != 3 || report.LostCount != 3 {
		t.Errorf("code %d, %s: %+v", code, &stderr, report)
	}
}

func TestSendAndReceive(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	reader, writer := io.Pipe()
	var problem bytes.Buffer
	received := make(chan int, 1)
	go func() {
		received <- run(t.Context(), []string{"receive", address}, writer, &problem)
		_ = writer.Close()
	}()
	output := bufio.NewReader(reader)
	if line, err := output.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v, %s", line, err, &problem)
	}
	var sent, stderr bytes.Buffer
	if code := run(t.Context(), []string{"send", address, "0.2", "100000000"}, &sent, &stderr); code != 0 {
		t.Fatalf("send: code %d, %s", code, &stderr)
	}
	text, err := io.ReadAll(output)
	must(t, err)
	var result, told throughput.Result
	must(t, json.Unmarshal(text, &result))
	must(t, json.Unmarshal(sent.Bytes(), &told))
	if code := <-received; code != 0 || result != told || result.Bytes == 0 {
		t.Errorf("receive: code %d, %+v; the sender was told %+v", code, result, told)
	}
}

func TestProbe(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	address := socket.LocalAddr().String()
	must(t, socket.Close())
	const plan = `{"token":"7","loads":[{"datagrams":50,"rate_bits":20000000}],"pause_ns":1000000}`
	reader, writer := io.Pipe()
	var problem bytes.Buffer
	received := make(chan int, 1)
	go func() {
		received <- run(t.Context(), []string{"probe-receive", address, plan}, writer, &problem)
		_ = writer.Close()
	}()
	output := bufio.NewReader(reader)
	if line, err := output.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v, %s", line, err, &problem)
	}
	var sent, stderr bytes.Buffer
	if code := run(t.Context(), []string{"probe-send", address, plan}, &sent, &stderr); code != 0 || sent.Len() > 0 {
		t.Fatalf("probe-send: code %d, %s%s", code, &stderr, &sent)
	}
	text, err := io.ReadAll(output)
	must(t, err)
	var results []probe.Result
	must(t, json.Unmarshal(text, &results))
	if code := <-received; code != 0 || len(results) != 1 || results[0].Received != 50 {
		t.Errorf("probe-receive: code %d, %+v", code, results)
	}
}
