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
		{t.Context(), &AnswerError{404, "NoSuchKey", ""}, fs.ErrNotExist},
		{t.Context(), &AnswerError{404, "", ""}, fs.ErrNotExist},
		{t.Context(), &AnswerError{404, "NoSuchBucket", ""}, bucket.ErrNoBucket},
		{t.Context(), &AnswerError{404, "NoSuchUpload", ""}, errNoUpload},
		{t.Context(), &AnswerError{404, "XAdminUserNotFound", ""}, bucket.ErrDenied},
		{t.Context(), &AnswerError{412, "PreconditionFailed", ""}, bucket.ErrPrecondition},
		{t.Context(), &AnswerError{409, "ConditionalRequestConflict", ""}, bucket.ErrUnreachable},
		{t.Context(), &AnswerError{403, "AccessDenied", ""}, bucket.ErrDenied},
		{t.Context(), &AnswerError{403, "RequestTimeTooSkewed", ""}, bucket.ErrDenied},
		{t.Context(), &AnswerError{400, "ExpiredToken", ""}, bucket.ErrDenied},
		{t.Context(), &AnswerError{503, "SlowDown", ""}, bucket.ErrUnreachable},
		{t.Context(), &AnswerError{500, "", ""}, bucket.ErrUnreachable},
		{t.Context(), &AnswerError{200, "InternalError", ""}, bucket.ErrUnreachable},
		{t.Context(), &AnswerError{507, "XMinioStorageFull", ""}, bucket.ErrFull},
		{t.Context(), &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, bucket.ErrUnreachable},
		{t.Context(), fmt.Errorf("read: %w", io.ErrUnexpectedEOF), bucket.ErrUnreachable},
		{ended, &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, context.Canceled},
		{ended, fmt.Errorf("x: %w", context.Canceled), context.Canceled},
	} {
		if got := explain(test.ctx, test.err); !errors.Is(got, test.want) || !errors.Is(got, test.err) {
			t.Errorf("explain(%v) = %v, want %v", test.err, got, test.want)
		}
	}
	for _, err := range []error{&AnswerError{404, "SomethingElse", ""}, &AnswerError{501, "NotImplemented", ""}, &AnswerError{400, "InvalidArgument", ""}, &url.Error{Op: "Get", Err: x509.UnknownAuthorityError{}}, &sourceError{io.ErrUnexpectedEOF}} {
		if got := explain(t.Context(), err); got.Error() != err.Error() {
			t.Errorf("explain(%v) = %v, want it as it is", err, got)
		}
	}
}
