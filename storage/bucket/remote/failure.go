package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"tablekeeper/storage/bucket"
)

// AnswerError is an answer of the store that is not a success.
type AnswerError struct {
	Status  int    // of HTTP
	Code    string // of S3, "" if the answer had none
	Message string
}

func (f *AnswerError) Error() string {
	text := f.Message
	if text == "" {
		text = http.StatusText(f.Status)
	}
	if f.Code == "" {
		return fmt.Sprintf("%s (HTTP %d)", text, f.Status)
	}
	return fmt.Sprintf("%s (%s, HTTP %d)", strings.TrimSuffix(text, "."), f.Code, f.Status)
}

// errNoUpload is the answer to a part or the completion of an upload that the store does not know, or not any more.
var errNoUpload = errors.New("no such upload")

// codes are S3's words where the status alone does not tell; see the list of error codes in its API reference.
var codes = map[string]error{
	"NoSuchBucket":                   bucket.ErrNoBucket,
	"NoSuchKey":                      fs.ErrNotExist,
	"NoSuchUpload":                   errNoUpload,
	"NotFound":                       fs.ErrNotExist,
	"PreconditionFailed":             bucket.ErrPrecondition,
	"ConditionalRequestConflict":     bucket.ErrUnreachable,
	"OperationAborted":               bucket.ErrUnreachable,
	"RequestTimeout":                 bucket.ErrUnreachable,
	"SlowDown":                       bucket.ErrUnreachable,
	"ServiceUnavailable":             bucket.ErrUnreachable,
	"InternalError":                  bucket.ErrUnreachable,
	"Throttling":                     bucket.ErrUnreachable,
	"ThrottlingException":            bucket.ErrUnreachable,
	"RequestLimitExceeded":           bucket.ErrUnreachable,
	"InvalidAccessKeyId":             bucket.ErrDenied,
	"SignatureDoesNotMatch":          bucket.ErrDenied,
	"ExpiredToken":                   bucket.ErrDenied,
	"InvalidToken":                   bucket.ErrDenied,
	"XAdminUserNotFound":             bucket.ErrDenied, // versitygw, with status 404
	"XMinioStorageFull":              bucket.ErrFull,
	"QuotaExceeded":                  bucket.ErrFull,
	"XMinioAdminBucketQuotaExceeded": bucket.ErrFull,
}

// meaning is the contract's word for an answer, nil if it has none.
func (f *AnswerError) meaning() error {
	if known := codes[f.Code]; known != nil {
		return known
	}
	switch {
	case f.Status == http.StatusNotFound && f.Code == "":
		return fs.ErrNotExist
	case f.Status == http.StatusPreconditionFailed:
		return bucket.ErrPrecondition
	case f.Status == http.StatusUnauthorized || f.Status == http.StatusForbidden:
		return bucket.ErrDenied
	case f.Status == http.StatusInsufficientStorage:
		return bucket.ErrFull
	case f.Status == http.StatusRequestTimeout || f.Status == http.StatusTooManyRequests:
		return bucket.ErrUnreachable
	case f.Status >= 500 && f.Status != http.StatusNotImplemented:
		return bucket.ErrUnreachable
	}
	return nil
}

// explain adds the contract's word to an error of a request.
func explain(ctx context.Context, err error) error {
	if err == nil || told(err) {
		return err
	}
	var failure *AnswerError
	if errors.As(err, &failure) {
		if word := failure.meaning(); word != nil {
			return fmt.Errorf("%w: %w", word, err)
		}
		return err
	}
	if ctx.Err() != nil {
		if cause := context.Cause(ctx); !errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	if noAnswer(err) {
		return fmt.Errorf("%w: %w", bucket.ErrUnreachable, err)
	}
	return err
}

// told is whether an error has its word already.
func told(err error) bool {
	for _, word := range []error{
		fs.ErrNotExist, errNoUpload, bucket.ErrExists, bucket.ErrPrecondition, bucket.ErrUnreachable, bucket.ErrDenied, bucket.ErrNoBucket,
		bucket.ErrFull, bucket.ErrKey, bucket.ErrBody,
	} {
		if errors.Is(err, word) {
			return true
		}
	}
	var source *sourceError
	return errors.As(err, &source)
}

// noAnswer is whether a request failed on its way, which another attempt may not. A certificate that is not trusted stays so.
func noAnswer(err error) bool {
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	if errors.As(err, &certificate) || errors.As(err, &authority) || errors.As(err, &record) {
		return false
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return false // net/http has no type for it
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// sourceError is an error of the reader that is put: it says nothing about the store, even if it is another store's.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
