// Package fault sorts errors into classes that decide what happens next. The
// code that knows best what an error means, mostly a driver, gives it its class.
// Package wire carries classes through Temporal; this package knows nothing of
// Temporal. Package cause has the codes by which failures are counted.
//
// It promises that an error without a class counts as one of the infrastructure,
// which is tried again: a campaign of days must not end because of an error that
// nobody thought of.
package fault

import (
	"context"
	"errors"
	"fmt"

	"heliotrope/internal/cause"
)

// Class is the class of an error.
type Class string

// The classes. Their names are in the histories of running campaigns: renaming
// one breaks those campaigns.
const (
	BadInput       Class = "BadInput"           // what was asked for is impossible: not tried again
	Infrastructure Class = "Infrastructure"     // a host, the network, a disk: tried again
	TargetFailed   Class = "TargetFailed"       // the system under test failed: a result, not tried again
	Invalid        Class = "InvalidMeasurement" // the measurement cannot be trusted: the whole trial is tried again
	Cancelled      Class = "Cancelled"
)

// IsClass says whether name is the name of a class.
func IsClass(name string) bool {
	switch Class(name) {
	case BadInput, Infrastructure, TargetFailed, Invalid, Cancelled:
		return true
	}
	return false
}

// Error is an error with a class and, where it is known, the code of its cause.
type Error struct {
	Class Class
	Cause cause.Code
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// As gives an error a class; nil stays nil.
func As(class Class, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Err: err}
}

// Because gives an error a class and the code of its cause; nil stays nil.
func Because(class Class, code cause.Code, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Cause: code, Err: err}
}

// New makes an error of a class.
func New(class Class, format string, values ...any) error {
	return &Error{Class: class, Err: fmt.Errorf(format, values...)}
}

// Of is the class of an error. An error without a class is one of the
// infrastructure. In joined errors any class takes precedence over a
// cancellation: what was found out before the cancellation stands.
func Of(err error) Class {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own.Class
	case errors.Is(err, context.Canceled):
		return Cancelled
	}
	return Infrastructure
}

// CauseOf is the code of an error's cause. When nobody gave the error a code, it
// follows from the error's class.
func CauseOf(err error) cause.Code {
	if code := Told(err); code != "" {
		return code
	}
	return Default(Of(err), err)
}

// Told is the code that somebody gave an error; "" when nobody did.
func Told(err error) cause.Code {
	var own *Error
	for rest := err; errors.As(rest, &own); rest = own.Err {
		if own.Cause != "" {
			return own.Cause
		}
	}
	return ""
}

// Default is the code for an error of a class when nobody gave it one; "" when
// there is no error.
func Default(class Class, err error) cause.Code {
	switch {
	case err == nil:
		return ""
	case class == BadInput:
		return cause.BadInput
	case class == Cancelled:
		return cause.Cancelled
	case class == TargetFailed:
		return cause.StorageFailed
	}
	return cause.Infrastructure
}
