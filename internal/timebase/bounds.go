package timebase

import "math"

// bounds say how far a clock may be ahead at a moment: from low to high, in ns. at is the moment
// in ns since the first reading; low and high are relative to the offset of that reading.
type bounds struct{ at, low, high float64 }

func (b bounds) middle() float64 { return (b.low + b.high) / 2 }
func (b bounds) half() float64   { return (b.high - b.low) / 2 }

// theirs returns what the clock shows at that moment by its estimate.
func (b bounds) theirs() float64 { return b.at + b.middle() }

// after returns the bounds that b implies at a later moment, for a clock that gains on ours at a
// rate from slow to fast.
func (b bounds) after(moment, slow, fast float64) bounds {
	return bounds{moment, b.low + slow*(moment-b.at), b.high + fast*(moment-b.at)}
}

// before returns the bounds that b implies at an earlier moment.
func (b bounds) before(moment, slow, fast float64) bounds {
	return bounds{moment, b.low - fast*(b.at-moment), b.high - slow*(b.at-moment)}
}

// and returns the intersection of two bounds at the same moment.
func (b bounds) and(other bounds) bounds {
	return bounds{b.at, max(b.low, other.low), min(b.high, other.high)}
}

// jump finds the first of the sorted nodes that contradicts an earlier one, and that earlier one.
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

// merge replaces nodes with the same moment by their intersection.
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

// maxPaired is the largest number of nodes of which each is compared with each other.
const maxPaired = 1000

// thin divides the time into maxPaired windows and keeps the narrowest node of each.
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

// rates bounds the rate at which a clock gains on ours. The rate is within the drift, and within
// wander of an unknown average. Each pair of nodes bounds that average: by the least and by the
// most that the clock can have gained between them. If no average fits all nodes, only the drift
// bounds the rate.
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

// tighten intersects the bounds of each node with what all others imply for its moment.
func tighten(nodes []bounds, slow, fast float64) {
	for i := 1; i < len(nodes); i++ {
		nodes[i] = nodes[i].and(nodes[i-1].after(nodes[i].at, slow, fast))
	}
	for i := len(nodes) - 2; i >= 0; i-- {
		nodes[i] = nodes[i].and(nodes[i+1].before(nodes[i].at, slow, fast))
	}
}

// knots adds nodes where the bounds bend between two tightened nodes: where the bound that the
// later node implies becomes narrower than the one that the earlier node implies.
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
