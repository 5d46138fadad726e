package emul

import (
	"crypto/cipher"
	"net/http"
	"strconv"
)

const maxPull = 1000 // LogGroups of one answer

// readable returns the shard of a call that reads data, and the key to it: nil
// where nothing was ever sealed.
func (s *Server) readable(c *call) (*logstore, *shard, cipher.AEAD, error) {
	l, sh, err := s.shardOf(c)
	if err != nil {
		return nil, nil, nil, err
	}
	aead, err := s.reading(l)
	return l, sh, aead, err
}

func (s *Server) reading(l *logstore) (cipher.AEAD, error) {
	if l.wrapped == nil {
		return nil, nil
	}
	return s.dataKey(l)
}

func (s *Server) getCursor(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, sh, _, err := s.readable(c)
	if err != nil {
		return nil, err
	}
	i := 0
	switch from := c.URL.Query().Get("from"); from {
	case "begin":
	case "end":
		i = len(sh.entries)
	default:
		t, err := strconv.ParseInt(from, 10, 64)
		if err != nil {
			return nil, slsError("ParameterInvalid", "from %q is neither begin nor end nor a time", from)
		}
		i = sh.since(t)
	}
	return jsonAnswer(http.StatusOK, map[string]any{"cursor": sh.cursor(i)}), nil
}

// getCursorTime tells when the LogGroup at a cursor was received; at the end,
// the time that it is.
func (s *Server) getCursorTime(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, sh, _, err := s.readable(c)
	if err != nil {
		return nil, err
	}
	i, err := sh.position(c.URL.Query().Get("cursor"))
	if err != nil {
		return nil, err
	}
	t := c.now
	if i < len(sh.entries) {
		t = sh.entries[i].received
	}
	return jsonAnswer(http.StatusOK, map[string]any{"cursor_time": t.Unix()}), nil
}

// pullLogs answers with LogGroups from a cursor on: as many as asked for, at
// most 10 MiB of them but one at least.
func (s *Server) pullLogs(c *call) (*answer, error) {
	query := c.URL.Query()
	if query.Get("query") != "" || query.Get("processor") != "" {
		return nil, slsError("NotSupported", "The emulator pulls without query and processor.")
	}
	count, err := strconv.Atoi(query.Get("count"))
	if err != nil || count < 1 || count > maxPull {
		return nil, slsError("ParameterInvalid", "count %q is not from 1 to %d", query.Get("count"), maxPull)
	}
	list, n, next, last, err := s.pull(c, count)
	if err != nil {
		return nil, err
	}
	a := ok()
	if len(list) > 0 {
		kind, body := s.compress(c.header("Accept-Encoding"), list)
		a.body = body
		if kind != "" {
			a.header.Set("X-Log-Compresstype", kind)
		}
	}
	a.header.Set("Content-Type", "application/x-protobuf")
	a.header.Set("X-Log-Bodyrawsize", strconv.Itoa(len(list)))
	a.header.Set("X-Log-Count", strconv.Itoa(n))
	a.header.Set("X-Log-Cursor", next)
	if n > 0 {
		a.header.Set("X-Log-Read-Last-Cursor", last)
	}
	return a, nil
}

// pull returns a LogGroupList, how many are in it, the cursor behind them, and
// the number of the last one's.
func (s *Server) pull(c *call, count int) (list []byte, n int, next, last string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, sh, aead, err := s.readable(c)
	if err != nil {
		return nil, 0, "", "", err
	}
	query := c.URL.Query()
	i, err := sh.position(query.Get("cursor"))
	if err != nil {
		return nil, 0, "", "", err
	}
	end := len(sh.entries)
	if cursor := query.Get("end_cursor"); cursor != "" {
		if end, err = sh.position(cursor); err != nil {
			return nil, 0, "", "", err
		}
	}
	for ; i < end && n < count; i++ {
		if n > 0 && len(list)+sh.entries[i].size > maxRaw {
			break
		}
		group, err := l.open(sh, aead, i)
		if err != nil {
			return nil, 0, "", "", err
		}
		list = appendGroup(list, group)
		n++
	}
	return list, n, sh.cursor(i), strconv.FormatInt(sh.base()+int64(i)-1, 10), nil
}
