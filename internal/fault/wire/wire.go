// Package wire carries the classes of package fault through Temporal: it is the
// only place that turns them into Temporal's errors and back.
//
// It promises that a class, a cause and a message leave an activity or a child
// workflow as they were there, except that a long message loses its middle; and
// that Temporal retries only errors of the infrastructure.
package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
		// The application error may wrap a cancellation, as when a worker was
		// stopped; that is not a cancellation of the workflow itself.
	case errors.Is(err, context.Canceled) || temporal.IsCanceledError(err):
		return fault.Cancelled
	}
	return fault.Infrastructure
}

// CauseOf is the code of an error's cause, on either side of Temporal. When
// nobody gave the error a code, it follows from the error's class.
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

// ToTemporal converts an activity's error for Temporal: its class becomes the
// type of an application error and its cause the detail, and only errors of the
// infrastructure may be retried.
func ToTemporal(err error) error {
	if err == nil {
		return nil
	}
	class := Of(err)
	switch class {
	case fault.Cancelled:
		return temporal.NewCanceledError()
	case fault.Infrastructure:
		return temporal.NewApplicationErrorWithCause(message(err), string(class), nil, CauseOf(err))
	}
	return temporal.NewNonRetryableApplicationError(message(err), string(class), nil, CauseOf(err))
}

// MaxMessageBytes is how long a message may be. When a failure with everything
// around the message exceeds 4 KiB, Temporal keeps of a pending activity's
// failure only the text "Failure exceeds size limit"
// (limit.mutableStateActivityFailureSize.error, whose warning is at 2 KiB).
const MaxMessageBytes = 2 << 10

// message is an error's text; a text that is too long loses its middle, because
// its beginning says what was tried and its end what came back.
func message(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) <= MaxMessageBytes {
		return text
	}
	const end = 800
	left := fmt.Sprintf(" … (of %d bytes) … ", len(text))
	begin := MaxMessageBytes - end - len(left)
	return strings.ToValidUTF8(text[:begin], "") + left + strings.ToValidUTF8(text[len(text)-end:], "")
}

// Reason is the message of an error that an activity returned, without the text
// that Temporal wraps around it.
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
