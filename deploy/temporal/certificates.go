package temporal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.temporal.io/api/serviceerror"

	"heliotrope/internal/fault"
)

// Environment variables that the advice mentions, see
// https://docs.temporal.io/references/client-environment-configuration.
const (
	envCA     = "TEMPORAL_TLS_SERVER_CA_CERT_PATH"
	envName   = "TEMPORAL_TLS_SERVER_NAME"
	envClient = "TEMPORAL_TLS_CLIENT_CERT_PATH"
)

// explain adds advice to a connection error. An error caused by the user's settings becomes
// fault.BadInput.
func (s Settings) explain(err error) error {
	var missing *serviceerror.NamespaceNotFound
	var classified *fault.Error
	switch {
	case err == nil || errors.As(err, &classified):
		return err
	case errors.As(err, &missing):
		return fault.New(fault.BadInput, "%w; make the namespace with `heliotrope temporal setup`, or set TEMPORAL_NAMESPACE", err)
	case refused(err):
		return fault.New(fault.BadInput, "%w; check TEMPORAL_API_KEY and the TEMPORAL_TLS_… variables", err)
	}
	return fmt.Errorf("%w; is it running, and are TEMPORAL_ADDRESS and TEMPORAL_TLS… right?", err)
}

// refused reports whether the server has answered with a refusal that will not change.
func refused(err error) bool {
	var denied *serviceerror.PermissionDenied
	return errors.As(err, &denied)
}

// checkCertificates makes a TLS connection to the server. When one side refuses the other's
// certificate, it returns fault.BadInput that says which side, whose certificate, and what to do.
// All other problems return nil, because the actual connection will find them. gRPC itself would
// report only a part of the error's text, or nothing: a server's refusal arrives after the client
// regards the handshake as complete (RFC 8446, section 4.4.2.4).
func (s Settings) checkCertificates(ctx context.Context) error {
	config := s.options.ConnectionOptions.TLS
	if config == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	config = config.Clone()
	config.NextProtos = []string{"h2"} // as gRPC does
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.Address)
	if err == nil {
		defer func() { _ = conn.Close() }() // nothing was sent through it
		_ = conn.SetReadDeadline(time.Now().Add(answerWithin))
		_, err = conn.Read(make([]byte, 1)) // the first byte of its HTTP/2 settings, or its refusal
	}
	if advice := certificateAdvice(err, s.ownCertificate()); advice != "" {
		return fault.New(fault.BadInput, "connect to Temporal at %s: %w; %s", s.Address, err, advice)
	}
	return nil
}

// refusals are the alerts with which the other side refuses a certificate (RFC 8446, section 6):
// bad, of an unsupported kind, revoked, expired, unknown, of an unknown authority, and missing.
var refusals = []tls.AlertError{42, 43, 44, 45, 46, 48, 116}

// refusesCertificate reports whether the error is such an alert. crypto/tls gives the other
// side's alerts a type of their own, with the text of tls.AlertError.
func refusesCertificate(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" &&
		slices.ContainsFunc(refusals, func(alert tls.AlertError) bool { return alert.Error() == remote.Err.Error() })
}

// certificateAdvice returns what to do about refused certificates; "" when the error is about
// something else. own says what is wrong with our certificate.
func certificateAdvice(err error, own string) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		return "the server's certificate is not of the authority in " + envCA + ": another server, or another authority"
	case errors.As(err, &name):
		return "the server's certificate is for another name: is TEMPORAL_ADDRESS right? If it is, set " + envName + " to a name of the certificate"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired, or one of the two clocks is wrong: have its administrator replace it"
	case errors.As(err, &invalid):
		return "the server's certificate is not in order: have its administrator replace it"
	case errors.As(err, &plain):
		return "the server does not speak TLS, and the settings want it: unset TEMPORAL_TLS…, or name another server"
	case refusesCertificate(err):
		return own
	}
	return ""
}

// ownCertificate returns why a server could refuse our certificate.
func (s Settings) ownCertificate() string {
	config := s.options.ConnectionOptions.TLS
	if config == nil || len(config.Certificates) == 0 || len(config.Certificates[0].Certificate) == 0 {
		return "the server wants a client's certificate: set " + envClient + " and TEMPORAL_TLS_CLIENT_KEY_PATH"
	}
	own, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		return "the certificate in " + envClient + " cannot be read: " + err.Error()
	}
	if now := time.Now(); now.After(own.NotAfter) || now.Before(own.NotBefore) {
		return fmt.Sprintf("the certificate in %s is valid from %s to %s only: replace it", envClient, own.NotBefore.Format(time.RFC3339), own.NotAfter.Format(time.RFC3339))
	}
	return fmt.Sprintf("the server does not take the certificate in %s (of %s, signed by %s): is it of an authority that the server knows, and for clients?",
		envClient, own.Subject, own.Issuer)
}
