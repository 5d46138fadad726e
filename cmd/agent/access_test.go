package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"sealtail/conf"
	"sealtail/internal/cloud"
	"sealtail/seal"
)

// A kmsOf makes data keys while its access key can be had.
type kmsOf struct {
	cmk
	access cloud.AccessKey
}

func (k *kmsOf) Generate(ctx context.Context, context []byte) (seal.DataKey, error) {
	if _, _, _, err := k.access.Get(ctx); err != nil {
		return seal.DataKey{}, &seal.KMSError{Class: seal.Outage, Code: "NoCredentials", Err: err}
	}
	return k.cmk.Generate(ctx, context)
}

// While the source of an access key is down the one found last is used, sealing
// goes on, and status and log tell it: once, whatever the length, and its end.
func TestAccessKeySourceDown(t *testing.T) {
	dir := t.TempDir()
	id, secret := filepath.Join(dir, "id"), filepath.Join(dir, "secret")
	for _, file := range []string{id, secret} {
		if err := os.WriteFile(file, []byte("word"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := stalledLine(t)
	l.stream.Key = "kms"
	synctest.Test(t, func(t *testing.T) {
		access, err := cloud.Credentials(conf.Credentials{Type: "file", AccessKeyIDFile: id, AccessKeySecretFile: secret})
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.InfoLevel)
		keys := &runningKeys{Keys: seal.NewKeys(seal.KeyOptions{}, &kmsOf{access: access}, seal.AES256GCM, nil), trouble: access.Trouble}
		a := &agent{cfg: &conf.Config{Streams: []conf.Stream{l.stream}}, log: zap.New(core), phase: "running",
			lines: map[string]*runningLine{"app": {line: l}}, keys: map[keyUse]*runningKeys{keysOf(l.stream): keys}}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- keys.Run(ctx) }()
		var w watching
		look := func(after time.Duration, told, warned, again int) {
			t.Helper()
			for began := time.Now(); time.Since(began) < after; {
				time.Sleep(time.Minute)
				synctest.Wait()
				a.look(&w)
				if s := keys.State(); s.Phase != seal.Ready {
					t.Fatalf("after %v: %v, %v", time.Since(began), s.Phase, s.Err)
				}
			}
			n := 0
			for _, p := range a.board.Newest().Problems {
				if strings.Contains(p.What, "the access key of [key.kms] cannot be looked up, the one found last is used") &&
					strings.Contains(p.What, secret) && time.Since(p.Since) < after && time.Since(p.Since) > after-10*time.Minute {
					n++
				}
			}
			if n != told {
				t.Errorf("told %d times, want %d: %+v", n, told, a.board.Newest().Problems)
			}
			for text, want := range map[string]int{"access key cannot be looked up, the one found last is used": warned, "access key is found again": again} {
				if got := logs.FilterMessage(text).Len(); got != want {
					t.Errorf("%q: logged %d times, want %d", text, got, want)
				}
			}
		}
		look(10*time.Minute, 0, 0, 0)
		if err := os.Rename(secret, secret+"-away"); err != nil {
			t.Fatal(err)
		}
		look(3*time.Hour, 1, 1, 0)
		if err := os.Rename(secret+"-away", secret); err != nil {
			t.Fatal(err)
		}
		look(10*time.Minute, 0, 1, 1)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
