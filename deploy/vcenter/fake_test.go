package vcenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"go.uber.org/goleak"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/vsphere"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the simulator's
	goleak.VerifyTestMain(m)
}

// fake is a Guests that only records its calls.
type fake struct {
	usage
	mu   sync.Mutex
	did  []string
	disk []byte // what is on each disk
	// moves, when it is not nil, receives each move that has begun. The move then waits for its
	// answer or the end of its context.
	moves  chan *moving
	fails  error        // of all but moves
	free   int          // MiB of the hosts' memory
	found  chan finding // answers of Find about a guest whose place was unknown
	ahead  time.Duration
	unsure time.Duration // of ahead
	end    time.Time     // when a guest resumes; zero is stunEnd
	others []Stun        // stops beside the hand-over
}

// finding is the answer where a guest was found.
type finding struct {
	at  storage.Site
	err error
}

// moving is a move that waits.
type moving struct {
	percent func(int)
	end     chan error
}

func (f *fake) note(format string, values ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, fmt.Sprintf(format, values...))
	return f.fails
}

// told returns the calls since it was last called.
func (f *fake) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	did := f.did
	f.did = nil
	return did
}

func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = err
}

func (f *fake) Clear(context.Context) error { return f.note("clear") }

func (f *fake) Host(context.Context, storage.Site) (hypervisor.HostInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return hypervisor.HostInfo{Hypervisor: "kvm", Version: "9.0.0", CPUs: 1, MemoryMiB: 1024, FreeMemoryMiB: f.free}, f.fails
}

func (f *fake) Clock(context.Context, storage.Site) (clock.Offset, error) {
	return clock.Offset{Ahead: f.ahead, Uncertainty: f.unsure, At: time.Now()}, nil
}

func (f *fake) Start(_ context.Context, g Guest, at storage.Site) error {
	return f.note("start %d vCPUs and %d MiB %s with %d MiB in %s at %s", g.VCPUs, g.MemoryMiB, g.MAC, g.DiskBytes>>20, g.Store, at)
}

func (f *fake) Pause(_ context.Context, _ Guest, at storage.Site) error {
	return f.note("pause at %s", at)
}

func (f *fake) Resume(_ context.Context, _ Guest, at storage.Site) error {
	return f.note("resume at %s", at)
}

func (f *fake) Stop(context.Context, Guest) error { return f.note("stop") }

func (f *fake) Find(ctx context.Context, _ Guest, from storage.Site) (storage.Site, error) {
	select {
	case found := <-f.found:
		return found.at, found.err
	case <-ctx.Done():
		return from, context.Cause(ctx)
	}
}

func (f *fake) Carry(_ context.Context, _ Guest, from, to storage.Site) error {
	return f.note("carry from %s to %s", from, to)
}

func (f *fake) Remove(context.Context, Guest) error { return f.note("remove") }

// stunEnd is when a guest of the fake resumes.
var stunEnd = time.Date(2026, 11, 29, 10, 11, 12, 345_678_000, time.UTC)

func (f *fake) Move(ctx context.Context, g Guest, from, to storage.Site, percent func(int)) (storage.Site, []Stun, error) {
	if err := f.note("move in %s from %s to %s", g.Store, from, to); err != nil {
		return from, nil, err
	}
	if f.moves != nil {
		m := &moving{percent: percent, end: make(chan error)}
		f.moves <- m
		select {
		case err := <-m.end:
			if err != nil {
				return from, append(f.others, Stun{Site: from, End: stunEnd, Length: time.Second}), err
			}
		case <-ctx.Done():
			return from, nil, context.Cause(ctx)
		}
	}
	end := f.end
	if end.IsZero() {
		end = stunEnd
	}
	return to, append(f.others, Stun{Site: to, End: end, Length: 123_456 * time.Microsecond, Uncertainty: 789 * time.Microsecond}), nil
}

func (f *fake) Read(_ context.Context, _ Guest, at storage.Site, offset int64) (io.ReadCloser, error) {
	if err := f.note("read at %s from %d", at, offset); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(f.disk[offset:])), nil
}

// world is a vCenter with the fake behind it, and a client that has logged in.
type world struct {
	t           *testing.T
	fake        *fake // nil where the guests are real
	center      *VCenter
	address     string
	credentials Credentials
	dir         string
	client      *govmomi.Client
	finder      *find.Finder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	f := &fake{free: 700, found: make(chan finding)}
	w := newWorldOf(t, f)
	w.fake = f
	require.Equal(t, []string{"clear"}, f.told(), "no guest of a vCenter before this one runs")
	return w
}

func newWorldOf(t *testing.T, guests Guests) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	var err error
	w.credentials, err = OpenCredentials(w.dir)
	require.NoError(t, err)
	w.center, err = New(t.Context(), Config{Dir: w.dir, Guests: guests, Hosts: map[storage.Site]Host{
		storage.SiteA: {Name: "host-a", Address: netip.MustParseAddr("198.18.0.1")},
		storage.SiteB: {Name: "host-b", Address: netip.MustParseAddr("198.18.0.2")},
	}})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.address = listener.Addr().String()
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.center.Serve(serving, listener, w.credentials) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		w.center.Close()
	})
	w.client = w.login(w.credentials.Password)
	w.finder = find.NewFinder(w.client.Client)
	return w
}

// connect returns a client that has not logged in.
func (w *world) connect() *govmomi.Client {
	w.t.Helper()
	client, err := w.dial(nil)
	require.NoError(w.t, err)
	return client
}

func (w *world) dial(user *url.Userinfo) (*govmomi.Client, error) {
	plain := soap.NewClient(&url.URL{Scheme: "https", Host: w.address, Path: "/sdk"}, false)
	require.NoError(w.t, plain.SetRootCAs(filepath.Join(w.dir, place.Certificate)))
	client, err := vim25.NewClient(context.Background(), plain)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(client.CloseIdleConnections)
	all := &govmomi.Client{Client: client, SessionManager: session.NewManager(client)}
	if user != nil {
		err = all.Login(context.Background(), user)
	}
	return all, err
}

func (w *world) login(password string) *govmomi.Client {
	w.t.Helper()
	client, err := w.dial(url.UserPassword(place.User, password))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = client.Logout(context.Background()) })
	return client
}

// driver returns the driver of one of the vCenter's hosts.
func (w *world) driver(name string, datastores map[string]string) *vsphere.Host {
	w.t.Helper()
	at := inventory.VCenter{Name: "lab", URL: "https://" + w.address, User: place.User,
		PasswordFrom: inventory.PasswordFile + filepath.Join(w.dir, place.Password), CAFile: filepath.Join(w.dir, place.Certificate)}
	host, err := vsphere.New(hypervisor.Setup{Label: "lab", VCenter: &at, Machine: inventory.Machine{Name: name, VCenter: &inventory.Managed{
		VCenter: at.Name, Host: place.Host(name), Datastores: datastores, Network: place.Network, Folder: place.Folder, Template: place.Template}}})
	require.NoError(w.t, err)
	return host
}

// clone clones the template into a datastore on a host, with a data disk.
func (w *world) clone(host, datastore string) *object.VirtualMachine {
	w.t.Helper()
	ctx := w.t.Context()
	template, err := w.finder.VirtualMachine(ctx, place.Template)
	require.NoError(w.t, err)
	folder, err := w.finder.Folder(ctx, place.Folder)
	require.NoError(w.t, err)
	task, err := template.Clone(ctx, folder, "lab.vm", w.spec(template, host, datastore))
	require.NoError(w.t, err)
	info, err := task.WaitForResult(ctx, nil)
	require.NoError(w.t, err)
	return object.NewVirtualMachine(w.client.Client, info.Result.(types.ManagedObjectReference))
}

func (w *world) spec(template *object.VirtualMachine, host, datastore string) types.VirtualMachineCloneSpec {
	w.t.Helper()
	ctx := w.t.Context()
	devices, err := template.Device(ctx)
	require.NoError(w.t, err)
	controller, err := devices.FindDiskController("")
	require.NoError(w.t, err)
	disk := devices.CreateDisk(controller, types.ManagedObjectReference{}, "")
	disk.CapacityInBytes, disk.CapacityInKB = 32<<20, 32<<10
	added, err := object.VirtualDeviceList{disk}.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	require.NoError(w.t, err)
	location := w.location(host, datastore)
	pool, err := w.finder.ResourcePool(ctx, place.Cluster+"/Resources")
	require.NoError(w.t, err)
	ref := pool.Reference()
	location.Pool = &ref
	return types.VirtualMachineCloneSpec{Location: location, Config: &types.VirtualMachineConfigSpec{NumCPUs: 2, MemoryMB: 128, DeviceChange: added}}
}

// location returns a relocation to a host, by its name, and a datastore; each may be "".
func (w *world) location(host, datastore string) (spec types.VirtualMachineRelocateSpec) {
	w.t.Helper()
	if host != "" {
		found, err := w.finder.HostSystem(w.t.Context(), place.Host(host))
		require.NoError(w.t, err)
		ref := found.Reference()
		spec.Host = &ref
	}
	if datastore != "" {
		found, err := w.finder.Datastore(w.t.Context(), place.Datastore(datastore))
		require.NoError(w.t, err)
		ref := found.Reference()
		spec.Datastore = &ref
	}
	return spec
}

// powerOn starts a clone.
func (w *world) powerOn(vm *object.VirtualMachine) {
	w.t.Helper()
	w.do(vm.PowerOn(w.t.Context()))
}

// do waits for the end of a task that must succeed.
func (w *world) do(task *object.Task, err error) {
	w.t.Helper()
	require.NoError(w.t, err)
	require.NoError(w.t, task.Wait(w.t.Context()))
}

// fault waits for the end of a task that must fail, and returns its fault.
func (w *world) fault(task *object.Task, err error) types.BaseMethodFault {
	w.t.Helper()
	require.NoError(w.t, err)
	err = task.Wait(w.t.Context())
	var failed interface{ Fault() types.BaseMethodFault }
	require.ErrorAs(w.t, err, &failed)
	return failed.Fault()
}

func (w *world) relocate(vm *object.VirtualMachine, spec types.VirtualMachineRelocateSpec) (*object.Task, error) {
	return vm.Relocate(w.t.Context(), spec, types.VirtualMachineMovePriorityHighPriority)
}

// underWay begins a machine's relocation to a host; the migration behind the task waits for the
// test.
func (w *world) underWay(vm *object.VirtualMachine, host string) (*object.Task, *moving) {
	w.t.Helper()
	w.fake.moves = make(chan *moving, 1)
	task, err := w.relocate(vm, w.location(host, ""))
	require.NoError(w.t, err)
	return task, <-w.fake.moves
}

// get reads a file through the datastores' file API.
func (w *world) get(client *govmomi.Client, datastore, file string, header ...string) (int, []byte) {
	w.t.Helper()
	at := object.NewDatastoreURL(url.URL{Scheme: "https", Host: w.address}, place.Datacenter, datastore, file)
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, at.String(), nil)
	require.NoError(w.t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	var status int
	var body []byte
	err = client.Client.Client.Do(w.t.Context(), request, func(response *http.Response) error {
		status = response.StatusCode
		body, err = io.ReadAll(response.Body)
		return err
	})
	require.NoError(w.t, err)
	return status, body
}

// files lists the files in a machine's folder of a datastore.
func (w *world) files(datastore, folder string) []string {
	entries, err := os.ReadDir(w.center.path(object.DatastorePath{Datastore: datastore, Path: folder}))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(w.t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// events returns the types of a machine's events, the oldest first.
func (w *world) events(vm *object.VirtualMachine) []string {
	w.t.Helper()
	all, err := event.NewManager(w.client.Client).QueryEvents(w.t.Context(), types.EventFilterSpec{
		Entity: &types.EventFilterSpecByEntity{Entity: vm.Reference(), Recursion: types.EventFilterSpecRecursionOptionSelf}})
	require.NoError(w.t, err)
	var names []string
	for _, one := range all {
		names = append(names, strings.TrimPrefix(fmt.Sprintf("%T", one), "*types."))
	}
	slices.Reverse(names)
	return names
}
