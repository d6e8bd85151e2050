package answers_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/answers/answerstest"
)

// flat is a metric with one value for DRBD and other values for its two rivals.
func flat(drbd, iscsi, nfs float64) func(string, float64) float64 {
	return func(storage string, _ float64) float64 {
		return map[string]float64{"drbd": drbd, "iscsi": iscsi, "nfs": nfs}[storage]
	}
}

func TestClaims(t *testing.T) {
	for name, of := range map[string]struct {
		response, wan         func(string, float64) float64
		change                func(*answerstest.Options)
		wantResponse, wantWAN answers.ClaimVerdict
	}{
		"as it was published":            {response: flat(1, 2, 3), wan: flat(1, 1.5, 1.5), wantResponse: answers.Reproduced, wantWAN: answers.Reproduced},
		"the contrary":                   {response: flat(2, 1, 1), wan: flat(3, 2, 2), wantResponse: answers.NotReproduced, wantWAN: answers.NotReproduced},
		"one rival is better":            {response: flat(2, 1, 3), wan: flat(2, 3, 1), wantResponse: answers.NotReproduced, wantWAN: answers.NotReproduced},
		"no difference, and sure":        {response: flat(1, 1, 1), wan: flat(1, 1, 1), change: func(o *answerstest.Options) { o.Blocks = 40; o.Sigma = 0.05 }, wantResponse: answers.NotReproduced, wantWAN: answers.NotReproduced},
		"too uncertain":                  {response: flat(1, 1.1, 1.1), wan: flat(1, 1.1, 1.1), change: func(o *answerstest.Options) { o.Sigma = 1.5; o.Blocks = 6 }, wantResponse: answers.ClaimUndecided, wantWAN: answers.ClaimUndecided},
		"better than one, no other knew": {response: flat(1, 2, 3), wan: flat(1, 2, 3), change: func(o *answerstest.Options) { o.Storages = []string{"drbd", "nfs"} }, wantResponse: answers.Untested, wantWAN: answers.Untested},
		"over no WAN":                    {response: flat(1, 2, 3), wan: flat(1, 2, 3), change: func(o *answerstest.Options) { o.RTTsMs = []float64{0} }, wantResponse: answers.Untested, wantWAN: answers.Untested},
		"two blocks":                     {response: flat(1, 2, 3), wan: flat(1, 2, 3), change: func(o *answerstest.Options) { o.Blocks = 2 }, wantResponse: answers.ClaimUndecided, wantWAN: answers.ClaimUndecided},
	} {
		t.Run(name, func(t *testing.T) {
			got := usual(t, func(o *answerstest.Options) {
				o.ResponseMs, o.WANMB, o.RTTsMs = of.response, of.wan, []float64{0, 90}
				if of.change != nil {
					of.change(o)
				}
			}).Claims
			require.Len(t, got, 2)
			assert.Equal(t, of.wantWAN, got[0].Verdict, got[0].Why)
			assert.Equal(t, of.wantResponse, got[1].Verdict, got[1].Why)
			for _, claim := range got {
				require.Len(t, claim.Against, 2)
				assert.NotEmpty(t, claim.Why)
				assert.NotEmpty(t, claim.Beside)
				assert.Contains(t, claim.Hypothesis, "Holm over both claims")
			}
		})
	}
}

// The figures of a claim are given, and a LAN is in none of them.
func TestClaimFigures(t *testing.T) {
	claims := usual(t, func(o *answerstest.Options) {
		o.Hypervisors, o.Balanced, o.Blocks = []string{"kvm", "xen"}, true, 12
		o.WANMB = func(storage string, rtt float64) float64 {
			if rtt == 0 && storage == "drbd" {
				return 1e6 // on the LAN
			}
			return map[string]float64{"drbd": 50, "iscsi": 100, "nfs": 200}[storage]
		}
	}).Claims
	require.Len(t, claims, 4, "two for each hypervisor")
	assert.Equal(t, []string{"kvm", "kvm", "xen", "xen"}, []string{claims[0].Hypervisor, claims[1].Hypervisor, claims[2].Hypervisor, claims[3].Hypervisor})
	nfs := claims[0].Against[1]
	assert.Equal(t, "nfs", nfs.Rival)
	assert.Equal(t, [3]int{36, 36, 0}, [3]int{nfs.Pairs, nfs.Less, nfs.RivalLess}, "three round trips, twelve blocks")
	assert.InEpsilon(t, 0.25, float64(nfs.Ratio), 0.1)
	assert.Equal(t, answers.Less, nfs.Verdict)
	assert.Contains(t, claims[0].Why, "less in 36 of 36 pairs")
}
