package campaign

import "fmt"

// blocksOf counts the blocks of a plan.
func blocksOf(plan []Trial) int {
	blocks := map[int]bool{}
	for _, trial := range plan {
		blocks[trial.Block] = true
	}
	return len(blocks)
}

// IdleLanes says how many lanes of the campaign get no trial of a plan, because each lane runs
// whole blocks; "" when all get some.
func (s *Spec) IdleLanes(plan []Trial) string {
	lanes, blocks := s.LaneCount(), blocksOf(plan)
	if blocks >= lanes {
		return ""
	}
	have := "have"
	if lanes-blocks == 1 {
		have = "has"
	}
	return fmt.Sprintf("%d of %d lanes %s nothing to do: a lane runs whole blocks, one for each repetition, and there are only %d",
		lanes-blocks, lanes, have, blocks)
}
