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

// errNoAnswer says that a call that changes something was sent and not answered: the
// caller must check whether it was carried out.
var errNoAnswer = errors.New("it was asked, and did not answer")

// unavailable are the answers of vCenter's own proxy while the service behind it
// starts or stops.
var unavailable = []int{http.StatusBadGateway, http.StatusServiceUnavailable}

// is says whether an error is, or was caused by, a fault of type F: a pointer to a
// fault, or the interface of a fault and all that are derived from it.
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

// isAway says whether an error is of the connection to a vCenter, or of a vCenter that
// starts, rather than one of its answers or a wrong certificate. An answer that was
// cut off shows as an XML syntax error.
func isAway(err error) bool {
	var way *url.Error
	var network net.Error
	var cutOff *xml.SyntaxError
	return !isUntrusted(err) &&
		(errors.As(err, &way) || errors.As(err, &network) || errors.As(err, &cutOff) || errors.Is(err, io.ErrUnexpectedEOF))
}

// isUntrusted says that the server was reached, and that it is not the expected
// vCenter.
func isUntrusted(err error) bool {
	var certificate *tls.CertificateVerificationError
	var other *wrongCertificate
	return errors.As(err, &certificate) || errors.As(err, &other)
}

// neverArrived says that a call cannot have been carried out, because no connection to
// the vCenter was made. An answer 502 or 503 does not say so: the proxy may have
// passed the call on before it lost the service behind it.
func neverArrived(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// classOf is the class that an error has or, when it has none, the one that follows
// from its kind: errors of certificates, of the account's rights and of names are
// BadInput; all others are the infrastructure's.
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

// relocationFailed says whether a relocation whose task ended in an error had begun to
// move the machine. What vCenter refuses beforehand, or when it cannot reach a host,
// is no failed migration; neither is a relocation that was cancelled, or that ran out
// of disk space.
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
