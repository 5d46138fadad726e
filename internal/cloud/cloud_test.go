package cloud_test

import (
	"errors"
	"testing"

	"sealtail/conf"
	"sealtail/cred"
	"sealtail/internal/cloud"
)

// What is not there now may be given later; only what the configuration says
// wrongly is an error.
func TestOpensWithoutWhatIsNamed(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	systemd := conf.Credentials{Type: "systemd", AccessKeyIDName: "id", AccessKeySecretName: "secret"}
	client, err := cloud.KMS(conf.Key{Endpoint: "https://kms.test", KeyID: "k", Credentials: systemd, Route: conf.Route{CAFile: "/nowhere/ca.pem"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Describe(t.Context(), "k"); err == nil {
		t.Error("the key was described without an access key")
	} else if e, ok := errors.AsType[*cred.Error](err); !ok || e.Class != cred.Missing {
		t.Errorf("got %v", err)
	}
	systemd.AccessKeyIDName = "a/b"
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if _, err := cloud.Credentials(systemd); err == nil {
		t.Error("a name that is none was taken")
	}
}
