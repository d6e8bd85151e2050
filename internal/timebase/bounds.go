package timebase

import "math"

// bounds are how far a clock may be ahead at a moment: from low to high. All is
// in ns: the moment since the first reading, the rest beyond what that said.
type bounds struct{ at, low, high float64 }

func (b bounds) middle() float64 { return (b.low + b.high) / 2 }
func (b bounds) half() float64   { return (b.high - b.low) / 2 }

// theirs is what the clock shows by its estimate.
func (b bounds) theirs() float64 { return b.at + b.middle() }

// after is what b allows at a later moment of a clock that gets ahead at a rate
// from slow to fast.
func (b bounds) after(moment, slow, fast float64) bounds {
	return bounds{moment, b.low + slow*(moment-b.at), b.high + fast*(moment-b.at)}
}

// before is what b allows at an earlier moment.
func (b bounds) before(moment, slow, fast float64) bounds {
	return bounds{moment, b.low - fast*(b.at-moment), b.high - slow*(b.at-moment)}
}

// and is what both allow, of one moment.
func (b bounds) and(other bounds) bounds {
	return bounds{b.at, max(b.low, other.low), min(b.high, other.high)}
}

// jump finds the first of the sorted nodes that one before it does not allow,
// and which that is.
func jump(nodes []bounds, drift float64) (since, at int, found bool) {
	allowed, lowBy, highBy := nodes[0], 0, 0
	for i, node := range nodes {
		allowed = allowed.after(node.at, -drift, drift)
		if node.high < allowed.low {
			return lowBy, i, true
		}
		if node.low > allowed.high {
			return highBy, i, true
		}
		if node.low >= allowed.low {
			lowBy = i
		}
		if node.high <= allowed.high {
			highBy = i
		}
		allowed = allowed.and(node)
	}
	return 0, 0, false
}

// merge makes one of nodes of the same moment.
func merge(nodes []bounds) []bounds {
	merged := nodes[:1]
	for _, node := range nodes[1:] {
		if last := &merged[len(merged)-1]; last.at == node.at {
			*last = last.and(node)
		} else {
			merged = append(merged, node)
		}
	}
	return merged
}

// maxPaired is how many nodes are compared with one another, all with all.
const maxPaired = 1000

// thin leaves the narrowest node of each of maxPaired windows of time.
func thin(nodes []bounds) []bounds {
	if len(nodes) <= maxPaired {
		return nodes
	}
	first := nodes[0].at
	width := (nodes[len(nodes)-1].at - first) / maxPaired
	thinned, window := []bounds{nodes[0]}, 0.0
	for _, node := range nodes[1:] {
		last := &thinned[len(thinned)-1]
		switch in := math.Floor((node.at - first) / width); {
		case in > window:
			thinned, window = append(thinned, node), in
		case node.half() < last.half():
			*last = node
		}
	}
	return thinned
}

// rates bounds the rate at which a clock gets ahead, which is within wander of
// an average that nobody knows, and within the drift. Each pair of nodes bounds
// the average: from the least that the clock can have gained between them to
// the most. Nodes that no average explains leave the drift only.
func rates(nodes []bounds, drift, wander float64) (slow, fast float64) {
	least, most := math.Inf(-1), math.Inf(1)
	for i, later := range nodes {
		for _, earlier := range nodes[:i] {
			between := later.at - earlier.at
			least = max(least, (later.low-earlier.high)/between)
			most = min(most, (later.high-earlier.low)/between)
		}
	}
	if least-wander > most+wander {
		return -drift, drift
	}
	return max(-drift, least-2*wander), min(drift, most+2*wander)
}

// tighten makes each of the nodes what all of them allow.
func tighten(nodes []bounds, slow, fast float64) {
	for i := 1; i < len(nodes); i++ {
		nodes[i] = nodes[i].and(nodes[i-1].after(nodes[i].at, slow, fast))
	}
	for i := len(nodes) - 2; i >= 0; i-- {
		nodes[i] = nodes[i].and(nodes[i+1].before(nodes[i].at, slow, fast))
	}
}

// knots adds to tightened nodes where the bounds bend between them: where what
// the later node allows becomes less than what the earlier one does.
func knots(nodes []bounds, slow, fast float64) []bounds {
	all := nodes[:1:1]
	for i, b := range nodes[1:] {
		a := nodes[i]
		between := b.at - a.at
		low := a.at + (a.low-b.low+fast*between)/(fast-slow)
		high := a.at + (b.high-a.high-slow*between)/(fast-slow)
		for _, at := range []float64{min(low, high), max(low, high)} {
			if at > all[len(all)-1].at && at < b.at {
				all = append(all, a.after(at, slow, fast).and(b.before(at, slow, fast)))
			}
		}
		all = append(all, b)
	}
	return all
}
