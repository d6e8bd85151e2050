package answers

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestClaimRule: the verdict on a claim is that of the rules in claimRule, the first that
// applies.
func TestClaimRule(t *testing.T) {
	rival := func(verdict Verdict, low, high Number) Rival {
		return Rival{Pairs: 12, RatioLow: low, RatioHigh: high, Tested: Tested{Verdict: verdict}}
	}
	less, littleLess := rival(Less, 0.5, 0.6), rival(Less, 0.96, 0.98)
	greater, same := rival(Greater, 1.5, 2), rival(Undecided, 0.95, 1.05)
	unclear, untested := rival(Undecided, 0.9, 1.1), Rival{RatioLow: Unknown, RatioHigh: Unknown, Tested: Tested{Verdict: Undecided}}
	for name, of := range map[string]struct {
		against [2]Rival
		want    ClaimVerdict
	}{
		"less than both": {[2]Rival{less, less}, Reproduced},
		"less than both, by less than 5 %: both rules apply":    {[2]Rival{littleLess, littleLess}, Reproduced},
		"less than one, greater than the other":                 {[2]Rival{less, greater}, NotReproduced},
		"less than one, the same as the other":                  {[2]Rival{less, same}, NotReproduced},
		"less than one by less than 5 %, and the other unclear": {[2]Rival{littleLess, unclear}, NotReproduced},
		"less than one, the other unclear":                      {[2]Rival{less, unclear}, ClaimUndecided},
		"both unclear":                                          {[2]Rival{unclear, unclear}, ClaimUndecided},
		"less than one, the other has no pairs":                 {[2]Rival{less, untested}, Untested},
		"greater than one, the other has no pairs":              {[2]Rival{greater, untested}, NotReproduced},
		"no pairs at all":                                       {[2]Rival{untested, untested}, Untested},
	} {
		assert.Equal(t, of.want, verdictOf(of.against[:]), name)
		assert.Equal(t, of.want, verdictOf([]Rival{of.against[1], of.against[0]}), name)
	}
}
