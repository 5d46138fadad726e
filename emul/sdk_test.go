package emul_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	sls "github.com/aliyun/aliyun-log-go-sdk"
	"google.golang.org/protobuf/proto"

	"sealtail/emul"
)

// sdk returns the SLS SDK's client, on a transport without sockets.
func (c *client) sdk(version sls.AuthVersionType) *sls.Client {
	s := &sls.Client{
		Endpoint: "http://sls.test", RequestTimeOut: time.Minute, RetryTimeOut: time.Minute,
		HTTPClient: &http.Client{Transport: c.s.Transport(), Timeout: time.Minute}, Region: c.region, AuthVersion: version,
	}
	return s.WithCredentialsProvider(sls.NewStaticCredentialsProvider(c.id, c.secret, c.token))
}

func sdkGroup(values ...string) *sls.LogGroup {
	g := &sls.LogGroup{Topic: proto.String("topic"), Source: proto.String("source")}
	for _, v := range values {
		g.Logs = append(g.Logs, &sls.Log{
			Time: proto.Uint32(uint32(time.Now().Unix())), TimeNs: proto.Uint32(7),
			Contents: []*sls.LogContent{{Key: proto.String("content"), Value: proto.String(v)}},
		})
	}
	return g
}

// TestSDKClient does with the SDK's client what the agent and the reader do.
func TestSDKClient(t *testing.T) {
	for name, version := range map[string]sls.AuthVersionType{"v1": sls.AuthV1, "v4": sls.AuthV4} {
		t.Run(name, func(t *testing.T) {
			c := withRole(t)
			s := c.sdk(version)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			_, err := s.CreateProject("made", "by the SDK")
			must(err)
			info := c.byok("m4", "k", "sls").UserCMKInfo
			encrypted := &sls.LogStore{
				Name: "enc", TTL: 30, ShardCount: 2, AutoSplit: true, MaxSplitShard: 64,
				EncryptConf: &sls.EncryptConf{Enable: true, EncryptType: "m4", UserCmkInfo: &sls.EncryptUserCmkConf{
					CmkKeyId: info.CMKKeyID, Arn: info.ARN, RegionId: info.RegionID,
				}},
			}
			must(s.CreateLogStoreV2("made", encrypted))
			read, err := s.GetLogStore("made", "enc")
			must(err)
			if e := read.EncryptConf; e == nil || !e.Enable || e.EncryptType != "m4" || *e.UserCmkInfo != *encrypted.EncryptConf.UserCmkInfo {
				t.Errorf("encrypt_conf is %+v", e)
			}
			read.TTL = 31
			must(s.UpdateLogStoreV2("made", read))
			if exists, err := s.CheckLogstoreExist("made", "none"); exists || err != nil {
				t.Errorf("a Logstore that is not there: %t, %v", exists, err)
			}
			stores, err := s.ListLogStoreV2("made", 0, 100, "")
			must(err)
			if fmt.Sprint(stores) != "[enc]" {
				t.Errorf("listed %v", stores)
			}

			key := strings.Repeat("0", 32)
			must(s.PutLogs("made", "enc", sdkGroup("put")))
			must(s.PutLogsWithCompressType("made", "enc", sdkGroup("none"), sls.Compress_None))
			must(s.PutLogsWithCompressType("made", "enc", sdkGroup(string(bytes.Repeat([]byte("zstd "), 1000))), sls.Compress_ZSTD))
			must(s.PostLogStoreLogs("made", "enc", sdkGroup("by key"), &key))
			must(s.PostLogStoreLogsV2("made", "enc", &sls.PostLogStoreLogsRequest{LogGroup: sdkGroup("v2"), HashKey: &key, CompressType: sls.Compress_ZSTD}))
			shards, err := s.ListShards("made", "enc")
			must(err)
			got := 0
			for _, sh := range shards {
				for _, kind := range []int{sls.Compress_LZ4, sls.Compress_ZSTD} {
					cursor, err := s.GetCursor("made", "enc", sh.ShardID, "begin")
					must(err)
					list, meta, err := s.PullLogsWithQuery(&sls.PullLogRequest{
						Project: "made", Logstore: "enc", ShardID: sh.ShardID, Cursor: cursor, LogGroupMaxCount: 100, CompressType: kind,
					})
					must(err)
					got += len(list.LogGroups)
					end, err := s.GetCursor("made", "enc", sh.ShardID, "end")
					must(err)
					if meta.NextCursor != end || meta.Count != len(list.LogGroups) {
						t.Errorf("meta is %+v, the end %s", meta, end)
					}
					if n := len(list.LogGroups); n > 0 {
						if first := list.LogGroups[0].GetCursor(); first != cursor {
							t.Errorf("the first is at %s, not %s", first, cursor)
						}
						received, err := s.GetPrevCursorTime("made", "enc", sh.ShardID, meta.NextCursor)
						must(err)
						if time.Since(received).Abs() > time.Minute {
							t.Errorf("received at %v", received)
						}
					}
				}
			}
			if got != 10 {
				t.Errorf("pulled %d groups, want 5 twice", got)
			}
			split, err := s.SplitShard("made", "enc", 1, "ef000000000000000000000000000000")
			must(err)
			if len(split) != 3 {
				t.Errorf("split into %d", len(split))
			}

			var e *sls.Error
			if err := s.PutLogs("made", "none", sdkGroup("x")); !errors.As(err, &e) || e.Code != "LogStoreNotExist" || e.HTTPCode != 404 || e.RequestID == "" {
				t.Errorf("got %v", err)
			}
			must(c.s.SetKeyState("k", emul.Disabled))
			if err := s.PutLogs("made", "enc", sdkGroup("x")); !errors.As(err, &e) || e.HTTPCode != 403 {
				t.Errorf("got %v", err)
			}
			must(c.s.SetKeyState("k", emul.Enabled))
			must(s.DeleteLogStore("made", "enc"))
			must(s.DeleteProject("made"))
		})
	}
}

// TestSDKRawRequest writes as the agent does: one try, true codes.
func TestSDKRawRequest(t *testing.T) {
	c := withRole(t)
	c.create(c.byok("m4", "k", "sls"), 1)
	p, err := c.sdk(sls.AuthV4).GetProject("p")
	if err != nil {
		t.Fatal(err)
	}
	body, err := sdkGroup(canary).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	put := func(uri string) error {
		resp, err := p.RawRequest("POST", uri, map[string]string{
			"Content-Type": "application/x-protobuf", "x-log-bodyrawsize": strconv.Itoa(len(body)), "x-log-compresstype": "zstd",
		}, squeeze(t, "zstd", body))
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := put("/logstores/ls/shards/route?key=" + strings.Repeat("a", 32) + "&seqid=1"); err != nil {
		t.Error(err)
	}
	for _, f := range []emul.Fault{{Code: "ServerBusy"}, {HTML: true}, {Cut: true}, {Code: "PostBodyInvalid", Status: 499}} {
		f.Count, f.Operation = 1, "PutLogs"
		c.s.Inject(f)
		before := c.s.Counters()["sls.PutLogs"]
		err := put("/logstores/ls")
		var e *sls.Error
		var bad *sls.BadResponseError
		switch {
		case f.Cut && err == nil,
			f.HTML && (!errors.As(err, &bad) || bad.HTTPCode != 502),
			f.Code != "" && (!errors.As(err, &e) || e.Code != f.Code || f.Status != 0 && int(e.HTTPCode) != f.Status):
			t.Errorf("%+v: got %v", f, err)
		}
		if tries := c.s.Counters()["sls.PutLogs"] - before; tries != 1 {
			t.Errorf("%+v: %d tries", f, tries)
		}
	}
	resp, err := p.RawRequest("GET", "/logstores/ls", map[string]string{"x-log-bodyrawsize": "0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var raw map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil || raw["encrypt_conf"] == nil {
		t.Errorf("got %s, %v", raw, err)
	}
}
