package emul_test

import (
	"encoding/base64"
	"strconv"
	"testing"

	"sealtail/emul"
)

// BenchmarkPut writes requests of 3 MiB, as the agent does: four values of
// base64, compressed by zstd.
func BenchmarkPut(b *testing.B) {
	for name, e := range map[string]*conf{"clear": nil, "aes": {Enable: true, EncryptType: "default"}, "sm4": {Enable: true, EncryptType: "m4"}} {
		b.Run(name, func(b *testing.B) {
			c := newClient(b, emul.Options{Dir: b.TempDir()})
			c.create(e, 2)
			var g []byte
			for range 4 {
				g = field(g, 1, logAt(c.now(), content("_env", base64.StdEncoding.EncodeToString(noise(580000)))))
			}
			body := squeeze(b, "zstd", g)
			h := map[string]string{"Content-Type": "application/x-protobuf", "x-log-compresstype": "zstd", "x-log-bodyrawsize": strconv.Itoa(len(g))}
			b.SetBytes(int64(len(g)))
			for b.Loop() {
				if r := c.sls("POST", "/logstores/ls", h, body); r.status != 200 {
					b.Fatalf("%s", r.body)
				}
			}
		})
	}
}
