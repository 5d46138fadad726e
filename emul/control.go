package emul

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

const maxControl = 1 << 20 // bytes of a body

// newControl returns the control API. docs/EMULATOR.md is its document.
func (s *Server) newControl() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			status := http.StatusOK
			if err != nil {
				v, status = map[string]string{"error": err.Error()}, http.StatusBadRequest
			}
			if v == nil {
				v = struct{}{}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v) // an error is the client's loss
		})
	}
	handle("GET /control/state", func(*http.Request) (any, error) { return s.state(), nil })
	handle("GET /control/counters", func(*http.Request) (any, error) { return s.Counters(), nil })
	handle("GET /control/requests", func(r *http.Request) (any, error) {
		after, err := strconv.Atoi(or(r.URL.Query().Get("after"), "0"))
		return s.Requests(after), err
	})
	handle("GET /control/errors", func(*http.Request) (any, error) {
		return map[string]any{"sls": SLSErrors(), "kms": KMSErrors()}, nil
	})

	handle("PUT /control/keys/{id}", func(r *http.Request) (any, error) {
		k, err := read[Key](r)
		if err != nil {
			return nil, err
		}
		k.ID = r.PathValue("id")
		return s.SetKey(k)
	})
	handle("PUT /control/keys/{id}/state", func(r *http.Request) (any, error) {
		state, err := read[string](r)
		if err != nil {
			return nil, err
		}
		return nil, s.SetKeyState(r.PathValue("id"), state)
	})
	handle("DELETE /control/keys/{id}", func(r *http.Request) (any, error) {
		s.DeleteKey(r.PathValue("id"))
		return nil, nil
	})
	handle("PUT /control/roles/{name}", func(r *http.Request) (any, error) {
		role, err := read[Role](r)
		if err != nil {
			return nil, err
		}
		role.Name = r.PathValue("name")
		return map[string]string{"arn": s.SetRole(role)}, nil
	})
	handle("DELETE /control/roles/{name}", func(r *http.Request) (any, error) {
		s.DeleteRole(r.PathValue("name"))
		return nil, nil
	})
	handle("PUT /control/credentials/{id}", func(r *http.Request) (any, error) {
		c, err := read[Credential](r)
		if err != nil {
			return nil, err
		}
		c.AccessKeyID = r.PathValue("id")
		s.SetCredential(c)
		return nil, nil
	})
	handle("DELETE /control/credentials/{id}", func(r *http.Request) (any, error) {
		s.DeleteCredential(r.PathValue("id"))
		return nil, nil
	})
	handle("PUT /control/projects/{name}", func(r *http.Request) (any, error) {
		s.AddProject(r.PathValue("name"))
		return nil, nil
	})
	handle("PUT /control/projects/{project}/logstores/{name}/encryption", func(r *http.Request) (any, error) {
		conf, err := read[*EncryptConf](r)
		if err != nil {
			return nil, err
		}
		return nil, s.ForceEncryption(r.PathValue("project"), r.PathValue("name"), conf)
	})

	handle("GET /control/faults", func(*http.Request) (any, error) { return s.Faults(), nil })
	handle("POST /control/faults", func(r *http.Request) (any, error) {
		f, err := read[Fault](r)
		if err != nil {
			return nil, err
		}
		return map[string]int{"id": s.Inject(f)}, nil
	})
	handle("DELETE /control/faults", func(*http.Request) (any, error) {
		s.Clear()
		return nil, nil
	})
	handle("DELETE /control/faults/{id}", func(r *http.Request) (any, error) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err == nil {
			s.Clear(id)
		}
		return nil, err
	})
	handle("PUT /control/clock", func(r *http.Request) (any, error) {
		offset, err := read[Duration](r)
		if err == nil {
			s.SetClock(time.Duration(offset))
		}
		return nil, err
	})
	handle("PUT /control/quirks", func(r *http.Request) (any, error) {
		q, err := read[Quirks](r)
		if err == nil {
			s.SetQuirks(q)
		}
		return nil, err
	})

	mux.HandleFunc("GET /control/atrest", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		if s.AtRest(w, r.URL.Query().Get("project"), r.URL.Query().Get("logstore")) != nil {
			panic(http.ErrAbortHandler)
		}
	})
	return mux
}

// read decodes the body of a request.
func read[T any](r *http.Request) (v T, err error) {
	b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxControl))
	if err == nil {
		err = strict(b, &v)
	}
	return v, err
}

// state is all that there is, without secrets.
func (s *Server) state() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	type logstoreState struct {
		Logstore
		Groups int   `json:"groups"` // LogGroups
		Bytes  int64 `json:"bytes"`  // of them at rest
	}
	projects := map[string]map[string]logstoreState{}
	for p := range s.projects {
		projects[p] = map[string]logstoreState{}
		for name, l := range s.projects[p].logstores {
			st := logstoreState{Logstore: l.Logstore}
			for _, sh := range l.shards {
				st.Groups += len(sh.entries)
				st.Bytes += sh.data.size()
			}
			projects[p][name] = st
		}
	}
	keys := map[string]Key{}
	for id, k := range s.keys {
		keys[id] = k.Key
	}
	credentials := map[string]Credential{}
	for id, c := range s.credentials {
		c.AccessKeySecret, c.SecurityToken = "", ""
		credentials[id] = c
	}
	roles := map[string]Role{}
	for name, r := range s.roles {
		roles[s.roleARN(name)] = r
	}
	faults := make([]Fault, len(s.faults))
	for i, f := range s.faults {
		faults[i] = *f
	}
	return map[string]any{
		"region": s.o.Region, "account": s.o.Account, "clock": Duration(s.offset), "quirks": s.quirks,
		"projects": projects, "keys": keys, "roles": roles, "credentials": credentials, "faults": faults,
	}
}
