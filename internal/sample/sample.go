// Package sample makes log lines as programs write them, the same for the same
// seed, for tests and benchmarks.
package sample

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// AccessLog appends n bytes or a little more of lines as nginx writes them in
// its combined format, about 190 bytes each. zstd takes them 6 to 7 : 1.
func AccessLog(dst []byte, seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).Add(time.Duration(seed) * time.Minute)
	agents := []string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:%d.0) Gecko/20100101 Firefox/128.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
		"curl/8.%d.0",
		"kube-probe/1.%d",
	}
	paths := []string{"/", "/index.html", "/api/v1/items/%d", "/static/app.%x.js", "/login", "/search?q=%d", "/health"}
	statuses := []int{200, 200, 200, 200, 200, 304, 404, 302, 500}
	for end := len(dst) + n; len(dst) < end; {
		at = at.Add(time.Duration(r.IntN(200)) * time.Millisecond)
		path := paths[r.IntN(len(paths))]
		if len(path) > 12 {
			path = fmt.Sprintf(path, r.IntN(5000))
		}
		agent := fmt.Sprintf(agents[min(r.IntN(8), 4)], 20+r.IntN(12))
		dst = fmt.Appendf(dst, "10.%d.%d.%d - - [%s] \"GET %s HTTP/1.1\" %d %d \"https://www.example.org/page/%d\" \"%s\"\n",
			r.IntN(4), r.IntN(30), r.IntN(250), at.Format("02/Jan/2006:15:04:05 -0700"), path,
			statuses[r.IntN(len(statuses))], r.IntN(40000), r.IntN(300), agent)
	}
	return dst
}
