package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/campaign"
	"heliotrope/internal/simulated"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// TestSiteOfGuest: after a failed migration the ledger is read where the guest
// is, wherever it was to go.
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
