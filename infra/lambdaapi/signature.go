package lambdaapi

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a request's time may be from ours, either way, as AWS has it.
const maxSkew = 5 * time.Minute

// bodyPatience is how long a request may take to come in.
const bodyPatience = time.Minute

const (
	algorithm  = "AWS4-HMAC-SHA256"
	amzTime    = "20060102T150405Z"
	headerDate = "X-Amz-Date"
	headerHash = "X-Amz-Content-Sha256"
)

// Verifier checks Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html) in the
// Authorization header against one key. Any region will do; the service must be lambda. Signatures in the query and temporary
// keys are refused.
type Verifier struct {
	KeyID  string
	Secret string
	Now    func() time.Time // default time.Now
}

// authorization is that header, taken apart.
type authorization struct {
	keyID, date, region, service string
	signed                       []string // names of headers, in lower case, as signed
	signature                    []byte
}

// admit verifies a request, and reads its body for that.
func (v Verifier) admit(w http.ResponseWriter, r *http.Request) error {
	a, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return err
	}
	// Before the body is read: strangers get no memory of ours.
	if subtle.ConstantTimeCompare([]byte(a.keyID), []byte(v.KeyID)) != 1 || v.Secret == "" || r.Header.Get("X-Amz-Security-Token") != "" {
		return forbidden("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	when, err := v.timeOf(r, a)
	if err != nil {
		return err
	}
	if err := coversEnough(r, a.signed); err != nil {
		return err
	}
	hash, err := takeBody(w, r)
	if err != nil {
		return err
	}
	if !hmac.Equal(a.signature, v.sign(a, when, canonical(r, a.signed, hash))) {
		return forbidden("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. "+
			"Check your secret access key and signing method.")
	}
	return nil
}

func forbidden(code, message string) *Error {
	return userError(http.StatusForbidden, code, "%s", message)
}

// parseAuthorization reads AWS4-HMAC-SHA256 Credential=ID/date/region/service/aws4_request, SignedHeaders=a;b, Signature=hex.
func parseAuthorization(header string) (a authorization, err error) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return a, forbidden("MissingAuthenticationTokenException", "Missing Authentication Token: sign the request ("+algorithm+").")
	}
	fields := map[string]string{}
	for _, field := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	a.signature, err = hex.DecodeString(fields["Signature"])
	if err != nil || len(a.signature) != sha256.Size || len(scope) != 5 || scope[4] != "aws4_request" || fields["SignedHeaders"] == "" {
		return a, forbidden("IncompleteSignatureException", "The Authorization header needs Credential, SignedHeaders and Signature.")
	}
	a.keyID, a.date, a.region, a.service = scope[0], scope[1], scope[2], scope[3]
	a.signed = strings.Split(fields["SignedHeaders"], ";")
	if a.service != "lambda" {
		return a, forbidden("InvalidSignatureException", "Credential should be scoped to correct service: 'lambda'.")
	}
	return a, nil
}

func (v Verifier) timeOf(r *http.Request, a authorization) (time.Time, error) {
	when, err := time.Parse(amzTime, r.Header.Get(headerDate))
	if err != nil || when.Format("20060102") != a.date {
		return when, forbidden("IncompleteSignatureException", headerDate+" must be the request's time, and of the credential's day.")
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	if skew := now().Sub(when); skew.Abs() > maxSkew {
		word := "expired"
		if skew < 0 {
			word = "not yet current"
		}
		return when, forbidden("InvalidSignatureException", fmt.Sprintf("Signature %s: %s is more than %s from %s; check the clock.",
			word, when.Format(amzTime), maxSkew, now().UTC().Format(amzTime)))
	}
	return when, nil
}

// coversEnough refuses a signature that leaves out what the request means: the host, and every header of AWS's.
func coversEnough(r *http.Request, signed []string) error {
	needed := []string{"host"}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			needed = append(needed, lower)
		}
	}
	for _, name := range needed {
		if !slices.Contains(signed, name) {
			return forbidden("InvalidSignatureException", "'"+name+"' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	return nil
}

// takeBody reads the body, puts it back, and returns its hash.
func takeBody(w http.ResponseWriter, r *http.Request) (string, error) {
	control := http.NewResponseController(w)
	// Where there are no deadlines, as in a test's recorder, nobody can be slow either.
	_ = control.SetReadDeadline(time.Now().Add(bodyPatience))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxSyncPayload))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return "", requestTooLarge(MaxSyncPayload)
	}
	if err != nil {
		return "", InvalidContent(fmt.Errorf("read the payload: %w", err))
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if said := r.Header.Get(headerHash); said != "" && !strings.EqualFold(said, hash) {
		return "", forbidden("InvalidSignatureException", headerHash+" is not the hash of the body.")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return hash, nil
}

// canonical is the request in the one form that both sides sign.
func canonical(r *http.Request, signed []string, hash string) string {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if said := r.Header.Get(headerHash); said != "" {
		hash = said
	}
	lines := []string{r.Method, encode(path, true), canonicalQuery(query)}
	for _, name := range signed {
		lines = append(lines, name+":"+headerValue(r, name))
	}
	return strings.Join(append(lines, "", strings.Join(signed, ";"), hash), "\n")
}

func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

func canonicalQuery(raw string) string {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return raw // nobody signs that
	}
	var pairs []string
	for _, name := range slices.SortedFunc(maps.Keys(values), func(a, b string) int { return strings.Compare(encode(a, false), encode(b, false)) }) {
		all := values[name]
		for i, value := range all {
			all[i] = encode(name, false) + "=" + encode(value, false)
		}
		slices.Sort(all)
		pairs = append(pairs, all...)
	}
	return strings.Join(pairs, "&")
}

// encode percent-encodes all but the unreserved characters of RFC 3986. The path of a request is encoded as it is sent, so a percent sign in
// it becomes %25.
func encode(s string, slash bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0, slash && c == '/':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// sign derives the key of the day, region and service, and signs with it.
func (v Verifier) sign(a authorization, when time.Time, request string) []byte {
	sum := sha256.Sum256([]byte(request))
	scope := strings.Join([]string{a.date, a.region, a.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, when.Format(amzTime), scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + v.Secret)
	for _, part := range []string{a.date, a.region, a.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return key
}
