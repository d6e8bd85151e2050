// Package gather does the same for several things at once. It waits for all of them, whatever
// fails: use errgroup where the first failure must end the others. Results are in the order of
// the inputs. It starts goroutines, so workflows must not use it.
package gather

import (
	"errors"
	"sync"
)

// Values returns the result of do for each item of all.
func Values[T, R any](all []T, do func(T) R) []R {
	values := make([]R, len(all))
	atOnce(len(all), func(i int) { values[i] = do(all[i]) })
	return values
}

// Results does what Values does, with a do that may fail. It joins the errors; the value of a
// failed item is what do returned with the error.
func Results[T, R any](all []T, do func(T) (R, error)) ([]R, error) {
	values, errs := make([]R, len(all)), make([]error, len(all))
	atOnce(len(all), func(i int) { values[i], errs[i] = do(all[i]) })
	return values, errors.Join(errs...)
}

// Each calls do for each item of all, and joins the errors.
func Each[T any](all []T, do func(T) error) error { return errors.Join(Values(all, do)...) }

// Together runs several tasks, and joins their errors.
func Together(tasks ...func() error) error {
	return Each(tasks, func(task func() error) error { return task() })
}

func atOnce(number int, do func(i int)) {
	var running sync.WaitGroup
	for i := range number {
		running.Go(func() { do(i) })
	}
	running.Wait()
}
