package vsphere

import (
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"

	vimfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
)

// errNoAnswer says that a call that changes something was sent, and no answer
// came: whether it was done must be looked at.
var errNoAnswer = errors.New("it was asked, and did not answer")

// unavailable are the answers of vCenter's own proxy while what is behind it
// starts or stops.
var unavailable = []int{http.StatusBadGateway, http.StatusServiceUnavailable}

// is says whether an error is, or was caused by, a fault of a type: a pointer to
// it, or the interface of all that are derived from it.
func is[F any](err error) bool {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself: errors.As stops at the first of several faults
	case nil:
		return false
	case interface{ Fault() types.BaseMethodFault }:
		var wanted F
		_, found := vimfault.As(e.Fault(), &wanted)
		return found
	case interface{ Unwrap() error }:
		return is[F](e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), is[F])
	}
	return false
}

// isAway tells errors of the way to a vCenter, or of one that starts, from its
// answers and from certificates that are wrong. An answer that was cut off is no
// XML.
func isAway(err error) bool {
	var way *url.Error
	var network net.Error
	var cutOff *xml.SyntaxError
	return !isUntrusted(err) &&
		(errors.As(err, &way) || errors.As(err, &network) || errors.As(err, &cutOff) || errors.Is(err, io.ErrUnexpectedEOF))
}

// isUntrusted says that a vCenter was reached, and is not the one that it should
// be.
func isUntrusted(err error) bool {
	var certificate *tls.CertificateVerificationError
	var other *wrongCertificate
	return errors.As(err, &certificate) || errors.As(err, &other)
}

// neverArrived says that what was asked cannot have been done: no line to the vCenter
// came to be. An answer 502 or 503 does not say so: its proxy may have passed the call
// on, and have lost what is behind it only then.
func neverArrived(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// classOf is the class that an error has, or that follows from what it is: a
// certificate, an account's rights and a name are input; all others are the
// infrastructure's.
func classOf(err error) fault.Class {
	var own *fault.Error
	switch {
	case errors.As(err, &own):
		return own.Class
	case isUntrusted(err):
		return fault.BadInput
	case is[types.BaseNoPermission](err) && !is[*types.NotAuthenticated](err):
		return fault.BadInput
	}
	return fault.Of(err)
}

// relocationFailed says whether a relocation's task that ended in an error had
// begun to move the machine. What vCenter refuses before, or cannot ask a host, is
// no failed migration; nor is one that was cancelled, or found no room on a disk.
func relocationFailed(err error) bool {
	var ended task.Error
	if !errors.As(err, &ended) {
		return false
	}
	switch {
	case is[*types.RequestCanceled](err),
		is[*types.TaskInProgress](err),
		is[*types.ManagedObjectNotFound](err),
		is[types.BaseInvalidState](err),
		is[types.BaseInvalidArgument](err),
		is[types.BaseSecurityError](err),
		is[types.BaseInsufficientResourcesFault](err),
		is[*types.NoDiskSpace](err),
		is[types.BaseNotEnoughLicenses](err),
		is[types.BaseHostCommunication](err):
		return false
	}
	return true
}
