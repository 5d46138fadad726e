package emul

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// createIndex and its like keep an index as it is given. Whatever it says, all
// values are searched of what is written while it is there.
func (s *Server) createIndex(c *call) (*answer, error) {
	return s.setIndex(c, func(l *logstore) error {
		if l.index != nil {
			return slsError("IndexAlreadyExist", "log store index is already created")
		}
		return nil
	})
}

func (s *Server) updateIndex(c *call) (*answer, error) {
	return s.setIndex(c, (*logstore).indexed)
}

func (s *Server) setIndex(c *call, check func(*logstore) error) (*answer, error) {
	body, err := c.json()
	if err != nil {
		return nil, err
	}
	var index map[string]any
	if len(body) > maxIndexBytes || json.Unmarshal(body, &index) != nil || index["keys"] == nil && index["line"] == nil {
		return nil, slsError("ParameterInvalid", "The index needs keys or line.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	if err := check(l); err != nil {
		return nil, err
	}
	l.index = body
	return ok(), nil
}

// indexed returns an error if there is no index.
func (l *logstore) indexed() error {
	if l.index == nil {
		return slsError("IndexConfigNotExist", "index config doesn't exist")
	}
	return nil
}

func (s *Server) getIndex(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	if err := l.indexed(); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, header: http.Header{}, body: l.index}, nil
}

func (s *Server) deleteIndex(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	if err := l.indexed(); err != nil {
		return nil, err
	}
	l.index = nil
	return ok(), nil
}

// A logQuery asks for logs in [From, To) whose words it has.
type logQuery struct {
	From, To     int64
	Topic, Query string
	Line, Offset int
	Reverse      bool
}

// getLogs answers with logs and what is to be said of them as one object.
func (s *Server) getLogs(c *call) (*answer, error) {
	body, err := c.json()
	if err != nil {
		return nil, err
	}
	q := logQuery{Line: 100}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, slsError("ParameterInvalid", "The body is invalid: %v", err)
	}
	rows, _, err := s.search(c, q)
	if err != nil {
		return nil, err
	}
	return jsonAnswer(http.StatusOK, map[string]any{
		"meta": map[string]any{
			"progress": "Complete", "count": len(rows), "processedRows": len(rows), "hasSQL": false, "isAccurate": nil,
		},
		"data": rows,
	}), nil
}

// getLogsOld is getLogs in an older form: parameters in the query, what is to
// be said in headers.
func (s *Server) getLogsOld(c *call) (*answer, error) {
	q, err := urlQuery(c)
	if err != nil {
		return nil, err
	}
	rows, _, err := s.search(c, q)
	if err != nil {
		return nil, err
	}
	a := jsonAnswer(http.StatusOK, rows)
	setProgress(a, len(rows))
	return a, nil
}

// getHistograms answers with one interval.
func (s *Server) getHistograms(c *call) (*answer, error) {
	q, err := urlQuery(c)
	if err != nil {
		return nil, err
	}
	_, total, err := s.search(c, q)
	if err != nil {
		return nil, err
	}
	a := jsonAnswer(http.StatusOK, []map[string]any{{"from": q.From, "to": q.To, "count": total, "progress": "Complete"}})
	setProgress(a, total)
	return a, nil
}

func setProgress(a *answer, count int) {
	a.header.Set("X-Log-Progress", "Complete")
	a.header.Set("X-Log-Count", strconv.Itoa(count))
	a.header.Set("X-Log-Has-Sql", "false")
	a.header.Set("X-Log-Query-Info", "{}")
}

func urlQuery(c *call) (logQuery, error) {
	v := c.URL.Query()
	from, err1 := strconv.ParseInt(v.Get("from"), 10, 64)
	to, err2 := strconv.ParseInt(v.Get("to"), 10, 64)
	line, err3 := strconv.Atoi(or(v.Get("line"), "100"))
	offset, err4 := strconv.Atoi(or(v.Get("offset"), "0"))
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return logQuery{}, slsError("ParameterInvalid", "from, to, line or offset is invalid.")
	}
	return logQuery{
		From: from, To: to, Topic: v.Get("topic"), Query: v.Get("query"),
		Line: line, Offset: offset, Reverse: v.Get("reverse") == "true",
	}, nil
}

// search returns the rows that a query asks for, and how many it would find
// without Line and Offset.
func (s *Server) search(c *call, q logQuery) (rows []map[string]string, total int, err error) {
	words, err := words(q.Query)
	if err != nil {
		return nil, 0, err
	}
	if q.Line < 0 || q.Offset < 0 {
		return nil, 0, slsError("ParameterInvalid", "line or offset is invalid.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, 0, err
	}
	if err := l.indexed(); err != nil {
		return nil, 0, err
	}
	aead, err := s.reading(l)
	if err != nil {
		return nil, 0, err
	}
	rows = []map[string]string{}
	for _, sh := range l.shards {
		for i, e := range sh.entries {
			if !e.indexed {
				continue
			}
			b, err := l.open(sh, aead, i)
			if err != nil {
				return nil, 0, err
			}
			g, err := parseLogGroup(b)
			if err != nil {
				return nil, 0, slsError("InternalServerError", "%v", err)
			}
			rows = append(rows, g.rows(q, words)...)
		}
	}
	slices.SortStableFunc(rows, func(a, b map[string]string) int { return strings.Compare(a["__time__"], b["__time__"]) })
	if q.Reverse {
		slices.Reverse(rows)
	}
	total = len(rows)
	rows = rows[min(q.Offset, total):]
	return rows[:min(q.Line, len(rows))], total, nil
}

// words returns what a row must have: words, or key:word. Of what may follow a
// bar only with_pack_meta is there.
func words(query string) ([]string, error) {
	query, rest, _ := strings.Cut(query, "|")
	if rest = strings.TrimSpace(rest); rest != "" && rest != "with_pack_meta" {
		return nil, slsError("NotSupported", "The emulator searches for words and has no SQL.")
	}
	return slices.DeleteFunc(strings.Fields(query), func(w string) bool { return w == "*" || w == "and" }), nil
}

// rows returns the logs of a group that a query asks for.
func (g *logGroup) rows(q logQuery, words []string) []map[string]string {
	var rows []map[string]string
	if q.Topic != "" && q.Topic != string(g.topic) {
		return nil
	}
	for _, e := range g.logs {
		if t := int64(e.time); t < q.From || t >= q.To {
			continue
		}
		row := map[string]string{
			"__time__": strconv.FormatUint(uint64(e.time), 10), "__topic__": string(g.topic), "__source__": string(g.source),
		}
		for _, t := range g.tags {
			row["__tag__:"+string(t.key)] = string(t.value)
		}
		for _, p := range e.contents {
			row[string(p.key)] = string(p.value)
		}
		if !slices.ContainsFunc(words, func(w string) bool { return !has(row, w) }) {
			rows = append(rows, row)
		}
	}
	return rows
}

func has(row map[string]string, word string) bool {
	if key, value, ok := strings.Cut(word, ":"); ok {
		return strings.Contains(row[key], value)
	}
	for _, v := range row {
		if strings.Contains(v, word) {
			return true
		}
	}
	return false
}
