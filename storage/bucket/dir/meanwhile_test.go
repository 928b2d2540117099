package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
)

// readings are what does not wait for those who write. Each gives what it read of t/old, "" if that is not there.
var readings = map[string]func(context.Context, *Bucket) (string, error){
	"get": func(ctx context.Context, b *Bucket) (string, error) {
		rc, err := b.Get(ctx, "t/old", 0, -1)
		if err != nil {
			return "", ignoreMissing(err)
		}
		content, err := io.ReadAll(rc)
		return string(content), errors.Join(err, rc.Close())
	},
	"head": func(ctx context.Context, b *Bucket) (string, error) {
		info, err := b.Head(ctx, "t/old")
		return described(info), ignoreMissing(err)
	},
	"list": func(ctx context.Context, b *Bucket) (read string, err error) {
		var others []string
		for info, err := range b.List(ctx, "", "") {
			switch {
			case err != nil:
				return "", err
			case info.Key == "t/old":
				read = described(info)
			default:
				others = append(others, info.Key)
			}
		}
		if !slices.Equal(others, []string{"z/other"}) {
			err = fmt.Errorf("listed %q besides", others)
		}
		return read, err
	},
}

// described is the content of t/old that an Info is of.
func described(info bucket.Info) string {
	for _, text := range []string{"old content", "new content"} {
		digest := bucket.NewDigest()
		_, _ = io.WriteString(digest, text) // a Digest's Write never fails
		if info.SHA256 == digest.SHA256() {
			return text
		}
	}
	return ""
}

// TestOthersWriteMeanwhile: another process does its work before each disk call of a reader in turn, who sees what was there before or what
// is there after it, and no error.
func TestOthersWriteMeanwhile(t *testing.T) {
	for name, read := range readings {
		for _, other := range operations {
			if other.name != "put over" && other.name != "delete" {
				continue
			}
			t.Run(name+" and "+other.name, func(t *testing.T) {
				after, _, _ := strings.Cut(other.after["t/old"], " v=")
				for n := 0; ; n++ {
					b := start(t)
					if _, err := b.Put(t.Context(), "z/other", strings.NewReader("x"), bucket.PutOptions{}); err != nil {
						t.Fatal(err)
					}
					s := &script{fail: n, meanwhile: func() {
						if err := other.run(t.Context(), b); err != nil {
							t.Fatal(err)
						}
					}}
					got, err := read(t.Context(), under(b, s))
					if len(s.log) <= n {
						return
					}
					if err != nil || got != "old content" && got != after {
						t.Errorf("before call %d (%s): %q, %v", n, s.log[n], got, err)
					}
				}
			})
		}
	}
}
