package emul

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
)

// A Fault is something that goes wrong with requests. Of several that match a
// request the oldest meets it. Empty fields match everything; names may have
// "*" and "?".
type Fault struct {
	ID          int    `json:"id"`                 // given by [Server.Inject]
	Service     string `json:"service,omitzero"`   // sls, kms
	Operation   string `json:"operation,omitzero"` // PutLogs, GenerateDataKey, …
	Project     string `json:"project,omitzero"`
	Logstore    string `json:"logstore,omitzero"`
	AccessKeyID string `json:"access_key_id,omitzero"`
	Contains    string `json:"contains,omitzero"` // the body does, uncompressed
	Skip        int    `json:"skip,omitzero"`     // so many matching requests go unharmed first
	Count       int    `json:"count,omitzero"`    // so many are met; 0 = until cleared

	Delay Duration `json:"delay,omitzero"` // before anything else

	// The answer: a row of a table by its Code, its first where Status or
	// Message do not say more; or, with Status alone or HTML, a page that is
	// not JSON (502 where Status does not say more).
	Status  int    `json:"status,omitzero"`
	Code    string `json:"code,omitzero"`
	Message string `json:"message,omitzero"`
	HTML    bool   `json:"html,omitzero"`

	Cut   bool `json:"cut,omitzero"`   // no answer: the connection ends
	After bool `json:"after,omitzero"` // the request is carried out first: only its answer is lost or replaced

	SlowBody Duration `json:"slow_body,omitzero"` // between the halves of the answer's body
}

// Inject adds a fault and returns its id.
func (s *Server) Inject(f Fault) (id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faultID++
	f.ID = s.faultID
	s.faults = append(s.faults, &f)
	return f.ID
}

// Faults returns the faults that are still in force; Count is what is left.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Fault, len(s.faults))
	for i, f := range s.faults {
		list[i] = *f
	}
	return list
}

// Clear removes faults, all of them if no id is given.
func (s *Server) Clear(ids ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(f *Fault) bool { return len(ids) == 0 || slices.Contains(ids, f.ID) })
}

// fault returns a copy of the fault that meets a request, if any, and counts it.
func (s *Server) fault(c *call) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if !f.matches(c.log) || f.Contains != "" && !bytes.Contains(s.plain(c), []byte(f.Contains)) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		met := *f
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return &met
	}
	return nil
}

// plain returns a request's body, uncompressed if it can be.
func (s *Server) plain(c *call) []byte {
	size, err := strconv.Atoi(c.header("x-log-bodyrawsize"))
	if err != nil || size < 0 || size > maxRaw {
		return c.body
	}
	raw, err := s.decompress(c.header("x-log-compresstype"), c.body, size)
	if err != nil {
		return c.body
	}
	return raw
}

func (f *Fault) matches(r Request) bool {
	for _, pair := range [][2]string{
		{f.Service, r.Service}, {f.Operation, r.Operation}, {f.Project, r.Project},
		{f.Logstore, r.Logstore}, {f.AccessKeyID, r.AccessKeyID},
	} {
		if pair[0] != "" && !match(pair[0], pair[1]) {
			return false
		}
	}
	return true
}

// replaces tells whether the request's own answer is not what the client gets.
func (f *Fault) replaces() bool { return f.Status != 0 || f.Code != "" || f.HTML || f.Cut }

// answer returns what the client gets instead.
func (f *Fault) answer(service string) (*answer, error) {
	if f.Code == "" || f.HTML {
		status := f.Status
		if status == 0 {
			status = http.StatusBadGateway
		}
		const page = "<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body><center><h1>Bad Gateway</h1></center></body>\r\n</html>\r\n"
		return &answer{status: status, header: http.Header{"Content-Type": {"text/html"}}, body: []byte(page)}, nil
	}
	table := slsErrors
	if service == "kms" {
		table = kmsErrors
	}
	e := row(table, f.Code, f.Status)
	if f.Message != "" {
		e.Message = f.Message
	}
	return nil, e
}
