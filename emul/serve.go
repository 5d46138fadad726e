package emul

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRead bounds what is read of a body. It is above every limit of a service,
// so that a body somewhat too large is still told its size.
const maxRead = 32 << 20

// keepRequests is how many requests are remembered at least.
const keepRequests = 10000

// A call is one request while it is served.
type call struct {
	*http.Request
	body []byte
	now  time.Time
	log  Request // as it will be remembered
	cred Credential

	op     *operation // SLS
	shard  string
	params url.Values // KMS
}

// An answer is what a service answers. The body of an operation's own answer
// is JSON unless the header says otherwise.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// A Request is what is remembered of a request.
type Request struct {
	N           int               `json:"n"` // 1, 2, …
	Time        time.Time         `json:"time"`
	ID          string            `json:"id"`
	Service     string            `json:"service"` // sls, kms
	Operation   string            `json:"operation"`
	Project     string            `json:"project,omitzero"`
	Logstore    string            `json:"logstore,omitzero"`
	AccessKeyID string            `json:"access_key_id,omitzero"`
	UserAgent   string            `json:"user_agent,omitzero"`
	Params      map[string]string `json:"params,omitzero"` // of KMS, without plaintexts and ciphertexts
	Bytes       int               `json:"bytes"`           // of the body as received
	Raw         int               `json:"raw,omitzero"`    // of the LogGroup
	Fault       int               `json:"fault,omitzero"`  // the fault that met it
	Status      int               `json:"status"`          // 0 = the connection was cut
	Code        string            `json:"code,omitzero"`   // of an error
}

// Requests returns the requests numbered above after, oldest first. Of many
// only the last 10000 or more are there.
func (s *Server) Requests(after int) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.requests, func(r Request) bool { return r.N > after })
	if i < 0 {
		return nil
	}
	return slices.Clone(s.requests[i:])
}

// Counters returns how many requests there were since the start, by
// "service.Operation" and by "service.Operation:status".
func (s *Server) Counters() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counters)
}

// A service is what SLS and KMS differ in.
type service struct {
	name   string
	route  func(*Server, *call) error // finds what is asked, of whom, by whom, without believing it
	handle func(*Server, *call) (*answer, error)
	render func(*call, *Error) *answer
	large  *Error // the answer to a body above maxRead
}

func slsService() service {
	return service{"sls", (*Server).routeSLS, (*Server).serveSLS, renderSLS, slsError("PostBodyTooLarge", "")}
}

func kmsService() service {
	return service{"kms", (*Server).routeKMS, (*Server).serveKMS, renderKMS, kmsError("ParseRequestParameterException", "")}
}

// serve answers one request to a service: route, fault, signature, operation.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, v service) {
	c := &call{Request: r, now: s.Now()}
	c.log = Request{Time: c.now, ID: randomID(), Service: v.name, UserAgent: r.UserAgent()}
	var unread error
	c.body, unread = io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRead))
	c.log.Bytes = len(c.body)
	s.wire(c)
	err := v.route(s, c)

	f := s.fault(c)
	if f != nil {
		c.log.Fault = f.ID
		sleep(r, time.Duration(f.Delay))
	}
	var a *answer
	if f == nil || !f.replaces() || f.After {
		switch {
		case errors.As(unread, new(*http.MaxBytesError)):
			err = v.large
		case unread != nil: // the client went away
			s.cut(c)
		case err == nil:
			a, err = v.handle(s, c)
		}
	}
	if f != nil && f.replaces() {
		if f.Cut {
			s.cut(c)
		}
		a, err = f.answer(v.name)
	}
	code := ""
	if err != nil {
		e := &Error{http.StatusInternalServerError, "InternalFailure", err.Error()}
		errors.As(err, &e)
		code = e.Code
		a = v.render(c, e)
	}
	s.remember(c, a.status, code)
	s.write(w, c, a, f)
}

// cut ends the connection without an answer.
func (s *Server) cut(c *call) {
	s.remember(c, 0, "")
	panic(http.ErrAbortHandler)
}

// write sends an answer, slowly if the fault says so.
func (s *Server) write(w http.ResponseWriter, c *call, a *answer, f *Fault) {
	h := w.Header()
	maps.Copy(h, a.header)
	h["Date"] = []string{c.now.UTC().Format(http.TimeFormat)}
	if len(a.body) > 0 && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	if c.log.Service == "sls" {
		h.Set("x-log-requestid", c.log.ID)
	} else {
		h.Set("x-acs-request-id", c.log.ID)
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if f == nil || f.SlowBody == 0 {
		w.Write(a.body) // an error is the client's loss
		return
	}
	half := len(a.body) / 2
	w.Write(a.body[:half])
	http.NewResponseController(w).Flush()
	sleep(c.Request, time.Duration(f.SlowBody))
	if c.Request.Context().Err() == nil {
		w.Write(a.body[half:])
	}
}

// sleep waits, or until the client has gone.
func sleep(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// remember puts a request into the log and counts it.
func (s *Server) remember(c *call, status int, code string) {
	c.log.Status, c.log.Code = status, code
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requestN++
	c.log.N = s.requestN
	if len(s.requests) >= 2*keepRequests {
		s.requests = append([]Request(nil), s.requests[keepRequests:]...)
	}
	s.requests = append(s.requests, c.log)
	name := c.log.Service + "." + c.log.Operation
	s.counters[name]++
	s.counters[fmt.Sprintf("%s:%d", name, status)]++
}

// wire copies a request as received to whoever looks at the wire.
func (s *Server) wire(c *call) {
	if s.o.Wire == nil {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", c.Method, c.RequestURI, c.Proto, c.Host)
	c.Header.WriteSubset(&b, map[string]bool{"Authorization": true, "X-Acs-Security-Token": true})
	b.WriteString("\r\n")
	b.Write(c.body)
	b.WriteString("\r\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Wire.Write(b.Bytes()) // an error is the watcher's loss
}

func renderSLS(c *call, e *Error) *answer {
	return jsonAnswer(e.Status, map[string]any{"errorCode": e.Code, "errorMessage": e.Message})
}

func renderKMS(c *call, e *Error) *answer {
	return jsonAnswer(e.Status, map[string]any{
		"HttpStatus": e.Status, "Code": e.Code, "Message": e.Message, "RequestId": c.log.ID, "HostId": c.Host,
	})
}

func jsonAnswer(status int, v any) *answer {
	b, err := json.Marshal(v)
	if err != nil {
		panic("emul: " + err.Error())
	}
	return &answer{status: status, header: http.Header{}, body: b}
}

// ok is an answer without a body.
func ok() *answer { return &answer{status: http.StatusOK, header: http.Header{}} }

// header returns a header's value, several joined as one.
func (c *call) header(name string) string {
	return strings.Join(c.Header.Values(name), ",")
}

// strict decodes a JSON body that is exactly one value of v's shape.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}
