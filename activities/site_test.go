package activities

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/simulated"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// TestSiteOfGuest: after a failed migration the ledger is read where the guest is, wherever
// it was meant to go.
func TestSiteOfGuest(t *testing.T) {
	ref := trial.Ref{Campaign: "unit", Attempt: 1, Now: time.Unix(1_800_000_000, 0),
		Trial: campaign.Trial{Cell: campaign.Cell{Storage: "iscsi", WAN: "lan"}}}
	bed := simulated.Open("sim", ref, simulated.Faults{})
	_, err := siteOfGuest(t.Context(), bed)
	require.ErrorContains(t, err, "runs at 0 sites")
	for _, site := range []storage.Site{storage.SiteB, storage.SiteA} {
		_, err := bed.StartGuest(t.Context(), site, testbed.Guest{})
		require.NoError(t, err)
		found, err := siteOfGuest(t.Context(), bed)
		require.NoError(t, err)
		require.Equal(t, site, found)
		require.NoError(t, bed.Teardown(t.Context()))
	}
}

// offBed is a testbed whose guest was switched off, so that its disk can be read.
type offBed struct{ testbed.Bed }

func (offBed) Hypervisor(site storage.Site) testbed.Hypervisor { return offHost{site: site} }

type offHost struct {
	testbed.Hypervisor
	hypervisor.Datastores
	site storage.Site
}

func (h offHost) Host() string { return "host-" + string(h.site) }

func (h offHost) List(context.Context) ([]hypervisor.State, error) {
	if h.site == storage.SiteA {
		return nil, nil
	}
	return []hypervisor.State{{Name: "lab.guest", Status: hypervisor.ShutDown}}, nil
}

// TestSiteOfASwitchedOffGuest: work that was begun before a crash is continued.
func TestSiteOfASwitchedOffGuest(t *testing.T) {
	found, err := siteOfGuest(t.Context(), offBed{})
	require.NoError(t, err)
	require.Equal(t, storage.SiteB, found)
}
