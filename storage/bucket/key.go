package bucket

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what every store keeps: S3 allows keys of 1024 bytes, 10 tags of 128 and 256 characters; file systems allow names of 255 bytes, of which dir
// needs a few.
const (
	MaxKey     = 1024
	MaxSegment = 240
	maxTags    = 10
	maxTagKey  = 128
	maxTagText = 256
)

// CheckKey refuses, with ErrKey, keys that some store, file system or shell would take for something else: empty, over 1024 bytes,
// not UTF-8, with control characters, backslashes or any of <>:"|?*, with a leading or trailing slash, or with a segment between slashes
// that is empty, over 240 bytes, begins with a dot (so neither "..", nor hidden files), or ends with a dot or a space.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: empty key", ErrKey)
	}
	if err := checkText("key", key); err != nil {
		return err
	}
	for segment := range strings.SplitSeq(key, "/") {
		if err := checkSegment(segment); err != nil {
			return fmt.Errorf("%w in key %q", err, shorten(key))
		}
	}
	return nil
}

// CheckPrefix refuses, with ErrKey, what can begin no key that CheckKey allows. The empty prefix begins every key.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := checkText("prefix", prefix); err != nil {
		return err
	}
	segments := strings.Split(prefix, "/")
	for _, segment := range segments[:len(segments)-1] {
		if err := checkSegment(segment); err != nil {
			return fmt.Errorf("%w in prefix %q", err, shorten(prefix))
		}
	}
	if last := segments[len(segments)-1]; strings.HasPrefix(last, ".") {
		return fmt.Errorf("%w: segment %q begins with a dot in prefix %q", ErrKey, last, shorten(prefix))
	}
	return nil
}

func checkText(what, s string) error {
	switch {
	case len(s) > MaxKey:
		return fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", ErrKey, what, len(s), MaxKey)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s %q is not UTF-8", ErrKey, what, shorten(s))
	case strings.ContainsFunc(s, forbidden):
		return fmt.Errorf("%w: %s %q has a control character or one of \\<>:\"|?*", ErrKey, what, shorten(s))
	}
	return nil
}

func forbidden(r rune) bool {
	return unicode.IsControl(r) || strings.ContainsRune(`\<>:"|?*`, r) || r == utf8.RuneError
}

func checkSegment(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty segment", ErrKey)
	case len(s) > MaxSegment:
		return fmt.Errorf("%w: segment of %d bytes, at most %d are allowed,", ErrKey, len(s), MaxSegment)
	case s[0] == '.':
		return fmt.Errorf("%w: segment %q begins with a dot", ErrKey, s)
	case strings.HasSuffix(s, ".") || strings.HasSuffix(s, " "):
		return fmt.Errorf("%w: segment %q ends with a dot or a space", ErrKey, s)
	}
	return nil
}

// CheckTags refuses, with ErrKey, tags outside the limits of S3: 10 of them, keys of 1 to 128 and values of up to 256 characters, each
// of ASCII letters, digits, spaces and + - = . _ : / @.
func CheckTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("%w: %d tags, at most %d are allowed", ErrKey, len(tags), maxTags)
	}
	for k, v := range tags {
		if k == "" || utf8.RuneCountInString(k) > maxTagKey || !tagText(k) {
			return fmt.Errorf("%w: tag key %q", ErrKey, shorten(k))
		}
		if utf8.RuneCountInString(v) > maxTagText || !tagText(v) {
			return fmt.Errorf("%w: value %q of tag %s", ErrKey, shorten(v), k)
		}
	}
	return nil
}

func tagText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune(" +-=._:/@", r)
	})
}

// shorten keeps hostile input from flooding an error message.
func shorten(s string) string {
	if len(s) <= 80 {
		return s
	}
	return s[:77] + "..."
}
