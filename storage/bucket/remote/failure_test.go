package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"testing"

	"tablekeeper/storage/bucket"
)

func TestExplain(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want error
	}{
		{t.Context(), &Failure{404, "NoSuchKey", ""}, fs.ErrNotExist},
		{t.Context(), &Failure{404, "", ""}, fs.ErrNotExist},
		{t.Context(), &Failure{404, "NoSuchBucket", ""}, bucket.ErrNoBucket},
		{t.Context(), &Failure{404, "NoSuchUpload", ""}, errNoUpload},
		{t.Context(), &Failure{404, "XAdminUserNotFound", ""}, bucket.ErrDenied},
		{t.Context(), &Failure{412, "PreconditionFailed", ""}, bucket.ErrPrecondition},
		{t.Context(), &Failure{409, "ConditionalRequestConflict", ""}, bucket.ErrUnreachable},
		{t.Context(), &Failure{403, "AccessDenied", ""}, bucket.ErrDenied},
		{t.Context(), &Failure{403, "RequestTimeTooSkewed", ""}, bucket.ErrDenied},
		{t.Context(), &Failure{400, "ExpiredToken", ""}, bucket.ErrDenied},
		{t.Context(), &Failure{503, "SlowDown", ""}, bucket.ErrUnreachable},
		{t.Context(), &Failure{500, "", ""}, bucket.ErrUnreachable},
		{t.Context(), &Failure{200, "InternalError", ""}, bucket.ErrUnreachable},
		{t.Context(), &Failure{507, "XMinioStorageFull", ""}, bucket.ErrFull},
		{t.Context(), &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, bucket.ErrUnreachable},
		{t.Context(), fmt.Errorf("read: %w", io.ErrUnexpectedEOF), bucket.ErrUnreachable},
		{ended, &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, context.Canceled},
		{ended, fmt.Errorf("x: %w", context.Canceled), context.Canceled},
	} {
		if got := explain(test.ctx, test.err); !errors.Is(got, test.want) || !errors.Is(got, test.err) {
			t.Errorf("explain(%v) = %v, want %v", test.err, got, test.want)
		}
	}
	for _, err := range []error{&Failure{404, "SomethingElse", ""}, &Failure{501, "NotImplemented", ""}, &Failure{400, "InvalidArgument", ""}, &url.Error{Op: "Get", Err: x509.UnknownAuthorityError{}}, &sourceError{io.ErrUnexpectedEOF}} {
		if got := explain(t.Context(), err); got != err {
			t.Errorf("explain(%v) = %v, want it as it is", err, got)
		}
	}
}
