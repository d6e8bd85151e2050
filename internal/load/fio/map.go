// Package fio is everything about the engine fio: what of a specification it
// does exactly, its arguments, its log and its result.
package fio

import "heliotrope/internal/load/spec"

// Unmappable says what of a sound specification fio would not do as Iometer
// does: nil when it does exactly this.
func Unmappable(a spec.Access) []spec.Problem { panic("not built") }
