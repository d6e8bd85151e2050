package vsphere

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// bubble is a simulator inside a bubble of testing/synctest, where waiting takes no
// real time; calls reach it without a network.
type bubble struct {
	*sim
	away atomic.Bool // nobody listens
}

func newBubble(t *testing.T) *bubble {
	t.Helper()
	b := &bubble{sim: newModel(t)}
	b.hosts(inventory.VCenter{Name: "vc-1", URL: "https://vc.invalid", User: account, PasswordFrom: inventory.PasswordFile + b.password})
	plain := soap.NewClient(&url.URL{Scheme: "https", Host: "vc.invalid", Path: "/sdk"}, false)
	plain.Transport = b
	client, err := vim25.NewClient(t.Context(), plain)
	require.NoError(t, err)
	v := b.a.vcenter
	own := newLimits() // of this bubble's clock
	v.limiter, v.places = own.pace, own.places
	client.RoundTripper, v.client, v.awayPause = v, client, awayPause
	return b
}

// RoundTrip answers an HTTP request.
func (b *bubble) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.away.Load() {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	recorder := httptest.NewRecorder()
	b.serve(recorder, r)
	return recorder.Result(), nil
}

// TestLaneIsQuiet: while nothing changes, a lane makes at most two calls a second to
// its vCenter: it follows its relocation, and reads counters every minute.
func TestLaneIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.create()
		vm := b.slow()
		ended := b.begin(t.Context(), b.a)
		<-vm.begun
		const minutes = 10
		calls := b.total()
		for range minutes {
			time.Sleep(time.Minute)
			_, err := b.a.Counters(t.Context(), counted, time.Now().Add(-time.Minute), time.Now())
			require.NoError(t, err)
		}
		calls = b.total() - calls
		t.Logf("%d calls in %d minutes", calls, minutes)
		require.LessOrEqual(t, calls, 2*60*minutes)
		require.Greater(t, calls, 60*minutes, "it is followed")
		vm.goOn <- struct{}{}
		require.NoError(t, (<-ended).err)
		b.requireAt(b.b)
	})
}

// TestWaitIsTold: a relocation that waits for its place makes no calls, and reports
// that it waits more often than a silence counts as a hang.
func TestWaitIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.create()
		places := b.a.vcenter.places
		require.True(t, places.TryAcquire(allPlaces))
		order, told := b.order(), 0
		order.Progress = func(hypervisor.Progress) { told++ }
		ended := make(chan error)
		go func() {
			_, err := b.a.Migrate(t.Context(), order)
			ended <- err
		}()
		synctest.Wait()
		calls := b.total()
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		require.Equal(t, calls, b.total())
		require.Equal(t, 1+10, told)
		places.Release(allPlaces)
		require.NoError(t, <-ended)
		b.requireAt(b.b)
	})
}

// TestAwayForAMinute: when a vCenter stops for 60 s in the middle of a relocation
// and has no sessions afterwards, the driver waits for it and follows the
// relocation.
func TestAwayForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.create()
		vm := b.slow()
		began := time.Now()
		ended := b.begin(t.Context(), b.a)
		<-vm.begun
		b.away.Store(true)
		time.Sleep(30 * time.Second)
		vm.goOn <- struct{}{}
		time.Sleep(30 * time.Second)
		b.endSessions()
		b.away.Store(false)
		end := <-ended
		require.NoError(t, end.err)
		require.Less(t, end.account.Duration(), 31*time.Second, "it was over while the vCenter was away")
		require.GreaterOrEqual(t, time.Since(began), time.Minute)
		require.Equal(t, 1, b.count("RelocateVM_Task"))
		b.requireAt(b.b)
	})
}

// TestNoLUN: a target that does not let the host's initiator in is reported after a
// while, and asked for at long intervals.
func TestNoLUN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		n := newSAN(b.sim)
		n.shut = true
		_, err := b.a.EnableISCSI(t.Context())
		require.NoError(t, err)
		calls, began := b.total(), time.Now()
		err = b.a.ConnectISCSI(t.Context(), portal)
		require.ErrorContains(t, err, "host-a: connect to iSCSI target "+portal.IQN+": after 1m0s the host shows no LUN of the target; "+
			"does it let the initiator iqn.1998-01.com.vmware:DC0_C0_H0 in?")
		require.Equal(t, fault.Infrastructure, fault.Of(err))
		require.LessOrEqual(t, b.total()-calls, 2*int(time.Since(began)/time.Second))
		require.NoError(t, b.a.DisconnectISCSI(context.Background(), portal))
	})
}
