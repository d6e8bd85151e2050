package spec

import "math/bits"

// generator is a stream of random numbers.
type generator struct {
	state   uint64
	iometer bool // the numbers are Iometer's, not our own
}

// newGenerator returns one of a worker's streams: stream 0 draws its lines, stream 1 and up draw
// for its targets. With a fixed seed all streams begin alike, as in Iometer.
func newGenerator(fixed *uint64, seed uint64, worker, stream int) generator {
	if fixed != nil {
		return generator{state: *fixed, iometer: true}
	}
	return generator{state: mix(seed ^ uint64(worker)<<32 ^ uint64(stream))} //nolint:gosec // both are small
}

// below draws a number below limit, which is above 0.
func (g *generator) below(limit uint64) uint64 {
	if g.iometer {
		// Grunt::Rand and Target::Rand.
		g.state = 136204069*g.state + 28500701229
		return g.state % limit
	}
	g.state += 0x9E3779B97F4A7C15
	high, _ := bits.Mul64(mix(g.state), limit)
	return high
}

// mix is the output function of SplitMix64: Steele, Lea and Flood, Fast
// Splittable Pseudorandom Number Generators, OOPSLA 2014, with the constants of
// its reference implementation.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
