package testbed

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/campaign"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/trial"
)

// TestLoadOfATrial: the load and the two kinds of witnesses agree on where the
// log is sent and on the shared page, when there are any.
func TestLoadOfATrial(t *testing.T) {
	tb := connected(t)
	ref := func(engine string) trial.Ref {
		access := campaign.AccessSpec{Name: "two", Engine: engine, Targets: 2, Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100, RandomPercent: 100}}}
		if engine == spec.EngineFio {
			access.Targets = 1
		}
		return trial.Ref{Trial: campaign.Trial{Sequence: 7, Seed: 42, Cell: campaign.Cell{Access: access}}, Attempt: 2, DiskBytes: 64 << 20, LedgerBytes: 8 << 20}
	}
	host := tb.Inventory.SiteA()

	own := ref(spec.EngineOwn)
	config, err := tb.LoadConfig(own)
	require.NoError(t, err)
	at := func(address netip.Addr) netip.AddrPort { return netip.AddrPortFrom(address, iolog.Port) }
	assert.Equal(t, engine.Config{
		Access: own.Trial.Cell.Access.Complete(), Seed: 42, Token: token(own), Budget: iolog.DefaultBudget(), Page: tb.LoadDir(own) + "/inflight",
		Targets: []spec.Target{{Device: tb.GuestDevices().Disk, SizeBytes: 28 << 20}, {Device: tb.GuestDevices().Disk, OffsetBytes: 28 << 20, SizeBytes: 28 << 20}},
		SiteA:   at(tb.Inventory.EndA().Address), SiteB: at(tb.Inventory.EndB().Address),
	}, config)
	assert.Equal(t, config.Page, tb.guestConfig(own).Load)
	onHost := tb.hostConfig(own, host.Name)
	assert.Equal(t, config.SiteA, onHost.LogListen)
	assert.Equal(t, config.Token, onHost.Token)
	assert.NoError(t, onHost.Check())
	assert.False(t, tb.hostConfig(own, tb.Inventory.StoreName).LogListen.IsValid())

	fio := ref(spec.EngineFio)
	config, err = tb.LoadConfig(fio)
	require.NoError(t, err)
	assert.Equal(t, []spec.Target{{Device: tb.GuestDevices().Disk, SizeBytes: 56 << 20}}, config.Targets)
	assert.Empty(t, config.Page)
	assert.Empty(t, tb.guestConfig(fio).Load)
	assert.False(t, tb.hostConfig(fio, host.Name).LogListen.IsValid())
	for _, one := range []trial.Ref{own, fio} {
		_, err := tb.Load(one)
		assert.NoError(t, err)
	}
}
