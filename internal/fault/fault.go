// Package fault sorts errors into the four classes that decide what happens
// next, and is the only place that turns them into Temporal's errors and back.
//
// It promises that an error without a class is one of the infrastructure,
// which is tried again: a campaign of days must not end because of an error
// that nobody thought of.
package fault

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/temporal"

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

// Of is the class of an error, on either side of Temporal. An error without a
// class is of the infrastructure. In joined errors a cancellation counts last:
// what was found out before it stands.
func Of(err error) Class {
	var own *Error
	var application *temporal.ApplicationError
	switch {
	case errors.As(err, &own):
		return own.Class
	case errors.As(err, &application):
		switch class := Class(application.Type()); class {
		case BadInput, TargetFailed, Invalid:
			return class
		}
		// Its cause may be a cancellation, as when a worker was stopped; the
		// workflow's own it is not.
	case errors.Is(err, context.Canceled) || temporal.IsCanceledError(err):
		return Cancelled
	}
	return Infrastructure
}

// CauseOf is the code of an error's cause, on either side of Temporal. One that
// nobody gave follows from the class.
func CauseOf(err error) cause.Code {
	var own *Error
	for rest := err; errors.As(rest, &own); rest = own.Err {
		if own.Cause != "" {
			return own.Cause
		}
	}
	var application *temporal.ApplicationError
	var code cause.Code
	if errors.As(err, &application) && application.HasDetails() && application.Details(&code) == nil && code != "" {
		return code
	}
	var timeout *temporal.TimeoutError
	switch class := Of(err); {
	case err == nil:
		return ""
	case errors.As(err, &timeout):
		return cause.TimeOut
	case class == BadInput:
		return cause.BadInput
	case class == Cancelled:
		return cause.Cancelled
	case class == TargetFailed:
		return cause.StorageFailed
	}
	return cause.Infrastructure
}

// ToTemporal is what an activity returns for err: its class becomes the type
// of an application error, its cause the detail, and only errors of the
// infrastructure may be tried again.
func ToTemporal(err error) error {
	if err == nil {
		return nil
	}
	class := Of(err)
	switch class {
	case Cancelled:
		return temporal.NewCanceledError()
	case Infrastructure:
		return temporal.NewApplicationErrorWithCause(err.Error(), string(class), nil, CauseOf(err))
	}
	return temporal.NewNonRetryableApplicationError(err.Error(), string(class), nil, CauseOf(err))
}

// Reason is the message of an error that came out of an activity, without what
// Temporal wraps around it.
func Reason(err error) string {
	var application *temporal.ApplicationError
	var timeout *temporal.TimeoutError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &application):
		return application.Message()
	case errors.As(err, &timeout):
		return "timed out (" + timeout.TimeoutType().String() + "): " + timeout.Message()
	case temporal.IsCanceledError(err):
		return "cancelled"
	}
	return err.Error()
}
