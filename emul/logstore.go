package emul

import (
	"encoding/json"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const (
	maxTTL        = 3650 // days
	maxShards     = 256  // of a Logstore
	maxIndexBytes = 1 << 20
)

var logstoreNames = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,61}[a-z0-9]$`)

// A Logstore is what the API tells of one.
type Logstore struct {
	Name                string       `json:"logstoreName"`
	TTL                 int          `json:"ttl"`
	ShardCount          int          `json:"shardCount"`
	WebTracking         bool         `json:"enable_tracking"`
	EnableModify        bool         `json:"enableModify"`
	AutoSplit           bool         `json:"autoSplit"`
	MaxSplitShard       int          `json:"maxSplitShard"`
	AppendMeta          bool         `json:"appendMeta"`
	TelemetryType       string       `json:"telemetryType"`
	HotTTL              int          `json:"hot_ttl,omitzero"`
	InfrequentAccessTTL int          `json:"infrequentAccessTTL,omitzero"`
	Mode                string       `json:"mode,omitzero"`
	CreateTime          int64        `json:"createTime,omitzero"`
	LastModifyTime      int64        `json:"lastModifyTime,omitzero"`
	EncryptConf         *EncryptConf `json:"encrypt_conf,omitzero"`
	ProductType         string       `json:"productType,omitzero"`
}

// A logstore is a Logstore and its data.
type logstore struct {
	Logstore
	project string
	created time.Time
	visible time.Time   // from when it exists for others
	wrapped []byte      // the data key; nil = never encrypted
	by      UserCMKInfo // what wrapped it
	shards  []*shard
	next    int            // the shard that takes the next write without a key
	seqs    map[string]int // last sequence id of each hash key
	index   []byte
}

func (l *logstore) drop() {
	for _, sh := range l.shards {
		sh.data.drop()
	}
}

// logstore returns the Logstore of a call.
func (s *Server) logstore(c *call) (*logstore, error) {
	p, err := s.project(c)
	if err != nil {
		return nil, err
	}
	l := p.logstores[c.log.Logstore]
	if l == nil || c.now.Before(l.visible) {
		return nil, slsError("LogStoreNotExist", "logstore %s does not exist", c.log.Logstore)
	}
	return l, nil
}

func (s *Server) listLogstores(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.project(c)
	if err != nil {
		return nil, err
	}
	query := c.URL.Query()
	names := []string{}
	for _, name := range sorted(p.logstores) {
		if t := query.Get("telemetryType"); t == "" || t == or(p.logstores[name].TelemetryType, "None") {
			names = append(names, name)
		}
	}
	total := len(names)
	offset, err1 := strconv.Atoi(or(query.Get("offset"), "0"))
	size, err2 := strconv.Atoi(or(query.Get("size"), strconv.Itoa(maxLogstores)))
	if err1 != nil || err2 != nil || offset < 0 || size < 0 {
		return nil, slsError("ParameterInvalid", "offset or size is invalid.")
	}
	names = names[min(offset, total):]
	names = names[:min(size, len(names))]
	return jsonAnswer(http.StatusOK, map[string]any{"count": len(names), "total": total, "logstores": names}), nil
}

// logstoreBody decodes what a call says of a Logstore. What it leaves out is
// as in b.
func (s *Server) logstoreBody(c *call, b Logstore) (Logstore, error) {
	body, err := c.json()
	if err != nil {
		return Logstore{}, err
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(body, &all) != nil {
		return Logstore{}, slsError("LogStoreInfoInvalid", "The body is not JSON.")
	}
	for _, key := range s.quirks.UnknownKeys {
		if all[key] != nil {
			return Logstore{}, slsError("LogStoreInfoInvalid", "redundant key exist in json : %s", key)
		}
	}
	b.EncryptConf = nil
	if err := strict(body, &b); err != nil {
		return Logstore{}, slsError("LogStoreInfoInvalid", "redundant key exist in json : %v", err)
	}
	switch {
	case b.TTL < 1 || b.TTL > maxTTL:
		return b, slsError("LogStoreInfoInvalid", "ttl %d is not from 1 to %d", b.TTL, maxTTL)
	case b.MaxSplitShard < 0 || b.MaxSplitShard > maxShards || b.AutoSplit && b.MaxSplitShard == 0:
		return b, slsError("LogStoreInfoInvalid", "maxSplitShard %d is not from 1 to %d", b.MaxSplitShard, maxShards)
	case !slices.Contains([]string{"", "standard", "query", "lite"}, b.Mode):
		return b, slsError("LogStoreInfoInvalid", "mode %q is invalid", b.Mode)
	}
	return b, nil
}

func (s *Server) createLogstore(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.logstoreBody(c, Logstore{})
	if err != nil {
		return nil, err
	}
	switch {
	case !logstoreNames.MatchString(b.Name):
		return nil, slsError("LogStoreInfoInvalid", "logstore name %q is invalid", b.Name)
	case b.ShardCount < 1 || b.ShardCount > maxShards:
		return nil, slsError("LogStoreInfoInvalid", "shardCount %d is not from 1 to %d", b.ShardCount, maxShards)
	}
	p, err := s.project(c)
	if err != nil {
		return nil, err
	}
	switch {
	case p.logstores[b.Name] != nil:
		return nil, slsError("LogStoreAlreadyExist", "logstore %s already exists", b.Name)
	case len(p.logstores) >= maxLogstores:
		return nil, slsError("ProjectQuotaExceed", "project %s logstore count quota exceed", p.name)
	}
	conf := b.EncryptConf
	b.EncryptConf = nil
	b.Mode = or(b.Mode, "standard")
	b.CreateTime, b.LastModifyTime = c.now.Unix(), c.now.Unix()
	l := &logstore{
		Logstore: b, project: p.name, created: c.now,
		visible: c.now.Add(time.Duration(s.quirks.CreateDelay)), seqs: map[string]int{},
	}
	if conf != nil {
		if err := s.setEncryption(c, l, *conf); err != nil {
			return nil, err
		}
	}
	if err := s.addShards(l, new(big.Int), keySpace(), b.ShardCount, c.now); err != nil {
		return nil, err
	}
	p.logstores[b.Name] = l
	return ok(), nil
}

func (s *Server) getLogstore(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	a := jsonAnswer(http.StatusOK, l.Logstore)
	if l.EncryptConf != nil && s.quirks.OmitEnable {
		var all map[string]any
		if err := json.Unmarshal(a.body, &all); err != nil {
			panic("emul: " + err.Error())
		}
		conf := all["encrypt_conf"].(map[string]any)
		delete(conf, "enable")
		if conf["user_cmk_info"] == nil {
			conf["user_cmk_info"] = struct{}{}
		}
		a = jsonAnswer(http.StatusOK, all)
	}
	return a, nil
}

// updateLogstore replaces what may change: all but name, shard count,
// telemetry type and times.
func (s *Server) updateLogstore(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	b, err := s.logstoreBody(c, l.Logstore)
	if err != nil {
		return nil, err
	}
	switch {
	case b.Name != l.Name:
		return nil, slsError("LogStoreInfoInvalid", "the name of logstore %s cannot change", l.Name)
	case b.ShardCount != l.ShardCount:
		return nil, slsError("LogStoreInfoInvalid", "the shard count of logstore %s cannot change", l.Name)
	case b.TelemetryType != l.TelemetryType:
		return nil, slsError("LogStoreInfoInvalid", "the telemetry type of logstore %s cannot change", l.Name)
	}
	if b.EncryptConf != nil {
		if err := s.setEncryption(c, l, *b.EncryptConf); err != nil {
			return nil, err
		}
	}
	b.EncryptConf = l.EncryptConf
	b.CreateTime, b.LastModifyTime, b.ProductType = l.CreateTime, c.now.Unix(), l.ProductType
	l.Logstore = b
	return ok(), nil
}

func (s *Server) deleteLogstore(c *call) (*answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	l.drop()
	delete(s.projects[l.project].logstores, l.Name)
	return ok(), nil
}

// Logstore returns what the API tells of a Logstore.
func (s *Server) Logstore(project, name string) (l Logstore, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.projects[project]; p != nil && p.logstores[name] != nil {
		return p.logstores[name].Logstore, true
	}
	return Logstore{}, false
}
