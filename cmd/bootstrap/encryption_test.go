package main

import (
	"strings"
	"testing"

	"filippo.io/age"

	"tablekeeper/functions"
	"tablekeeper/storage/bucket/buckettest"
)

const identityARN = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:tablekeeper-identity"

// TestEncryptedBackups: who backs up knows recipients only. Who proves, restores and recovers reads the identity from a secret; without it nothing is
// proved, and the error says why.
func TestEncryptedBackups(t *testing.T) {
	w, _ := onStore(t, buckettest.StartMinIO(t), "s3")
	id, err := age.GenerateX25519Identity()
	w.Must(err)
	w.env["TABLEKEEPER_RECIPIENTS"] = id.Recipient().String()
	w.Make("app", 200)
	w.upload("app")
	want := w.Rows(w.Path("app"))
	back := w.function("backup")
	if e := entryOf(t, back.must("1", `{"tables":["app"]}`), 0); e.Status != functions.BackedUp {
		t.Fatalf("%+v", e)
	}
	stored := w.stored("app")
	if len(stored) != 1 || !stored[0].Key.Encrypted {
		t.Fatalf("%+v", stored)
	}
	if text, err := readAll(t.Context(), w.backups, stored[0].Key.String()); err != nil || !strings.HasPrefix(string(text), "age-encryption.org/v1\n-> X25519 ") {
		t.Errorf("%.40q, %v", text, err)
	}
	w.function("verify").fail("2", `{"tables":["app"]}`, "WrongKey", "")
	if stored := w.stored("app"); !stored[0].Proved.IsZero() || !stored[0].Failed.IsZero() {
		t.Errorf("without a key nothing is known of the backup: %+v", stored)
	}
	prove := w.function("verify", "TABLEKEEPER_IDENTITY_SECRET", identityARN)
	prove.fail("3", `{"tables":["app"]}`, "SecretUnreadable", "Try: see whether the secret exists")
	w.keep(identityARN, "AGE-SECRET-KEY-1NONE")
	prove.fail("4", `{"tables":["app"]}`, "IdentityInvalid", "age-keygen")
	w.keep(identityARN, "# made by age-keygen\n"+id.String()+"\n")
	if e := entryOf(t, prove.must("5", `{"tables":["app"]}`), 0); e.Status != functions.Verified {
		t.Errorf("%+v", e)
	}
	if w.stored("app")[0].Proved.IsZero() {
		t.Error("the drill proved nothing")
	}
	for _, secret := range []string{"AGE-SECRET-KEY", id.String()} {
		if strings.Contains(prove.stderr.String()+prove.stdout.String(), secret) {
			t.Error("the log has a part of the identity")
		}
	}
	w.Exec("app", "DELETE FROM items")
	w.upload("app")
	if e := entryOf(t, w.function("restore", "TABLEKEEPER_IDENTITY_SECRET", identityARN).must("6", `{"table":"app"}`), 0); e.Status != functions.Restored {
		t.Errorf("%+v", e)
	}
	if got := w.Rows(w.download("app")); got != want {
		t.Error("the restored table is another one")
	}
	wrong := w.function("backup", "TABLEKEEPER_RECIPIENTS", "age1nobody")
	<-wrong.ended
	if !strings.Contains(wrong.stderr.String(), `recipient "age1nobody"`) {
		t.Error(wrong.stderr)
	}
}
