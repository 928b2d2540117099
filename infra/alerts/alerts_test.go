package alerts

import (
	"crypto/ecdh"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"errors"
	"io"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The example of RFC 8291, appendix A.
func TestSealIsRFC8291(t *testing.T) {
	const (
		message   = "When I grow up, I want to be a watermelon"
		asPrivate = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
		uaPublic  = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
		salt      = "DGv6ra1nlYgDCS1FRnbzlw"
		auth      = "BTBZMqHH6r4Tts7J_aSIgg"
		want      = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	)
	var s Subscription
	s.Keys.P256dh, s.Keys.Auth = uaPublic, auth
	private, err := decode(asPrivate)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdh.P256().NewPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	saltBytes, err := decode(salt)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sealWith(s, []byte(message), key, saltBytes)
	if err != nil {
		t.Fatal(err)
	}
	if encode(got) != want {
		t.Errorf("got  %s\nwant %s", encode(got), want)
	}
}

func TestWebhookIsVerifiedByTheReferenceLibrary(t *testing.T) {
	secret := NewSecret()
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	var verdict error
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		verdict = errors.Join(err, verifier.Verify(body, r.Header))
	}))
	defer server.Close()
	key, err := parseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	hook := webhook{client: guardedClient(true, time.Minute), url: server.URL, secret: key, now: time.Now}
	if err := hook.post(t.Context(), "msg_1", []byte(`{"type":"tablekeeper.backup_failed"}`)); err != nil {
		t.Fatal(err)
	}
	if verdict != nil {
		t.Errorf("the reference library refuses the message: %v", verdict)
	}
}

func TestWebhookRefusesRedirectsAndPrivateAddresses(t *testing.T) {
	reached := false
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer target.Close()
	redirect := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()

	allowed := webhook{client: guardedClient(true, time.Minute), url: redirect.URL, now: time.Now}
	var status *StatusError
	if err := allowed.post(t.Context(), "1", nil); !errors.As(err, &status) || status.Code != http.StatusTemporaryRedirect {
		t.Errorf("a redirect gives %v", err)
	}
	guarded := webhook{client: guardedClient(false, time.Minute), url: target.URL, now: time.Now}
	if err := guarded.post(t.Context(), "1", nil); !errors.Is(err, ErrPrivateAddress) {
		t.Errorf("a loopback address gives %v", err)
	}
	if reached {
		t.Error("the target was reached")
	}
}

func TestPublicAddresses(t *testing.T) {
	for _, text := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "::1", "::",
		"fe80::1", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "ff02::1", "255.255.255.255", "198.18.0.1"} {
		if public(netip.MustParseAddr(text)) {
			t.Errorf("%s counts as public", text)
		}
	}
	for _, text := range []string{"1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"} {
		if !public(netip.MustParseAddr(text)) {
			t.Errorf("%s does not count as public", text)
		}
	}
}
