package kvm

import (
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
)

func TestUsage(t *testing.T) {
	h := newFakeHost(t, "host-a", ours(libvirt.DomainRunning, 1))
	h.stats = new(xdr).number(5).
		text("balloon.rss").number(4, 0, 70<<10).
		text("block.0.rd.reqs").number(4, 0, 11).
		text("block.0.rd.times").number(4, 1, 0). // 2^32 ns
		text("block.0.wr.reqs").number(4, 0, 7).
		text("block.1.wr.reqs").number(4, 0, 999) // of another disk
	usage, err := h.Usage(t.Context(), "lab.vm")
	require.NoError(t, err)
	require.Equal(t, Usage{CPU: time.Second, ResidentMiB: 70, Reads: DiskUsage{11, 1 << 32}, Writes: DiskUsage{Count: 7}}, usage)

	_, err = h.Usage(t.Context(), "lab.other")
	require.ErrorIs(t, err, hypervisor.ErrNotFound)
	_, err = h.Usage(t.Context(), "other.vm")
	require.ErrorContains(t, err, "does not start with the testbed's")
}

func TestHostUsage(t *testing.T) {
	usage, err := parseUsage("cpu  100 20 30 4000 500 6 7 8 90 0\nnet 1000 200 3 4\nnet 1 2 0 0\n")
	require.NoError(t, err)
	require.Equal(t, HostUsage{Busy: 1710 * time.Millisecond, All: 46710 * time.Millisecond,
		ReceivedBytes: 1001, SentBytes: 202, ReceivedDropped: 3, SentDropped: 4}, usage)
	for _, wrong := range []string{"", "cpu 1 2\n", "cpu a b c d e f g h\n", "net 1 2 3 4\n", "net 1 2\n"} {
		_, err := parseUsage(wrong)
		require.Error(t, err, wrong)
	}
}
