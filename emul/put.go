package emul

import (
	"crypto/cipher"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// putLogs takes a LogGroup: to a shard of the server's choice, or by hash key.
// With a seqid it is taken only if that is above the last one of the hash key.
func (s *Server) putLogs(c *call) (*answer, error) {
	group, err := s.readGroup(c)
	if err != nil {
		return nil, err
	}
	c.log.Raw = len(group)
	g, err := parseLogGroup(group)
	if err != nil {
		return nil, slsError("PostBodyInvalid", "")
	}
	if err := g.check(c.now); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	sh, commit, err := s.choose(c, l)
	if err != nil {
		return nil, err
	}
	var aead cipher.AEAD
	if l.EncryptConf != nil && l.EncryptConf.Enable {
		if aead, err = s.dataKey(l); err != nil {
			return nil, err
		}
	}
	if len(g.logs) > 0 {
		if err := l.put(sh, aead, group, c.now); err != nil {
			return nil, err
		}
	}
	commit()
	return ok(), nil
}

// choose returns the shard of a write, and what is to be done when it is in.
func (s *Server) choose(c *call, l *logstore) (sh *shard, commit func(), err error) {
	var open []*shard
	for _, sh := range l.shards {
		if !sh.readonly {
			open = append(open, sh)
		}
	}
	if len(open) == 0 {
		return nil, nil, slsError("LogStoreWithoutShard", "")
	}
	if !strings.HasSuffix(c.URL.Path, "/shards/route") {
		return open[l.next%len(open)], func() { l.next++ }, nil
	}
	query := c.URL.Query()
	text := strings.ToLower(query.Get("key"))
	key, isKey := parseKey(text)
	if !isKey {
		return nil, nil, slsError("ParameterInvalid", "key %q is not of 32 hexadecimal digits", query.Get("key"))
	}
	i := slices.IndexFunc(open, func(sh *shard) bool { return key.Cmp(sh.begin) >= 0 && key.Cmp(sh.end) < 0 })
	if i < 0 {
		return nil, nil, slsError("LogStoreWithoutShard", "")
	}
	if !query.Has("seqid") {
		return open[i], func() {}, nil
	}
	switch seq, err := strconv.Atoi(query.Get("seqid")); {
	case err != nil || seq < 1:
		return nil, nil, slsError("ParameterInvalid", "seqid %q is invalid", query.Get("seqid"))
	case seq <= l.seqs[text]:
		return nil, nil, slsError("InvalidSequenceId", "sequence id %d of key %s is not above %d", seq, text, l.seqs[text])
	default:
		return open[i], func() { l.seqs[text] = seq }, nil
	}
}

// readGroup returns the raw body of a write. Its size must be told where it is
// compressed, and be true.
func (s *Server) readGroup(c *call) ([]byte, error) {
	if t := c.header("Content-Type"); t != "application/x-protobuf" {
		return nil, slsError("InvalidContentType", "Content-Type %q must be application/x-protobuf", t)
	}
	s.mu.Lock()
	quirks := s.quirks
	s.mu.Unlock()
	limit := maxRaw
	if quirks.MaxBody > 0 {
		limit = quirks.MaxBody
	}
	kind, told := c.header("x-log-compresstype"), c.header("x-log-bodyrawsize")
	size := len(c.body)
	switch n, err := strconv.Atoi(told); {
	case kind != "" && !slices.Contains(compressions(), kind), kind == "zstd" && quirks.NoZstd:
		return nil, slsError("InvalidCompressType", "x-log-compresstype %s is not supported", kind)
	case told == "" && kind == "":
	case told == "":
		return nil, slsError("MissingParameter", "x-log-bodyrawsize does not exist in the header.")
	case err != nil || n < 0 || kind == "" && n != size:
		return nil, slsError("InvalidBodyRawSize", "x-log-bodyrawsize %s is invalid", told)
	default:
		size = n
	}
	if size > limit || len(c.body) > limit {
		return nil, slsError("PostBodyTooLarge", "Body size %d must little than %d.", max(size, len(c.body)), limit)
	}
	raw, err := s.decompress(kind, c.body, size)
	if errors.Is(err, errCompressed) {
		return nil, slsError("PostBodyUncompressError", "")
	}
	return raw, err
}
