package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/proto"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/gate"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/workflows"
)

// Secrets that the test plants. They may be found only where they were planted.
const (
	plantedAPIKey   = "planted-api-key-5f1c"
	plantedVariable = "planted-variable-77aa"
	plantedFile     = "planted-file-1d0e"
	plantedComment  = "planted-comment-2b9e"
	plantedRemark   = "planted-remark-9c44"
	plantedWebhook  = "planted-webhook-0d3c"
	// markedName is no secret: the search must find it, to prove that it can find anything.
	markedName = "marked"
)

const passwordVariable = "HELIOTROPE_TEST_PLANTED"

// TestNoSecretIsLeftAnywhere plants secrets wherever one can stand: in Temporal's API key, in a vCenter's password in the
// environment and in a file, in an SSH key and its comment, in a comment of an inventory and in a webhook's address. It
// runs the real program with them: a simulated campaign with failures on a server behind TLS, and commands that fail on
// hosts and on a vCenter that refuse them. None of the secrets is in a workflow's history, the dataset, the state folder, the
// server's and the controller's logs and databases, what commands print, or the list of processes.
func TestNoSecretIsLeftAnywhere(t *testing.T) {
	useServer(t)
	folder := t.TempDir()
	hosts, keyText := plantInventory(t, folder)
	server := plantServer(t, filepath.Join(folder, "server"))
	told := plantHooks(t, filepath.Join(folder, "state"))
	s := &search{t: t, secrets: map[string]string{"Temporal's API key": plantedAPIKey, "a password in the environment": plantedVariable,
		"a password in a file": plantedFile, "a key": keyText, "a key's comment": plantedComment, "a comment in an inventory": plantedRemark,
		"a webhook's address": plantedWebhook}}

	stateDir, data := filepath.Join(folder, "state"), filepath.Join(folder, "data")
	t.Setenv(commandLineEnv, "1")
	t.Cleanup(func() {
		_, err := stopServe(context.Background(), stateDir, time.Minute)
		assert.NoError(t, err)
	})
	code, stdout, stderr := run(t, "temporal", "setup")
	require.Zero(t, code, stderr)
	s.look("temporal setup printed", []byte(stdout+stderr))
	require.NoError(t, startServe(t.Context(), stateDir, []string{ownProgram(t), "serve", "--state-dir", stateDir}))
	serving, err := runningServe(stateDir)
	require.NoError(t, err)
	connected, err := (&campaignCommand{stateDir: stateDir}).open(t.Context())
	require.NoError(t, err)
	defer connected.client.Close()
	connected.queue = controllerQueue(serving.Controller)
	runMarked(t, s, connected, hosts, data)

	for _, args := range [][]string{{"run", vsphereCampaign(t, hosts), "--data", filepath.Join(folder, "never"), "--detach", "--state-dir", stateDir},
		{"sweep", hosts}, {"validate", vsphereCampaign(t, hosts)}, {"status", "--state-dir", stateDir}, {"version", "--json"}} {
		_, stdout, stderr := run(t, args...)
		s.look(args[0]+" printed", []byte(stdout+stderr))
	}
	assert.Positive(t, told.Load(), "the webhook was called, and failed")

	histories := historiesOf(t, connected.client)
	s.must("the histories", histories)
	s.folder("the dataset", data)
	s.folder("the state folder", stateDir, hooksFile)
	s.folder("the server's folder", server)
	s.found(t, "the histories", "the dataset", "the state folder", "the server's folder", "the processes")
}

// TestNoSealingKeyIsLeftAnywhere: after a campaign, a key by which payloads are encrypted is only in its file, and the key that seals
// tasks is only in gate.key.
func TestNoSealingKeyIsLeftAnywhere(t *testing.T) {
	useServer(t)
	folder := t.TempDir()
	keys, stateDir, data := filepath.Join(folder, "keys"), filepath.Join(folder, "state"), filepath.Join(folder, "data")
	wantRun(t, 0, "is the newest of "+keys, "temporal", "codec-key", keys)
	text, err := os.ReadFile(keys)
	require.NoError(t, err)
	fields := strings.Fields(string(text))
	key := fields[len(fields)-1]
	raw, err := base64.StdEncoding.DecodeString(key)
	require.NoError(t, err)
	t.Setenv(temporal.CodecEnv, keys)
	startOwnServe(t, stateDir)
	gateKey, err := os.ReadFile(filepath.Join(stateDir, gateKeyFile))
	require.NoError(t, err)
	require.Len(t, gateKey, gate.KeyBytes)

	s := &search{t: t, secrets: map[string]string{"a key of payloads": key, "the bytes of a key of payloads": string(raw), "gate.key": string(gateKey)}}
	file := writeCampaign(t, strings.NewReplacer("NAME", markedName, "REPETITIONS", "1").Replace(simulatedSpec))
	for _, args := range [][]string{{"run", file, "--data", data, "--state-dir", stateDir}, {"status", "--state-dir", stateDir}, {"temporal", "codec-key", keys}} {
		code, stdout, stderr := run(t, args...)
		require.Zero(t, code, stderr)
		s.look(args[0]+" printed", []byte(stdout+stderr))
		s.look("the processes", commandLines(t))
	}
	s.folder("the dataset", data)
	s.folder("the state folder", stateDir, gateKeyFile)
	s.found(t, "run printed", "the dataset", "the state folder", "the processes")
}

// runMarked runs a simulated campaign whose lanes have the planted inventory, and some of whose migrations fail.
func runMarked(t *testing.T, s *search, connected *session, hosts, data string) {
	t.Helper()
	r, err := loadRequest(writeCampaign(t, strings.NewReplacer("NAME", markedName, "REPETITIONS", "1").Replace(simulatedSpec)), data)
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	for i := range input.Lanes {
		input.Lanes[i].Inventory, input.Lanes[i].Faults = hosts, json.RawMessage(`{"migration_fails": 0.5, "provision_fails": 0.5}`)
	}
	started, err := connected.client.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, connected.queue), workflows.CampaignName, input)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- started.Get(t.Context(), nil) }()
	require.NoError(t, poll.Until(t.Context(), 200*time.Millisecond, func(context.Context) (bool, error) {
		s.look("the processes", commandLines(t))
		select {
		case err := <-ended:
			return true, err
		default:
			return false, nil
		}
	}))
}

// search looks for secrets, and for what it must find.
type search struct {
	t       *testing.T
	secrets map[string]string
	marked  sync.Map // where markedName, or this program, was found
}

// look fails the test for each secret in a text that was found somewhere.
func (s *search) look(where string, text []byte) {
	for what, secret := range s.secrets {
		assert.False(s.t, bytes.Contains(text, []byte(secret)), "%s: %s is there", where, what)
	}
	if bytes.Contains(text, []byte(markedName)) || bytes.Contains(text, []byte("--state-dir")) {
		s.marked.Store(where, true)
	}
}

// must does the same for a text that must not be empty.
func (s *search) must(where string, text []byte) {
	require.NotEmpty(s.t, text, where)
	s.look(where, text)
}

// folder searches every file of a folder, and every text in its tables, except files with these
// names.
func (s *search) folder(where, folder string, but ...string) {
	require.NoError(s.t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || len(but) > 0 && entry.Name() == but[0] {
			return err
		}
		text, err := os.ReadFile(path)
		s.look(where, text)
		if filepath.Ext(path) == ".parquet" {
			s.look(where, textsOf(s.t, path))
		}
		return err
	}))
}

// found checks that the search has found what it must find.
func (s *search) found(t *testing.T, everywhere ...string) {
	t.Helper()
	for _, where := range everywhere {
		_, found := s.marked.Load(where)
		assert.True(t, found, "%s: not even the campaign's name was found, so that nothing else could be", where)
	}
}

// textsOf are the texts of a table, uncompressed.
func textsOf(t *testing.T, path string) []byte {
	t.Helper()
	in, err := file.OpenParquetFile(path, false)
	require.NoError(t, err)
	defer in.Close()
	reader, err := pqarrow.NewFileReader(in, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	require.NoError(t, err)
	table, err := reader.ReadTable(t.Context())
	require.NoError(t, err)
	defer table.Release()
	var texts bytes.Buffer
	for i := range int(table.NumCols()) {
		column := table.Column(i)
		if kind := column.DataType().ID(); kind != arrow.STRING && kind != arrow.DICTIONARY && kind != arrow.LIST {
			continue
		}
		for _, chunk := range column.Data().Chunks() {
			for row := range chunk.Len() {
				fmt.Fprintln(&texts, chunk.ValueStr(row))
			}
		}
	}
	return texts.Bytes()
}

// historiesOf are the events of every workflow of the namespace, as the server keeps them.
func historiesOf(t *testing.T, c client.Client) []byte {
	t.Helper()
	var all []byte
	page, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000})
	require.NoError(t, err)
	for _, execution := range page.GetExecutions() {
		events := c.GetWorkflowHistory(t.Context(), execution.GetExecution().GetWorkflowId(), execution.GetExecution().GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			require.NoError(t, err)
			all, err = proto.MarshalOptions{}.MarshalAppend(all, event)
			require.NoError(t, err)
		}
	}
	return all
}

// commandLines are the command lines of all processes of this machine, as every user sees
// them.
func commandLines(t *testing.T) (all []byte) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, name := range files {
		text, _ := os.ReadFile(name) // one that cannot be read has ended
		all = append(all, text...)
	}
	return all
}

// plantInventory writes an inventory whose machines and vCenter refuse us. It returns its path and a line of the key in it.
func plantInventory(t *testing.T, folder string) (path, keyText string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, plantedComment)
	require.NoError(t, err)
	key := pem.EncodeToMemory(block)
	refusing := remotetest.NewServer(t)
	refusing.RefuseLogins()
	text, err := os.ReadFile("../../internal/inventory/testdata/shellless.yaml")
	require.NoError(t, err)
	inventory := strings.NewReplacer("store.example.net:22", refusing.Address(), "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", refusing.Fingerprint(),
		"helper-a.example.net:22", "127.0.0.1:1", "helper-b.example.net:22", "127.0.0.1:2", "https://vcenter.example.org", refusingVCenter(t, folder, "vc-1", plantedFile)).Replace(string(text))
	inventory = strings.Replace(inventory, "password_from: file:keys/vcenter\n", "password_from: file:keys/vcenter\n    ca_file: vc-1.pem\n  - name: vc-2\n    url: "+refusingVCenter(t, folder, "vc-2", plantedVariable)+"\n"+
		"    user: heliotrope@vsphere.local\n    ca_file: vc-2.pem\n    password_from: env:"+passwordVariable+" # "+plantedRemark+"\n", 1)
	inventory = strings.Replace(inventory, "hypervisor: vsphere\n", "hypervisor: vsphere\nmode: agentless\n", 1) // so that no worker gets an API key
	second := strings.LastIndex(inventory, "name: vc-1\n      host: /DC/host/cluster/esx-b")
	require.Positive(t, second)
	inventory = inventory[:second] + strings.Replace(inventory[second:], "vc-1", "vc-2", 1)
	t.Setenv(passwordVariable, plantedVariable)
	path = filepath.Join(folder, "lab.yaml")
	require.NoError(t, os.Mkdir(filepath.Join(folder, "keys"), 0o700))
	for name, content := range map[string][]byte{path: []byte(inventory), filepath.Join(folder, "keys/id"): key, filepath.Join(folder, "keys/vcenter"): []byte(plantedFile + "\n")} {
		require.NoError(t, os.WriteFile(name, content, 0o600))
	}
	return path, strings.Split(string(key), "\n")[4] // the first lines of all keys are the same, followed by the public half
}

// refusingVCenter is a vCenter that accepts no password. It returns its URL, and writes NAME.pem, the authority of its certificate,
// into a folder. The test fails when nobody has sent it the password, because then there was nothing to find.
func refusingVCenter(t *testing.T, folder, name, password string) string {
	t.Helper()
	const (
		envelope = `<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>%s</soapenv:Body></soapenv:Envelope>`
		content  = `<RetrieveServiceContentResponse xmlns="urn:vim25"><returnval><rootFolder type="Folder">group-d1</rootFolder>` +
			`<propertyCollector type="PropertyCollector">propertyCollector</propertyCollector><about><name>vCenter</name><fullName>vCenter</fullName><vendor>test</vendor>` +
			`<version>7.0.3</version><build>1</build><osType>linux</osType><productLineId>vpx</productLineId><apiType>VirtualCenter</apiType><apiVersion>7.0.3.0</apiVersion></about>` +
			`<sessionManager type="SessionManager">SessionManager</sessionManager></returnval></RetrieveServiceContentResponse>`
		refusal = `<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>Cannot complete login due to an incorrect user name or password.</faultstring>` +
			`<detail><InvalidLoginFault xmlns="urn:vim25" xsi:type="InvalidLogin"></InvalidLoginFault></detail></soapenv:Fault>`
	)
	var shown atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body) // what is cut off is refused
		w.Header().Set("Content-Type", "text/xml")
		if bytes.Contains(text, []byte("RetrieveServiceContent")) {
			fmt.Fprintf(w, envelope, content)
			return
		}
		if bytes.Contains(text, []byte(password)) {
			shown.Store(true)
		}
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, envelope, refusal)
	}))
	t.Cleanup(func() {
		server.Close()
		assert.True(t, shown.Load(), "%s was shown no password", name)
	})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(folder, name+".pem"), authority, 0o600))
	return server.URL
}

// vsphereCampaign is a campaign on the hosts of an inventory.
func vsphereCampaign(t *testing.T, inventory string) string {
	t.Helper()
	return writeCampaign(t, "version: 1\nname: refused\nseed: 1\ntestbed: hosts\ninventories: ["+inventory+
		"]\nmatrix: {hypervisor: [vsphere], storage: [nfs], wan: [lan], access: [4k-mixed-random]}\nrepetitions: 1\n")
}

// plantServer runs Temporal's server in a folder, with TLS and an API key, and sets the environment to name
// it.
func plantServer(t *testing.T, folder string) string {
	t.Helper()
	settings, err := temporal.LoadSettings()
	require.NoError(t, err)
	settings.Address = anyPort
	server, err := temporal.Ensure(t.Context(), temporal.ServerOptions{Settings: settings, StateDir: folder, UIAddress: anyPort, Synchronous: "NORMAL", Log: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop(context.Background())) })
	address, authority := tlsFront(t, server.Settings.Address)
	t.Setenv("TEMPORAL_ADDRESS", address)
	t.Setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", authority)
	t.Setenv("TEMPORAL_API_KEY", plantedAPIKey)
	return folder
}

// plantHooks writes hooks that report everything to an address that fails, and counts the calls.
func plantHooks(t *testing.T, stateDir string) *atomic.Int64 {
	t.Helper()
	told := &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		told.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(server.Close)
	require.NoError(t, os.MkdirAll(stateDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stateDir, hooksFile), []byte("hooks:\n  - on: [trial-failed, campaign-ended]\n    webhook: "+server.URL+"/"+plantedWebhook+"\n"), 0o600))
	return told
}

// tlsFront accepts TLS connections in front of a server without TLS, and passes on their data. It returns its address, and
// the file with the authority of its certificate.
func tlsFront(t *testing.T, to string) (address, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	authority = filepath.Join(t.TempDir(), "authority.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600))
	listener, err := tls.Listen("tcp", anyPort, &tls.Config{NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { splice(ctx, in, to) })
		}
	})
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, listener.Close())
		running.Wait()
	})
	return listener.Addr().String(), authority
}

// splice passes on data in both directions, until one side or the context ends.
func splice(ctx context.Context, in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(ctx, func() {
		_ = in.Close()
		_ = out.Close()
	})()
	var back sync.WaitGroup
	back.Go(func() {
		defer end()
		_, _ = io.Copy(in, out)
	})
	_, _ = io.Copy(out, in)
	end()
	back.Wait()
}
