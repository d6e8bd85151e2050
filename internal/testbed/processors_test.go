package testbed

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
	"heliotrope/internal/storage"
)

// TestProcessorsOfAGuest: a guest has no more processors than the host that is to take it,
// and what else the host lacks is told beside that.
func TestProcessorsOfAGuest(t *testing.T) {
	tb := withoutShells(t)
	source := tb.hypervisors[storage.SiteA].(*managed)
	for vcpus, want := range map[int]int{0: 1, 1: 1, 4: 4} { // the host has four
		require.NoError(t, tb.CheckMigration(t.Context(), Guest{VCPUs: vcpus}, storage.SiteA))
		require.Equal(t, want, source.checked.VCPUs)
		require.Equal(t, want, tb.GuestAt(storage.SiteB, Guest{VCPUs: vcpus}).VCPUs)
	}
	source.fails = errors.New("host-b has little memory")
	err := tb.CheckMigration(t.Context(), Guest{VCPUs: 5}, storage.SiteA)
	require.Equal(t, fault.BadInput, fault.Of(err))
	all := problem.Of(err)
	require.Len(t, all, 2)
	require.Equal(t, "host-b: processors for guests: a guest of 5 vCPUs does not fit: the host has 4 processors, which they would take turns on: "+
		"ask for fewer (guest_vcpus), or take hosts with more", all[0].Error())
	require.Equal(t, "host-b has little memory", all[1].Found)
}
