package cmd

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pushService plays the push service of a browser vendor, and holds the keys that the browser would hold. It takes no message that is not
// as RFC 8030, 8291 and 8292 say.
type pushService struct {
	*httptest.Server
	t        *testing.T
	key      *ecdh.PrivateKey
	auth     []byte
	messages chan pushed
	ended    atomic.Bool  // the subscription
	tests    atomic.Int64 // test messages
	vapid    atomic.Value // the public key of the last message that was taken
}

// pushed is a message as the page's worker would get it.
type pushed struct {
	Title string `json:"title"`
	text  string
}

func newPushService(t *testing.T) *pushService {
	t.Helper()
	p := &pushService{t: t, auth: make([]byte, 16), messages: make(chan pushed, 1000)}
	var err error
	if p.key, err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := rand.Read(p.auth); err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(http.HandlerFunc(p.take))
	t.Cleanup(p.Close)
	return p
}

// subscription is what PushManager.subscribe() gives.
func (p *pushService) subscription(w http.ResponseWriter, _ *http.Request) {
	if err := json.NewEncoder(w).Encode(map[string]string{"endpoint": p.URL + "/browser", "p256dh": raw64(p.key.PublicKey().Bytes()), "auth": raw64(p.auth)}); err != nil {
		p.t.Error(err)
	}
}

func (p *pushService) end(*http.Request) (string, error) {
	p.ended.Store(true)
	return "", nil
}

// asked is how many test messages came, good or not. Alerts come when they come.
func (p *pushService) asked(*http.Request) (string, error) {
	return strconv.FormatInt(p.tests.Load(), 10), nil
}

// vapidKey is whose the last message was.
func (p *pushService) vapidKey(*http.Request) (string, error) {
	key, _ := p.vapid.Load().(string)
	return key, nil
}

func (p *pushService) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4097))
	if err == nil {
		err = p.admit(r, len(body))
	}
	var text []byte
	if err == nil {
		text, err = unsealPush(p.key, p.auth, body)
	}
	m := pushed{text: string(text)}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		p.t.Errorf("a push message is refused: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if m.Title == "test message" {
		p.tests.Add(1)
		if p.ended.Load() { // an alert that comes first does not take the end away
			w.WriteHeader(http.StatusGone)
			return
		}
	}
	_, key, _ := strings.Cut(r.Header.Get("Authorization"), "k=")
	p.vapid.Store(key)
	p.messages <- m
	w.WriteHeader(http.StatusCreated)
}

// admit looks at all but the content.
func (p *pushService) admit(r *http.Request, size int) error {
	if r.Method != http.MethodPost || r.URL.Path != "/browser" || r.Header.Get("Content-Encoding") != "aes128gcm" || size > 4096 {
		return fmt.Errorf("%s %s, %q, %d bytes", r.Method, r.URL, r.Header.Get("Content-Encoding"), size)
	}
	if ttl, err := strconv.Atoi(r.Header.Get("TTL")); err != nil || ttl < 0 {
		return fmt.Errorf("TTL %q (RFC 8030, section 5.2)", r.Header.Get("TTL"))
	}
	return checkVAPID(r.Header.Get("Authorization"), p.URL, "mailto:ops@example.org", time.Now())
}

// checkVAPID verifies an Authorization header of RFC 8292 for a push service's origin.
func checkVAPID(header, origin, contact string, now time.Time) error {
	var token, public string
	for part := range strings.SplitSeq(strings.TrimPrefix(header, "vapid "), ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "t":
			token = value
		case "k":
			public = value
		}
	}
	parts := strings.Split(token, ".")
	if !strings.HasPrefix(header, "vapid ") || len(parts) != 3 {
		return fmt.Errorf("authorization %q", header)
	}
	var head struct{ Alg string }
	var claims struct {
		Aud, Sub string
		Exp      int64
	}
	for i, into := range []any{&head, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err := errors.Join(err, json.Unmarshal(text, into)); err != nil {
			return fmt.Errorf("part %d of the token: %w", i+1, err)
		}
	}
	exp := time.Unix(claims.Exp, 0)
	if head.Alg != "ES256" || claims.Aud != origin || claims.Sub != contact || !exp.After(now) || exp.After(now.Add(24*time.Hour)) {
		return fmt.Errorf("token %+v %+v", head, claims)
	}
	return checkES256(public, parts[0]+"."+parts[1], parts[2])
}

func checkES256(public, signed, signature string) error {
	point, err := base64.RawURLEncoding.DecodeString(public)
	if err != nil {
		return err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	sum, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(sum) != 64 {
		return fmt.Errorf("a signature of %d bytes, %w", len(sum), err)
	}
	digest := sha256.Sum256([]byte(signed))
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sum[:32]), new(big.Int).SetBytes(sum[32:])) {
		return errors.New("the signature is of another key")
	}
	return nil
}

// unsealPush decrypts a message as a browser does: RFC 8291, section 3.4, in the one record of RFC 8188.
func unsealPush(key *ecdh.PrivateKey, auth, body []byte) ([]byte, error) {
	if len(body) < 21 || len(body) < 21+int(body[20]) {
		return nil, fmt.Errorf("a message of %d bytes", len(body))
	}
	salt, size, sender, record := body[:16], int(body[16])<<24|int(body[17])<<16|int(body[18])<<8|int(body[19]), body[21:21+int(body[20])], body[21+int(body[20]):]
	if size < len(record) {
		return nil, fmt.Errorf("records of %d bytes, and %d bytes came", size, len(record))
	}
	theirs, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, err
	}
	shared, err := key.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	secret, err := hkdf.Key(sha256.New, shared, auth, "WebPush: info\x00"+string(key.PublicKey().Bytes())+string(sender), 32)
	if err != nil {
		return nil, err
	}
	contentKey, keyErr := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce, nonceErr := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: nonce\x00", 12)
	block, err := aes.NewCipher(contentKey)
	if err := errors.Join(keyErr, nonceErr, err); err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	text, err := gcm.Open(nil, nonce, record, nil)
	if err != nil {
		return nil, err
	}
	text, last := bytes.CutSuffix(bytes.TrimRight(text, "\x00"), []byte{2})
	if !last {
		return nil, errors.New("the last record does not end as one")
	}
	return text, nil
}

func raw64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// The example of RFC 8291, appendix A: what plays the browser is one.
func TestThePushServiceReadsTheExampleOfTheRFC(t *testing.T) {
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := ecdh.P256().NewPrivateKey(decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	body := decode("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	text, err := unsealPush(key, decode("BTBZMqHH6r4Tts7J_aSIgg"), body)
	if err != nil || string(text) != "When I grow up, I want to be a watermelon" {
		t.Errorf("%q, %v", text, err)
	}
	body[len(body)-1] ^= 1
	if _, err := unsealPush(key, decode("BTBZMqHH6r4Tts7J_aSIgg"), body); err == nil {
		t.Error("a changed message is read")
	}
	// RFC 8292, section 2.4: its token has expired since, and is for another origin.
	const header = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
	then := time.Unix(1453523768-3600, 0)
	if err := checkVAPID(header, "https://push.example.net", "mailto:push@example.com", then); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"late":      checkVAPID(header, "https://push.example.net", "mailto:push@example.com", time.Now()),
		"elsewhere": checkVAPID(header, "https://push.example.com", "mailto:push@example.com", then),
		"forged":    checkVAPID(strings.Replace(header, ".i3CY", ".i3CZ", 1), "https://push.example.net", "mailto:push@example.com", then),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
