package vsphere

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
)

const (
	// callTimeout limits one call; none of our calls waits for work.
	callTimeout = 2 * time.Minute
	// awayLimit is how long a vCenter may be away before that is an error: it takes
	// some 10 minutes to start.
	awayLimit = 20 * time.Minute
	// awayPause is the pause between two calls to a vCenter that is away.
	awayPause = 2 * time.Second
	// lateLimit is how long to look for a relocation whose answer was lost: vCenter may
	// list a task some time after it has accepted it. The value was chosen, not
	// measured.
	lateLimit = 30 * time.Second
	// idleLimit is how long an unused session is kept.
	idleLimit = time.Minute
	// logoutLimit is how long ending a session may take.
	logoutLimit = 10 * time.Second
	// callsPerSecond and burst limit all calls of a controller to one vCenter. While
	// nothing changes, a driver calls far less often: see pollSlow.
	callsPerSecond, burst = 50, 100
)

// userAgent is the name under which vCenter lists our sessions.
const userAgent = "Heliotrope"

// vcenter is the one session that a controller has with a vCenter. It is a
// soap.RoundTripper that paces calls, waits while the vCenter is away, and logs in
// again when the session has ended.
type vcenter struct {
	at        inventory.VCenter
	limiter   *rate.Limiter
	places    *semaphore.Weighted // of relocations
	templates *semaphore.Weighted // held by whoever makes or removes a template: both sites' hosts name the same one
	awayLimit time.Duration
	awayPause time.Duration
	lateLimit time.Duration
	idleLimit time.Duration

	// turn is held while connecting, logging in or ending the session.
	turn chan struct{}

	mu     sync.Mutex // guards the following fields
	users  int
	idle   *time.Timer
	client *vim25.Client // nil before the first call
	logins int           // the number of log-ins so far; 0 means that no session is open
	field  *int32        // the key of our custom attribute, for as long as the session lasts
	// refused is the SHA-256 of the last password that vCenter refused, and refusedAt
	// is when it did.
	refused   [sha256.Size]byte
	refusedAt time.Time
	shown     string // the SHA-1 thumbprint of the last certificate that it showed
}

// refusedFor is how long a wrong password is not tried again: after that somebody may
// have given the account that password.
const refusedFor = 10 * time.Minute

var _ soap.RoundTripper = (*vcenter)(nil)

// shared are the vCenters that drivers of this process use. Two hosts of one vCenter
// share one session and one pace.
var shared = struct {
	sync.Mutex
	all map[inventory.VCenter]*vcenter
}{all: map[inventory.VCenter]*vcenter{}}

// share returns the vCenter that an inventory describes.
func share(at inventory.VCenter) *vcenter {
	shared.Lock()
	defer shared.Unlock()
	v := shared.all[at]
	if v == nil {
		v = newVCenter(at)
		shared.all[at] = v
	}
	return v
}

func newVCenter(at inventory.VCenter) *vcenter {
	common := limitsOf(at.URL)
	return &vcenter{at: at, limiter: common.pace, places: common.places, templates: semaphore.NewWeighted(1), turn: make(chan struct{}, 1),
		awayLimit: awayLimit, awayPause: awayPause, lateLimit: lateLimit, idleLimit: idleLimit}
}

// failed adds the vCenter and what was tried to an error; nil stays nil. An error that
// has a class keeps it.
func (v *vcenter) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fault.As(classOf(err), fmt.Errorf("vCenter %s: %s: %w", v.at.Name, what, err))
}

// use keeps the session open until the returned function is called, and idleLimit
// longer.
func (v *vcenter) use() (release func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.users++
	if v.idle != nil {
		v.idle.Stop()
	}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.users--
		if v.users == 0 {
			v.idle = time.AfterFunc(v.idleLimit, v.end)
		}
	}
}

// lockTemplates waits until no other host of this process makes or removes a template.
func (v *vcenter) lockTemplates(ctx context.Context) (release func(), err error) {
	if err := v.templates.Acquire(ctx, 1); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return func() { v.templates.Release(1) }, nil
}

// take waits for the turn. The returned function gives it back.
func (v *vcenter) take(ctx context.Context) (giveBack func(), err error) {
	select {
	case v.turn <- struct{}{}:
		return func() { <-v.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// end ends the session unless somebody uses it. A session that cannot be ended ends by
// itself: vCenter's limit is half an hour without a call.
func (v *vcenter) end() {
	ctx, cancel := context.WithTimeout(context.Background(), logoutLimit)
	defer cancel()
	giveBack, err := v.take(ctx)
	if err != nil {
		return
	}
	defer giveBack()
	v.mu.Lock()
	if v.users > 0 || v.client == nil {
		v.mu.Unlock()
		return
	}
	client, open := v.client, v.logins > 0
	v.client, v.logins, v.field = nil, 0, nil
	v.mu.Unlock()
	if open {
		var res methods.LogoutBody
		_ = client.Client.RoundTrip(ctx, &methods.LogoutBody{Req: &types.Logout{This: *client.ServiceContent.SessionManager}}, &res)
	}
	client.CloseIdleConnections()
}

// session returns the client, and the number of the last log-in.
func (v *vcenter) session() (client *vim25.Client, login int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.client, v.logins
}

// connect returns a client of the vCenter, and logs in if no session is open. The
// vCenter must be in use.
func (v *vcenter) connect(ctx context.Context) (*vim25.Client, error) {
	giveBack, err := v.take(ctx)
	if err != nil {
		return nil, err
	}
	defer giveBack()
	client, login := v.session()
	if client == nil {
		if client, err = v.reach(ctx); err != nil {
			return nil, v.failed("connect to "+v.at.URL, err)
		}
		v.mu.Lock()
		v.client = client
		v.mu.Unlock()
	}
	if login > 0 {
		return client, nil
	}
	return client, v.logIn(ctx, client)
}

// reach connects to the vCenter and finds out what it is.
func (v *vcenter) reach(ctx context.Context) (*vim25.Client, error) {
	at, err := soap.ParseURL(v.at.URL)
	if err != nil {
		return nil, fault.As(fault.BadInput, err)
	}
	config, err := tlsConfig(v.at)
	if err != nil {
		return nil, err
	}
	config.VerifyConnection = v.remembering(config.VerifyConnection)
	plain := soap.NewClient(at, false)
	plain.UserAgent, plain.Timeout = userAgent, callTimeout
	transport := plain.DefaultTransport()
	transport.DialTLSContext, transport.TLSClientConfig = nil, config // otherwise govmomi's own functions would check a thumbprint in the end
	var client *vim25.Client
	err = v.await(ctx, true, func() error {
		client, err = vim25.NewClient(ctx, plain)
		return err
	})
	if err == nil && !client.IsVC() {
		err = fault.New(fault.BadInput, "it is %s, no vCenter: a lone ESXi host cannot migrate", client.ServiceContent.About.FullName)
	}
	if err != nil {
		plain.CloseIdleConnections()
		return nil, err
	}
	client.RoundTripper = v
	return client, nil
}

// logIn opens a session. The caller must hold the turn.
func (v *vcenter) logIn(ctx context.Context, client *vim25.Client) error {
	password, err := readPassword(ctx, v.at)
	if err != nil {
		return err
	}
	wrong := fault.New(fault.BadInput, "vCenter %s: log in as %s: the name or the password is wrong: look at what %s holds",
		v.at.Name, v.at.User, v.at.PasswordFrom)
	sum := sha256.Sum256([]byte(password))
	v.mu.Lock()
	known := v.refused == sum && time.Since(v.refusedAt) < refusedFor
	v.mu.Unlock()
	if known {
		return wrong
	}
	var res methods.LoginBody
	err = v.call(ctx, client, &methods.LoginBody{Req: &types.Login{This: *client.ServiceContent.SessionManager,
		UserName: v.at.User, Password: password, Locale: "en_US"}}, &res)
	if is[*types.InvalidLogin](err) {
		// Nothing in this process tries it again, because repeated tries lock an
		// account.
		v.mu.Lock()
		v.refused, v.refusedAt = sum, time.Now()
		v.mu.Unlock()
		return wrong
	}
	if err != nil {
		return v.failed("log in as "+v.at.User, err)
	}
	v.mu.Lock()
	v.logins++
	v.field = nil
	v.mu.Unlock()
	return nil
}

// logInAgain opens a session if the one with the number ended is still the last.
func (v *vcenter) logInAgain(ctx context.Context, ended int) error {
	giveBack, err := v.take(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	client, login := v.session()
	if login > ended { // somebody else has logged in already
		return nil
	}
	return v.logIn(ctx, client)
}

// RoundTrip makes a call. A call that was refused because the session has ended had no
// effect, and is made again in a new session.
func (v *vcenter) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	client, login := v.session()
	err := v.call(ctx, client, req, res)
	if !sessionEnded(res, err) {
		return err
	}
	if err := v.logInAgain(ctx, login); err != nil {
		return err
	}
	return v.call(ctx, client, req, res)
}

// sessionEnded says that a call was refused because its session has ended. When
// properties are read, a vCenter may report that for each of them.
func sessionEnded(res soap.HasFault, err error) bool {
	if err != nil {
		return is[*types.NotAuthenticated](err)
	}
	body, properties := res.(*methods.RetrievePropertiesExBody)
	if !properties || body.Res == nil || body.Res.Returnval == nil {
		return false
	}
	for _, object := range body.Res.Returnval.Objects {
		for _, missing := range object.MissingSet {
			if _, ended := missing.Fault.Fault.(*types.NotAuthenticated); ended {
				return true
			}
		}
	}
	return false
}

// call makes a call within the pace, and repeats it while the vCenter is away.
func (v *vcenter) call(ctx context.Context, client *vim25.Client, req, res soap.HasFault) error {
	return v.await(ctx, isRepeatable(req), func() error {
		if err := v.limiter.Wait(ctx); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		reflect.ValueOf(res).Elem().SetZero() // remove what an earlier call has left in it
		return client.Client.RoundTrip(ctx, req, res)
	})
}

// await repeats a call while the vCenter is away, for at most awayLimit. A call that
// changes something is repeated only if the vCenter cannot have received it; otherwise
// the error is errNoAnswer.
func (v *vcenter) await(ctx context.Context, repeatable bool, call func() error) error {
	began := time.Now()
	for {
		err := call()
		switch {
		case err == nil || !isAway(err):
			return err
		case !repeatable && !neverArrived(err):
			return fmt.Errorf("%w: %w", errNoAnswer, cmp.Or(context.Cause(ctx), err))
		case ctx.Err() != nil:
			return fmt.Errorf("%w (%s)", context.Cause(ctx), err.Error())
		case time.Since(began) > v.awayLimit:
			return fmt.Errorf("it was away for %s: %w", v.awayLimit, err)
		}
		if err := poll.Pause(ctx, v.awayPause); err != nil {
			return err
		}
	}
}

// isRepeatable says whether a call changes nothing, or can be made twice.
func isRepeatable(req soap.HasFault) bool {
	name := strings.TrimSuffix(reflect.TypeOf(req).Elem().Name(), "Body")
	for _, prefix := range []string{"Retrieve", "ContinueRetrieve", "Query", "Search", "Rescan", "Find", "Has", "Check", "CurrentTime", "Login", "CancelTask", "SetField", "HttpNfcLeaseProgress",
		"ListProcesses", "InitiateFileTransferFrom"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
