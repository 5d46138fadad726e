package emul

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// Transport returns a client's way to the Server without sockets: whatever the
// URL of a request, the Server serves it. It blocks on channels alone, so it
// works in a bubble of [testing/synctest].
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ handler http.Handler }

// RoundTrip serves one request. A cut connection is io.ErrUnexpectedEOF.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	served := r.Clone(ctx)
	served.Body = io.NopCloser(bytes.NewReader(body))
	served.ContentLength = int64(len(body))
	served.RequestURI = r.URL.RequestURI()
	served.RemoteAddr = "127.0.0.1:1"
	if served.Host == "" {
		served.Host = r.URL.Host
	}
	served.Header.Del("Host")
	out, in := io.Pipe()
	w := &pipeWriter{header: http.Header{}, in: in, ready: make(chan *http.Response, 1)}
	w.response = &http.Response{
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1,
		Body: pipeBody{out, cancel},
	}
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	go func() {
		defer func() {
			if p := recover(); p == nil {
				w.WriteHeader(http.StatusOK)
				in.CloseWithError(ctx.Err()) // nil ends the body
			} else if p == http.ErrAbortHandler {
				close(w.ready)
				in.CloseWithError(io.ErrUnexpectedEOF)
			} else {
				panic(p)
			}
		}()
		t.handler.ServeHTTP(w, served)
	}()
	select {
	case resp, ok := <-w.ready:
		if !ok {
			cancel()
			return nil, io.ErrUnexpectedEOF
		}
		return resp, nil
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

// A pipeWriter is an [http.ResponseWriter] whose body is read from a pipe.
type pipeWriter struct {
	header   http.Header
	in       *io.PipeWriter
	response *http.Response
	wrote    bool
	ready    chan *http.Response
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	w.response.StatusCode = status
	w.response.Status = fmt.Sprintf("%d %s", status, http.StatusText(status))
	w.response.Header = w.header.Clone()
	w.ready <- w.response
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if len(b) == 0 {
		return 0, nil
	}
	return w.in.Write(b)
}

// Flush does nothing: a pipe keeps nothing back.
func (w *pipeWriter) Flush() {}

// A pipeBody ends the request when the client is done with the answer.
type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
