// Sealtail-emulator serves an emulator of Log Service and KMS on a loopback
// address, for development and tests. docs/EMULATOR.md says what it does and
// how to steer it.
//
// When it is ready it prints one line of JSON: its URLs, the CA file with
// --tls, an access key that may do everything, ARNs of keys and roles. It ends
// with SIGINT or SIGTERM. The exit code is 0 when it was stopped, 1 when it
// failed, 64 when the command line is wrong.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sealtail/emul"
)

const usage = `Usage: sealtail-emulator [--listen ADDRESS] [--tls] [FLAGS]

  --listen ADDRESS    loopback address to serve on (127.0.0.1:0)
  --tls               serve HTTPS under a CA made for this run
  --host NAME         name of the SLS endpoint, under which projects are
                      sub-domains (sls.test)
  --region ID         region (cn-hangzhou)
  --project NAME      create this project; may be given again
  --cmk ID[=SPEC]     create this key, of Aliyun_AES_256 or Aliyun_SM4, with
                      the alias alias/ID; may be given again
  --role NAME         create this role: SLS may assume it, and it has both
                      managed policies that SLS asks for; may be given again
  --data DIR          keep the data at rest in files in DIR, not in memory
  --wire FILE         append each request as received, without signatures
`

// ready is the line that is printed.
type ready struct {
	SLS             string            `json:"sls"`
	KMS             string            `json:"kms"`
	Control         string            `json:"control"`
	Address         string            `json:"address"` // to dial, whatever the host name
	Host            string            `json:"host"`
	CAFile          string            `json:"ca_file,omitempty"`
	AccessKeyID     string            `json:"access_key_id"`
	AccessKeySecret string            `json:"access_key_secret"`
	Region          string            `json:"region"`
	Account         string            `json:"account"`
	CMKs            map[string]string `json:"cmks"`  // ARN by id
	Roles           map[string]string `json:"roles"` // ARN by name
}

// A list is a flag that may be given again.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

type options struct {
	listen, host, region, data, wire string
	tls                              bool
	projects, cmks, roles            list
}

func main() {
	var o options
	f := flag.NewFlagSet("sealtail-emulator", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "")
	f.BoolVar(&o.tls, "tls", false, "")
	f.StringVar(&o.host, "host", "sls.test", "")
	f.StringVar(&o.region, "region", "cn-hangzhou", "")
	f.StringVar(&o.data, "data", "", "")
	f.StringVar(&o.wire, "wire", "", "")
	f.Var(&o.projects, "project", "")
	f.Var(&o.cmks, "cmk", "")
	f.Var(&o.roles, "role", "")
	switch err := f.Parse(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return
	case err != nil:
		refuse(err.Error())
	case f.NArg() > 0:
		refuse(fmt.Sprintf("unexpected argument %q", f.Arg(0)))
	}
	if err := loopback(o.listen); err != nil {
		refuse(err.Error())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "sealtail-emulator: error: %v\n", err)
		os.Exit(1)
	}
}

func refuse(why string) {
	fmt.Fprintf(os.Stderr, "sealtail-emulator: error: %s\nsealtail-emulator: hint: see sealtail-emulator --help\n", why)
	os.Exit(64)
}

// loopback returns an error unless an address can be reached from this host
// alone.
func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--listen %q is no address", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("--listen %q is not a loopback address", address)
	}
	return nil
}

func run(ctx context.Context, o options) (err error) {
	eo := emul.Options{Host: o.host, Region: o.region, Dir: o.data}
	if o.data != "" {
		if err := os.MkdirAll(o.data, 0o700); err != nil {
			return err
		}
	}
	if o.wire != "" {
		wire, err := os.OpenFile(o.wire, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer wire.Close()
		eo.Wire = wire
	}
	s := emul.New(eo)
	defer s.Close()
	r := ready{Host: o.host, Region: o.region, CMKs: map[string]string{}, Roles: map[string]string{}}
	if err := populate(s, o, &r); err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	serve := server.Serve
	scheme := "http://"
	if o.tls {
		dir, err := os.MkdirTemp("", "sealtail-emulator-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		r.CAFile = filepath.Join(dir, "ca.pem")
		cert, ca, err := certificates(o.host, o.region)
		if err != nil {
			return err
		}
		if err := os.WriteFile(r.CAFile, ca, 0o644); err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		scheme = "https://"
	}
	r.Address = l.Addr().String()
	r.SLS, r.KMS, r.Control = scheme+r.Address, scheme+r.Address, scheme+r.Address+"/control"
	r.AccessKeyID, r.AccessKeySecret = s.Root()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	done := context.AfterFunc(ctx, func() { server.Close() })
	defer done()
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// populate creates what the flags name.
func populate(s *emul.Server, o options, r *ready) error {
	r.Account = s.Account()
	for _, name := range o.projects {
		s.AddProject(name)
	}
	for _, cmk := range o.cmks {
		id, spec, _ := strings.Cut(cmk, "=")
		k, err := s.SetKey(emul.Key{ID: id, Spec: spec, Aliases: []string{"alias/" + id}, DeletionProtection: true})
		if err != nil {
			return err
		}
		r.CMKs[id] = k.ARN
	}
	for _, name := range o.roles {
		r.Roles[name] = s.SetRole(emul.SLSRole(name))
	}
	return nil
}
