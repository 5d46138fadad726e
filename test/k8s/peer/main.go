// Command peer is whom the agent may and may not talk to when its NetworkPolicy
// is enforced: pods serve, and dial is run in the network of any of them.
//
//	peer serve -name=POD [-tcp=PORT,…] [-udp=PORT,…] [-relay=PORT,… -to=HOST:PORT]
//	peer dial tcp|udp|tcp-open HOST:PORT
//
// What is sent to a port of tcp and udp comes back; dial exits with 0 if it
// does, and for tcp-open if somebody listens. Each port of relay leads to a
// server that listens on loopback alone.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	err := errors.New("call it as serve or dial")
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		err = serve(os.Args[2:])
	}
	if len(os.Args) == 4 && os.Args[1] == "dial" {
		err = dial(os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dial(network, address string) error {
	network, open := strings.CutSuffix(network, "-open")
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if open {
		return nil
	}
	c.SetDeadline(time.Now().Add(2 * time.Second))
	const said = "anybody there?"
	if _, err := io.WriteString(c, said); err != nil {
		return err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(c, heard); err != nil {
		return err
	}
	if string(heard) != said {
		return fmt.Errorf("%s answered %q", address, heard)
	}
	return nil
}

func serve(args []string) error {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	f.String("name", "", "of the pod, for whoever looks for the process")
	tcp := f.String("tcp", "", "ports that answer")
	udp := f.String("udp", "", "ports that answer")
	relay := f.String("relay", "", "ports that lead to -to")
	to := f.String("to", "", "where they lead")
	if err := f.Parse(args); err != nil {
		return err
	}
	failed := make(chan error)
	listen := func(ports string, handle func(net.Conn)) error {
		for _, port := range strings.FieldsFunc(ports, func(r rune) bool { return r == ',' }) {
			l, err := net.Listen("tcp", ":"+port)
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						failed <- err
						return
					}
					go handle(c)
				}
			}()
		}
		return nil
	}
	if err := listen(*tcp, func(c net.Conn) { io.Copy(c, c); c.Close() }); err != nil {
		return err
	}
	err := listen(*relay, func(c net.Conn) {
		defer c.Close()
		server, err := net.Dial("tcp", *to)
		if err != nil {
			return
		}
		defer server.Close()
		go io.Copy(server, c)
		io.Copy(c, server)
	})
	if err != nil {
		return err
	}
	for _, port := range strings.FieldsFunc(*udp, func(r rune) bool { return r == ',' }) {
		c, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 1500)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					failed <- err
					return
				}
				c.WriteTo(b[:n], from)
			}
		}()
	}
	return <-failed
}
