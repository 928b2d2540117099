package buckettest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tablekeeper/storage/bucket"
)

func (s *suite) hostileKeys(t *testing.T) {
	b := s.Open(t)
	put(t, b, "a/b", []byte("kept"), bucket.PutOptions{})
	for _, key := range HostileKeys() {
		calls := everyCall(t.Context(), b, key)
		delete(calls, "List")
		for op, err := range calls {
			if !errors.Is(err, bucket.ErrKey) {
				t.Errorf("%s(%q): %v, want %v", op, key, err, bucket.ErrKey)
			}
		}
	}
	for _, prefix := range []string{"../", "/", "a//", "a/../", ".", "a/.", "a\x00", strings.Repeat("x", 2000), "\xff"} {
		for _, err := range b.List(t.Context(), prefix, "") {
			wantError(t, fmt.Sprintf("List(%q)", prefix), err, bucket.ErrKey)
		}
	}
	if got := keys(t, b, "", ""); len(got) != 1 || got[0] != "a/b" {
		t.Errorf("the bucket has %q now", got)
	}
	s.clean(t)
}

// HostileKeys are names that no bucket may accept.
func HostileKeys() []string {
	return []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../../etc/passwd", "a/./b", ".hidden", "a/.bucket/b.json",
		"a\x00b", "a\nb", "a\\b", "a\x7f", "\xff\xfe", "c:", "a/b?c", "a*", "a|b", "a/b ", "a/b.", "a/" + strings.Repeat("n", 241),
		strings.Repeat("k/", 512) + "k",
	}
}

func (s *suite) unusualKeys(t *testing.T) {
	b := s.Open(t)
	want := []string{
		"! % & ' ( ) + , ; = @ [ ] ^ _ ` { } ~ # $", "a b/c d", "a+b%2Fc", "deep/" + strings.Repeat("er/", 60) + "x", "gut/größe-日本", "n/" + strings.Repeat("n", 240),
		"orders/20261122T193300.000Z-0123abcd.db.zst.age",
	}
	for i, key := range want {
		content := random(uint64(i), 100+i)
		put(t, b, key, content, bucket.PutOptions{})
		holds(t, b, key, content)
		if err := b.SetTags(t.Context(), key, map[string]string{"k": "v"}); err != nil {
			t.Errorf("SetTags(%q): %v", key, err)
		}
	}
	if got := keys(t, b, "", ""); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("List = %q,\nwant %q", got, want)
	}
	for _, key := range want {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
	if got := keys(t, b, "", ""); len(got) > 0 {
		t.Errorf("after all deletes: %q", got)
	}
}
