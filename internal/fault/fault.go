// Package fault sorts errors into the four classes that decide what happens
// next. Whoever knows best what an error means gives it its class: mostly a
// driver. Package wire carries classes through Temporal; here nothing knows of
// it. Package cause has the codes by which failures are counted.
//
// It promises that an error without a class is one of the infrastructure,
// which is tried again: a campaign of days must not end because of an error
// that nobody thought of.
package fault

import (
	"context"
	"errors"
	"fmt"

	"heliotrope/internal/cause"
)

// Class of an error.
type Class string

// The classes. Their names are in the histories of running campaigns: a rename
// breaks those.
const (
	BadInput       Class = "BadInput"           // what was asked for cannot be: not tried again
	Infrastructure Class = "Infrastructure"     // a host, the network, a disk: tried again
	TargetFailed   Class = "TargetFailed"       // the system under test failed: a result, not tried again
	Invalid        Class = "InvalidMeasurement" // the measurement cannot be trusted: the whole trial is tried again
	Cancelled      Class = "Cancelled"
)

// IsClass says whether a name is a class's.
func IsClass(name string) bool {
	switch Class(name) {
	case BadInput, Infrastructure, TargetFailed, Invalid, Cancelled:
		return true
	}
	return false
}

// Error is an error with a class, and the code of its cause where that is
// known.
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

// Of is the class of an error. An error without a class is of the
// infrastructure. In joined errors a cancellation counts last: what was found
// out before it stands.
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

// CauseOf is the code of an error's cause. One that nobody gave follows from the
// class.
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

// Default is the code of an error of a class whose cause nobody told; "" for no
// error.
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
