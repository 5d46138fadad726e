package emul

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http"
	"sort"
	"strconv"
	"time"
)

// A shard is a range of hash keys and an ordered list of LogGroups.
type shard struct {
	id         int
	begin, end *big.Int // of hash keys; end is exclusive
	readonly   bool
	created    time.Time
	entries    []entry
	data       store
}

// An entry is one LogGroup at rest.
type entry struct {
	received time.Time
	at       int64 // in the shard's store
	size     int   // there
	sealed   bool
	indexed  bool // received while there was an index
}

// keySpace returns 2^128, the end of the range of hash keys.
func keySpace() *big.Int { return new(big.Int).Lsh(big.NewInt(1), 128) }

func hexKey(k *big.Int) string {
	if k.Cmp(keySpace()) == 0 {
		return "ffffffffffffffffffffffffffffffff"
	}
	return fmt.Sprintf("%032x", k)
}

// parseKey returns a hash key of 32 hexadecimal digits.
func parseKey(text string) (*big.Int, bool) {
	b, err := hex.DecodeString(text)
	return new(big.Int).SetBytes(b), err == nil && len(b) == 16
}

// addShards divides a range of keys among n new shards.
func (s *Server) addShards(l *logstore, begin, end *big.Int, n int, now time.Time) error {
	width := new(big.Int).Sub(end, begin)
	bound := func(i int) *big.Int {
		b := new(big.Int).Mul(width, big.NewInt(int64(i)))
		return b.Add(b.Quo(b, big.NewInt(int64(n))), begin)
	}
	for i := range n {
		id := len(l.shards)
		data, err := s.newStore(fmt.Sprintf("%s.%s.%d", l.project, l.Name, id))
		if err != nil {
			return slsError("InternalServerError", "%v", err)
		}
		l.shards = append(l.shards, &shard{id: id, begin: bound(i), end: bound(i + 1), created: now, data: data})
	}
	return nil
}

func (sh *shard) json() map[string]any {
	status := "readwrite"
	if sh.readonly {
		status = "readonly"
	}
	return map[string]any{
		"shardID": sh.id, "status": status, "createTime": sh.created.Unix(),
		"inclusiveBeginKey": hexKey(sh.begin), "exclusiveEndKey": hexKey(sh.end),
	}
}

func (s *Server) listShards(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	list := make([]map[string]any, len(l.shards))
	for i, sh := range l.shards {
		list[i] = sh.json()
	}
	return jsonAnswer(http.StatusOK, list), nil
}

// splitShard makes a shard read-only and divides its range: at a key, or into
// shardCount parts.
func (s *Server) splitShard(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, sh, err := s.shardOf(c)
	if err != nil {
		return nil, err
	}
	query := c.URL.Query()
	n, err := strconv.Atoi(or(query.Get("shardCount"), "2"))
	if err != nil || n < 2 || len(l.shards)+n > 2*maxShards || sh.readonly {
		return nil, slsError("ParameterInvalid", "shard %d cannot be split like this", sh.id)
	}
	first := len(l.shards)
	if text := query.Get("key"); text != "" {
		key, ok := parseKey(text)
		if !ok || key.Cmp(sh.begin) <= 0 || key.Cmp(sh.end) >= 0 {
			return nil, slsError("ParameterInvalid", "key %q is not inside the range of shard %d", text, sh.id)
		}
		if err := s.addShards(l, sh.begin, key, 1, c.now); err != nil {
			return nil, err
		}
		err = s.addShards(l, key, sh.end, 1, c.now)
	} else {
		err = s.addShards(l, sh.begin, sh.end, n, c.now)
	}
	if err != nil {
		return nil, err
	}
	sh.readonly = true
	l.ShardCount += len(l.shards) - first - 1
	list := []map[string]any{sh.json()}
	for _, sh := range l.shards[first:] {
		list = append(list, sh.json())
	}
	return jsonAnswer(http.StatusOK, list), nil
}

// shardOf returns the Logstore and shard of a call.
func (s *Server) shardOf(c *call) (*logstore, *shard, error) {
	l, err := s.logstore(c)
	if err != nil {
		return nil, nil, err
	}
	id, err := strconv.Atoi(c.shard)
	if err != nil {
		return nil, nil, slsError("ParameterInvalid", "shard %q is no number", c.shard)
	}
	if id < 0 || id >= len(l.shards) {
		return nil, nil, slsError("ShardNotExist", "shard %d does not exist", id)
	}
	return l, l.shards[id], nil
}

// aad is what a LogGroup at rest is bound to.
func (l *logstore) aad(sh *shard) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", l.project, l.Name, sh.id)
}

// put adds a LogGroup to a shard, sealed unless aead is nil.
func (l *logstore) put(sh *shard, aead cipher.AEAD, group []byte, now time.Time) error {
	b := group
	if aead != nil {
		nonce := random(aead.NonceSize())
		b = aead.Seal(nonce, nonce, group, l.aad(sh))
	}
	at, err := sh.data.add(b)
	if err != nil {
		return slsError("InternalServerError", "%v", err)
	}
	sh.entries = append(sh.entries, entry{received: now, at: at, size: len(b), sealed: aead != nil, indexed: l.index != nil})
	return nil
}

// open returns the i-th LogGroup of a shard.
func (l *logstore) open(sh *shard, aead cipher.AEAD, i int) ([]byte, error) {
	e := sh.entries[i]
	b, err := sh.data.read(e.at, e.size)
	if err == nil && e.sealed {
		n := aead.NonceSize()
		b, err = aead.Open(nil, b[:n], b[n:], l.aad(sh))
	}
	if err != nil {
		return nil, slsError("InternalServerError", "%v", err)
	}
	return b, nil
}

// A cursor is base64 of a decimal number, counting up through a shard's
// LogGroups from a base of its own.
func (sh *shard) base() int64 { return sh.created.UnixNano() + int64(sh.id)<<40 }

func (sh *shard) cursor(i int) string {
	return base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(sh.base()+int64(i), 10)))
}

// position returns the index that a cursor of this shard stands for, from 0 to
// the number of its LogGroups.
func (sh *shard) position(cursor string) (int, error) {
	text, err := base64.StdEncoding.DecodeString(cursor)
	n, err2 := strconv.ParseInt(string(text), 10, 64)
	if i := n - sh.base(); err == nil && err2 == nil && i >= 0 && i <= int64(len(sh.entries)) {
		return int(i), nil
	}
	return 0, slsError("InvalidCursor", "Cursor %q is invalid for shard %d.", cursor, sh.id)
}

// since returns the index of the first LogGroup received at t or later.
func (sh *shard) since(t int64) int {
	return sort.Search(len(sh.entries), func(i int) bool { return sh.entries[i].received.Unix() >= t })
}
