package vsphere

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"go.uber.org/goleak"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the simulator's
	if order := os.Getenv(killedVariable); order != "" {
		migrateUntilKilled(order)
	}
	goleak.VerifyTestMain(m)
}

const (
	account = "heliotrope@vsphere.local"
	secret  = "correct-horse"
)

// sim is govmomi's vCenter simulator behind a TLS server of ours, which can be stopped
// and started, and which can lose answers.
type sim struct {
	t        *testing.T
	model    *simulator.Model
	server   *httptest.Server
	address  string
	password string // the file's path
	at       inventory.VCenter
	a, b     *Host

	mu      sync.Mutex
	calls   map[string]int
	loses   string // the method whose answers are lost
	losing  func() // is called before one is
	ahead   func() // is called before the next call of aheadOf is answered
	aheadOf string
	proxy   int    // the status that a proxy gives in the place of those; 0 when the line breaks
	answers int    // a status that all calls get; 0 for the simulator's own
	refuses string // paths that begin so get the status 500; "" is none
	before  []string

	// files answers requests for files instead of the simulator, unless it returns
	// false.
	files func(w http.ResponseWriter, r *http.Request) bool
}

var soapMethod = regexp.MustCompile(`<(?:\w+:)?Body[^>]*><(?:\w+:)?(\w+)`)

// newSim starts a simulator with a cluster of two hosts behind a server. At the end it
// checks that nothing of ours is left there.
func newSim(t *testing.T) *sim {
	t.Helper()
	s := newModel(t)
	s.start()
	s.model.Map().OptionManager().UpdateOptions(&types.UpdateOptions{ChangedValue: []types.BaseOptionValue{
		&types.OptionValue{Key: "vcsim.server.url", Value: "https://" + s.address}}}) // where files are sent
	sum := sha256.Sum256(s.server.Certificate().Raw)
	s.hosts(inventory.VCenter{Name: "vc-1", URL: "https://" + s.address, User: account,
		PasswordFrom: inventory.PasswordFile + s.password, Thumbprint: thumbprint(sum[:])})
	return s
}

// making is locked while a simulator is made, because govmomi then sets variables that
// all of its models share.
var making sync.Mutex

// newModel makes only the simulator.
func newModel(t *testing.T) *sim {
	t.Helper()
	s := &sim{t: t, model: simulator.VPX(), calls: map[string]int{}, password: filepath.Join(t.TempDir(), "password")}
	s.model.Host, s.model.ClusterHost, s.model.Machine, s.model.Datastore, s.model.Portgroup, s.model.Autostart = 0, 2, 1, 2, 2, false
	making.Lock()
	err := s.model.Create()
	making.Unlock()
	require.NoError(t, err)
	t.Cleanup(s.model.Remove)
	s.model.Service.TLS = new(tls.Config)
	s.model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(account, secret)}
	first := s.model.Service.NewServer() // it makes the routes
	first.Close()
	for _, entity := range s.model.Map().All("HostSystem") {
		entity.(*simulator.HostSystem).Summary.Config.VmotionEnabled = true
	}
	s.template().MarkAsTemplate(nil)
	s.clocks(0, 0)
	s.model.Map().Handler = s.authenticated
	require.NoError(t, os.WriteFile(s.password, []byte(secret+"\n"), 0o600))
	s.before = s.inventory()
	return s
}

// hosts makes the drivers of the cluster's hosts.
func (s *sim) hosts(at inventory.VCenter) {
	s.at = at
	s.a, s.b = s.host("host-a", "DC0_C0_H0"), s.host("host-b", "DC0_C0_H1")
	s.t.Cleanup(s.clean)
}

// authenticated refuses reads without a session, as a real vCenter does.
func (s *sim) authenticated(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session == nil && strings.HasPrefix(method.Name, "RetrieveProperties") {
		return nil, &types.NotAuthenticated{}
	}
	return nil, nil
}

// start starts the server, at its former address if it had one.
func (s *sim) start() {
	s.t.Helper()
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if s.address != "" {
		require.NoError(s.t, s.server.Listener.Close())
		listener, err := net.Listen("tcp", s.address)
		require.NoError(s.t, err)
		s.server.Listener = listener
	}
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.server.StartTLS()
	s.address = s.server.Listener.Addr().String()
}

func (s *sim) stop() {
	s.server.CloseClientConnections()
	s.server.Close()
}

// serve counts a call and lets the simulator answer it.
func (s *sim) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	name := ""
	if found := soapMethod.FindSubmatch(body); found != nil {
		name = string(found[1])
	} else if strings.HasPrefix(r.URL.Path, "/folder/") {
		name = "folder"
	}
	s.mu.Lock()
	s.calls[name]++
	ahead := s.ahead
	if s.aheadOf != name {
		ahead = nil
	} else {
		s.ahead, s.aheadOf = nil, ""
	}
	loses, losing, proxy, answers, files := s.loses != "" && s.loses == name, s.losing, s.proxy, s.answers, s.files
	if s.refuses != "" && strings.HasPrefix(r.URL.Path, s.refuses) {
		answers = http.StatusInternalServerError
	}
	s.mu.Unlock()
	if ahead != nil {
		ahead()
	}
	if name == "folder" && files != nil && files(w, r) {
		return
	}
	if answers != 0 {
		w.WriteHeader(answers)
		return
	}
	if loses {
		s.model.Service.ServeMux.ServeHTTP(httptest.NewRecorder(), r)
		if losing != nil {
			losing()
		}
		if proxy == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(proxy)
		return
	}
	s.model.Service.ServeMux.ServeHTTP(w, r)
}

// set changes how the server answers.
func (s *sim) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// total counts all calls.
func (s *sim) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, calls := range s.calls {
		all += calls
	}
	return all
}

func (s *sim) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// host is the driver of a host of the cluster, in the test's one session.
func (s *sim) host(name, esx string) *Host {
	s.t.Helper()
	at := s.at
	h, err := New(hypervisor.Setup{Label: "lab", VCenter: &at, Machine: inventory.Machine{Name: name, VCenter: &inventory.Managed{
		VCenter: at.Name, Host: "/DC0/host/DC0_C0/" + esx, Datastores: map[string]string{"nfs": "/DC0/datastore/LocalDS_0"},
		Network: "/DC0/network/DC0_DVPG0", Folder: "/DC0/vm", Template: "/DC0/vm/DC0_C0_RP0_VM0"}}})
	require.NoError(s.t, err)
	return s.quick(h)
}

// quick makes a driver's vCenter wait less, and end its session at the end of the test.
func (s *sim) quick(h *Host) *Host {
	h.vcenter.awayPause, h.vcenter.idleLimit = 10*time.Millisecond, time.Hour
	s.t.Cleanup(h.vcenter.end)
	return h
}

// another is a driver as another process would have it: with a session of its own.
func (s *sim) another(h *Host) *Host {
	return s.quick(&Host{label: h.label, machine: h.machine, vcenter: newVCenter(h.vcenter.at)})
}

func (s *sim) thumbprintSHA1() string {
	sum := sha1.Sum(s.server.Certificate().Raw)
	return thumbprint(sum[:])
}

// certificate writes the server's certificate to a file, and returns its path.
func (s *sim) certificate() string {
	path := filepath.Join(s.t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	require.NoError(s.t, os.WriteFile(path, data, 0o600))
	return path
}

func (s *sim) template() *simulator.VirtualMachine {
	return s.model.Map().Any("VirtualMachine").(*simulator.VirtualMachine)
}

// inside is a client that uses no network and needs no session.
func (s *sim) inside() *vim25.Client {
	client, err := vim25.NewClient(context.Background(), s.model.Service)
	require.NoError(s.t, err)
	return client
}

// find finds a machine in the simulator by its name; nil when it is not there.
func (s *sim) find(name string) *simulator.VirtualMachine {
	for _, entity := range s.model.Map().All("VirtualMachine") {
		if entity.Entity().Name != name {
			continue
		}
		if slow, is := entity.(*slowMachine); is {
			return slow.VirtualMachine
		}
		return entity.(*simulator.VirtualMachine)
	}
	return nil
}

// ref finds an object in the simulator by its type and name.
func (s *sim) ref(kind, name string) types.ManagedObjectReference {
	for _, entity := range s.model.Map().All(kind) {
		if entity.Entity().Name == name {
			return entity.Reference()
		}
	}
	s.t.Fatalf("the simulator has no %s %s", kind, name)
	return types.ManagedObjectReference{}
}

// endSessions ends all sessions, as an administrator or a restart would.
func (s *sim) endSessions() {
	client := s.inside()
	for _, key := range s.openSessions() {
		_, err := methods.TerminateSession(context.Background(), client,
			&types.TerminateSession{This: *client.ServiceContent.SessionManager, SessionId: []string{key}})
		require.NoError(s.t, err)
	}
}

// openSessions lists the sessions that came over the network.
func (s *sim) openSessions() []string {
	client := s.inside()
	var manager mo.SessionManager
	require.NoError(s.t, read(context.Background(), client, *client.ServiceContent.SessionManager, &manager, "sessionList"))
	var keys []string
	for _, session := range manager.SessionList {
		if session.UserName == account {
			keys = append(keys, session.Key)
		}
	}
	return keys
}

// inventory lists everything that a test could leave behind; each thing must be the same
// before and after a test: machines and snapshots, datastores and where they are
// mounted, alarms, hosts' attributes, tasks that have not ended, iSCSI targets, our
// sessions.
func (s *sim) inventory() []string {
	var all []string
	add := func(parts ...string) { all = append(all, strings.Join(parts, " ")) }
	for _, kind := range []string{"VirtualMachine", "Datastore", "VirtualApp"} {
		for _, entity := range s.model.Map().All(kind) {
			add(kind, entity.Entity().Name)
			if store, is := entity.(*simulator.Datastore); is {
				for _, mounted := range store.Host {
					add(kind, store.Name, "on", mounted.Key.Value)
				}
			}
		}
	}
	for _, kind := range []string{"VirtualMachineSnapshot", "Alarm"} {
		for _, object := range s.model.Map().AllReference(kind) {
			add(kind, object.Reference().Value)
		}
	}
	for _, host := range s.model.Map().All("HostSystem") {
		for _, value := range host.Entity().CustomValue {
			if text := value.(*types.CustomFieldStringValue); text.Value != "" {
				add("attribute", host.Entity().Name, text.Value)
			}
		}
	}
	for _, task := range s.tasks() {
		add("Task", task.Name, string(task.State))
	}
	for _, system := range s.model.Map().AllReference("HostStorageSystem") {
		if wrapped, is := system.(*storageSystem); is {
			for _, target := range wrapped.targets() {
				add("iSCSI target", target)
			}
		}
	}
	for range s.openSessions() {
		add("session")
	}
	slices.Sort(all)
	return all
}

// tasks are the tasks that have not ended.
func (s *sim) tasks() []types.TaskInfo {
	var all []types.TaskInfo
	for _, task := range s.model.Map().AllReference("Task") {
		var info types.TaskInfo
		s.model.Map().WithLock(&simulator.Context{}, task, func() { info = task.(*simulator.Task).Info })
		if !hasEnded(info) {
			all = append(all, info)
		}
	}
	return all
}

// clean checks that everything is as it was before the test after our own teardown. Only
// this function checks that. It runs before the sessions are ended, and ends them
// itself.
func (s *sim) clean() {
	for _, h := range []*Host{s.a, s.b} {
		require.NoError(s.t, h.Teardown(context.Background()))
	}
	for _, h := range []*Host{s.a, s.b} {
		h.vcenter.end()
	}
	// The simulator deletes a machine's files in a task of its own, after ours.
	require.Eventually(s.t, func() bool { return len(s.tasks()) == 0 }, time.Minute, time.Millisecond)
	require.Equal(s.t, s.before, s.inventory())
	require.True(s.t, s.a.vcenter.places.TryAcquire(allPlaces), "a relocation has kept its place")
	s.a.vcenter.places.Release(allPlaces)
	if s.server != nil {
		s.stop()
	}
}

// guest is the machine under test.
var guest = hypervisor.Domain{Name: "lab.vm", MemoryMiB: 64, VCPUs: 1, MAC: "00:50:56:00:00:01",
	Disk: hypervisor.Disk{Datastore: "/DC0/datastore/LocalDS_0", SizeBytes: 64 << 20}}

// create makes the guest on host a.
func (s *sim) create() {
	s.t.Helper()
	require.NoError(s.t, s.a.Create(s.t.Context(), guest))
}

// order moves the guest from a to b.
func (s *sim) order() hypervisor.Order {
	return hypervisor.Order{Domain: guest, AtTarget: guest, Target: s.b}
}

// requireAt asks both hosts where the guest runs.
func (s *sim) requireAt(want *Host) {
	s.t.Helper()
	for _, h := range []*Host{s.a, s.b} {
		states, err := h.List(context.Background())
		require.NoError(s.t, err)
		if h != want {
			require.Empty(s.t, states, h.Host())
			continue
		}
		require.Equal(s.t, []hypervisor.State{{Name: guest.Name, Status: hypervisor.Running, MemoryMiB: guest.MemoryMiB}}, states, h.Host())
	}
}
