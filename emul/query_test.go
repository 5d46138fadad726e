package emul_test

import (
	"encoding/json"
	"testing"

	"sealtail/emul"
)

func TestSearch(t *testing.T) {
	c := newClient(t, emul.Options{})
	c.create(&conf{Enable: true, EncryptType: "sm4"}, 2)
	if got := c.sls("GET", "/logstores/ls?type=log&from=0&to=1", nil, nil).code(); got != "IndexConfigNotExist" {
		t.Errorf("without an index: got %q", got)
	}
	c.put("/logstores/ls", "", group(c, "red and too early"))
	index := map[string]any{"line": map[string]any{"token": []string{" "}}}
	for _, tt := range []struct{ method, want string }{{"PUT", "IndexConfigNotExist"}, {"POST", ""}, {"POST", "IndexAlreadyExist"}, {"PUT", ""}} {
		if got := c.json(tt.method, "/logstores/ls/index", index).code(); got != tt.want {
			t.Errorf("%s index: got %q, want %q", tt.method, got, tt.want)
		}
	}
	for _, v := range []string{"red apple", "green apple", "red cherry"} {
		c.put("/logstores/ls", "", group(c, v))
	}
	for query, want := range map[string]int{"": 3, "*": 3, "red": 2, "red and apple": 1, "content:apple": 2, "apple | with_pack_meta": 2, "plum": 0} {
		var got struct {
			Meta struct{ Count int }
			Data []map[string]string
		}
		c.json("POST", "/logstores/ls/logs", map[string]any{"from": 0, "to": c.now().Unix() + 1, "query": query}).decode(t, &got)
		if got.Meta.Count != want || len(got.Data) != want {
			t.Errorf("%q: got %+v, want %d", query, got, want)
		}
	}
	r := c.sls("GET", "/logstores/ls?type=log&from=0&to=9999999999&line=1&reverse=true&query=red", nil, nil)
	var rows []map[string]string
	if r.decode(t, &rows); len(rows) != 1 || r.header.Get("x-log-count") != "1" || r.header.Get("x-log-progress") != "Complete" {
		t.Errorf("got %v, %v", rows, r.header)
	}
	if got := c.json("POST", "/logstores/ls/logs", map[string]any{"query": "* | select 1"}).code(); got != "NotSupported" {
		t.Errorf("SQL: got %q", got)
	}
	var stored json.RawMessage
	if c.sls("GET", "/logstores/ls/index", nil, nil).decode(t, &stored); string(stored) != string(mustJSON(t, index)) {
		t.Errorf("index is %s", stored)
	}
	for i, want := range []string{"", "IndexConfigNotExist"} {
		if got := c.sls("DELETE", "/logstores/ls/index", nil, nil).code(); got != want {
			t.Errorf("delete %d: got %q, want %q", i, got, want)
		}
	}
}
