// Package wire carries the classes of package fault through Temporal: it is the
// only place that turns them into Temporal's errors and back.
//
// It promises that a class, a cause and a message come out of an activity or a
// child workflow as they went in, and that Temporal tries only errors of the
// infrastructure again.
package wire

import (
	"context"
	"errors"

	"go.temporal.io/sdk/temporal"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
)

// Of is the class of an error, on either side of Temporal: see fault.Of.
func Of(err error) fault.Class {
	var own *fault.Error
	var application *temporal.ApplicationError
	switch {
	case errors.As(err, &own):
		return own.Class
	case errors.As(err, &application):
		switch class := fault.Class(application.Type()); class {
		case fault.BadInput, fault.TargetFailed, fault.Invalid:
			return class
		}
		// Its cause may be a cancellation, as when a worker was stopped; the
		// workflow's own it is not.
	case errors.Is(err, context.Canceled) || temporal.IsCanceledError(err):
		return fault.Cancelled
	}
	return fault.Infrastructure
}

// CauseOf is the code of an error's cause, on either side of Temporal. One that
// nobody gave follows from the class.
func CauseOf(err error) cause.Code {
	if code := fault.Told(err); code != "" {
		return code
	}
	var application *temporal.ApplicationError
	var code cause.Code
	if errors.As(err, &application) && application.HasDetails() && application.Details(&code) == nil && code != "" {
		return code
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return cause.TimeOut
	}
	return fault.Default(Of(err), err)
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
	case fault.Cancelled:
		return temporal.NewCanceledError()
	case fault.Infrastructure:
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
