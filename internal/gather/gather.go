// Package gather does the same for several things at once. It waits for all of
// them, whatever fails: where the first failure is to end the others, errgroup is
// right. What comes back stands in the order of what was asked for. It starts
// goroutines, so workflows must not use it.
package gather

import (
	"errors"
	"sync"
)

// Values is what do returns for each.
func Values[T, R any](all []T, do func(T) R) []R {
	values := make([]R, len(all))
	atOnce(len(all), func(i int) { values[i] = do(all[i]) })
	return values
}

// Results is Values of what may fail. The errors are joined; where there is one, the
// value is what do returned beside it.
func Results[T, R any](all []T, do func(T) (R, error)) ([]R, error) {
	values, errs := make([]R, len(all)), make([]error, len(all))
	atOnce(len(all), func(i int) { values[i], errs[i] = do(all[i]) })
	return values, errors.Join(errs...)
}

// Each joins the errors of do.
func Each[T any](all []T, do func(T) error) error { return errors.Join(Values(all, do)...) }

// Together joins the errors of several tasks.
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
