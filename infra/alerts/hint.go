package alerts

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"github.com/aws/smithy-go"
)

// ErrNobody says that no browser is subscribed, so that nobody was told.
var ErrNobody = errors.New("no browser is subscribed")

// TestError is a test message that was not delivered, with the next step.
type TestError struct{ err error }

func (e *TestError) Error() string { return e.err.Error() }
func (e *TestError) Unwrap() error { return e.err }

// Hint is what whoever configured the channel can do.
func (e *TestError) Hint() string { return hintOf(e.err) }

// hintOf says what to do about a channel that failed; "" if nothing better is known than the error itself.
func hintOf(err error) string {
	var status *StatusError
	var api smithy.APIError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.Is(err, ErrPrivateAddress):
		return "allow_private: true, if the receiver is in your own network"
	case errors.Is(err, ErrNobody):
		return "open the dashboard's page Alerts in a browser, and subscribe it"
	case errors.As(err, &status):
		return statusHint(status.Code)
	case errors.As(err, &api):
		return awsHint(api.ErrorCode())
	case errors.As(err, &name):
		return "correct the host in the channel's address, or the name server of this machine"
	case errors.As(err, &certificate):
		return "the receiver's certificate is not one that this machine trusts"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network):
		return "see that the receiver is up, and that this machine reaches it"
	}
	return ""
}

func statusHint(code int) string {
	switch {
	case code >= 300 && code < 400:
		return "configure the address that the redirect leads to"
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return "compare secret_file and url with what the receiver shows"
	case code == http.StatusNotFound, code == http.StatusGone, code == http.StatusMethodNotAllowed:
		return "correct url: the receiver is there, but not at this address"
	case code == http.StatusTooManyRequests:
		return "wait: the receiver takes no more for now"
	case code >= 500:
		return "look at the receiver: it failed, this side did not"
	}
	return "look at the receiver's own log: it does not take the message"
}

func awsHint(code string) string {
	switch code {
	case "NotFound", "NotFoundException", "InvalidParameter", "InvalidParameterException":
		return "correct arn, or make the topic: tablekeeper provision --topic NAME"
	case "AuthorizationError", "AuthorizationErrorException", "AccessDenied", "AccessDeniedException":
		return "allow sns:Publish on the topic to these credentials"
	case "InvalidClientTokenId", "InvalidClientTokenIdException", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException":
		return "renew the AWS credentials that this process finds"
	}
	return "see what SNS means by " + code
}
