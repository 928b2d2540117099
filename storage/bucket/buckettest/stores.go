package buckettest

import (
	"context"
	"net/url"
	"testing"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/remote"
)

// OpenFunc is how the S3 packages open a bucket.
type OpenFunc func(ctx context.Context, u *url.URL, opts remote.Options) (*remote.Store, error)

// RunStore runs the suite for an S3 package on a server.
func RunStore(t *testing.T, s *Server, scheme string, open OpenFunc) {
	var name string
	at := func(t *testing.T, where string, change func(*url.URL, *remote.Options)) bucket.Bucket {
		u := s.URL(t, scheme, where)
		opts := s.Options()
		if change != nil {
			change(u, &opts)
		}
		b, err := open(t.Context(), u, opts)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	Run(t, Options{
		Open: func(t *testing.T) bucket.Bucket {
			name = s.NewBucket(t)
			return at(t, name+"/some/prefix", nil)
		},
		Missing: func(t *testing.T) bucket.Bucket { return at(t, "there-is-no-such-bucket", nil) },
		Denied: []func(t *testing.T) bucket.Bucket{
			func(t *testing.T) bucket.Bucket {
				return at(t, s.NewBucket(t), func(_ *url.URL, o *remote.Options) { o.Keys.Secret = "not the secret" })
			},
			func(t *testing.T) bucket.Bucket {
				return at(t, s.NewBucket(t), func(_ *url.URL, o *remote.Options) { o.Keys.ID = "nobody" })
			},
		},
		Unreachable: []func(t *testing.T) bucket.Bucket{func(t *testing.T) bucket.Bucket {
			return at(t, "any-bucket", func(u *url.URL, o *remote.Options) {
				q := u.Query()
				q.Set("endpoint", "http://"+freeAddress(t))
				u.RawQuery = q.Encode()
				o.Backoff = bucket.Backoff{Attempts: 1}
			})
		}},
		Litter: func(t *testing.T) []string { return s.Uploads(t, name) },
		Large:  11 << 20,
	})
}

// Options open a bucket of the server with its keys, with parts as small and pages as short as it allows.
func (s *Server) Options() remote.Options {
	return remote.Options{
		Keys:     &remote.Keys{ID: s.AccessKey, Secret: s.SecretKey},
		Getenv:   func(string) string { return "" },
		PartSize: 5 << 20,
		ListPage: 7,
	}
}
