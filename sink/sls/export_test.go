package sls

import (
	"bytes"
	"net/http"
	"time"
)

// SetTransport replaces the network.
func (c *Client) SetTransport(rt http.RoundTripper) { c.base = rt }

// SetRoundEvery sets how far apart the refusals are that count.
func (s *Store) SetRoundEvery(d time.Duration) { s.every = d }

// EncodeGroup encodes a LogGroup of envelopes, or of stubs where why is not "".
func EncodeGroup(cs []Carrier, sealed [][]byte, why string, now uint32, topic, source string) (b []byte, sizes []int) {
	var items []item
	for i, c := range cs {
		it := item{Carrier: c, version: versionEnvelope, sealed: sealed[i]}
		if why != "" {
			it.version, it.why = versionStub, why
		}
		items = append(items, it)
		sizes = append(sizes, it.size(now))
	}
	g := logGroup{items, now, topic, source}
	var w bytes.Buffer
	if g.write(&w); w.Len() != g.size() {
		panic("a LogGroup is not as long as it says")
	}
	return w.Bytes(), sizes
}

// DecodeList decodes a LogGroupList.
func DecodeList(b []byte, yield func(topic, source string, it Item)) error {
	return eachGroup(b, func(g group) error {
		for _, log := range g.logs {
			var it Item
			if it.Err = decodeLog(log, nil, &it); it.Err == errGroup {
				return it.Err
			}
			yield(string(g.topic), string(g.source), it)
		}
		return nil
	})
}
