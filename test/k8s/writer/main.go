// Command writer is what the pods of the Kubernetes test run: it writes
// numbered lines and keeps a record of them where no log goes. Called as
// "pause" it holds a pod's namespaces, as "chown" it is what its name says.
//
//	RUN SEQ LENGTH padding
//
// A run is one life of the container, LENGTH that of the line. In DIR the file of the run has two
// numbers: lines begun, and lines written when the run ended by itself or by
// SIGTERM, -1 before.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "pause":
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
		<-term
	case "chown":
		if err := chown(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		if err := write(); err != nil {
			os.WriteFile("/truth/error", []byte(err.Error()), 0o644)
			os.Exit(1)
		}
	}
}

// chown is chown -R, of which -R was read.
func chown(owner, dir string) error {
	u, g, _ := strings.Cut(owner, ":")
	uid, err := strconv.Atoi(u)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

func write() error {
	name := flag.String("name", "", "of the pod")
	lines := flag.Int("lines", 1000, "lines to write")
	sizes := flag.String("sizes", "100", "lengths of the lines, in turn")
	rate := flag.Int("rate", 0, "lines a second; 0 = as fast as it goes")
	both := flag.Bool("both", false, "every other line to stderr")
	exit := flag.Int("exit", -1, "exit code when done; -1 = stay")
	lives := flag.Int("lives", 1000000, "runs that write; those after them stay and write nothing")
	flag.Parse()

	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if before, _ := filepath.Glob("/truth/" + *name + "-*"); len(before) >= *lives {
		<-term
		return nil
	}
	run := fmt.Sprintf("%s-%d", *name, time.Now().UnixNano())
	truth, err := os.Create("/truth/" + run)
	if err != nil {
		return err
	}
	record := func(begun, done int64) error {
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:], uint64(begun))
		binary.LittleEndian.PutUint64(b[8:], uint64(done))
		_, err := truth.WriteAt(b[:], 0)
		return err
	}
	var lengths []int
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		lengths = append(lengths, n)
	}
	out := []*bufio.Writer{bufio.NewWriterSize(os.Stdout, 64<<10), bufio.NewWriterSize(os.Stderr, 64<<10)}
	flush := func() error {
		if err := out[0].Flush(); err != nil {
			return err
		}
		return out[1].Flush()
	}
	began, n, ended := time.Now(), 0, false
	for n < *lines && !ended {
		if n%100 == 0 {
			if err := record(int64(n+100), -1); err != nil {
				return err
			}
		}
		n++
		head := run + " " + strconv.Itoa(n) + " "
		size := max(lengths[n%len(lengths)], len(head)+7)
		head += strconv.Itoa(size) + " "
		pad := size - len(head)
		w := out[0]
		if *both {
			w = out[n%2]
		}
		w.WriteString(head)
		w.WriteString(strings.Repeat("x", pad))
		w.WriteByte('\n')
		select {
		case <-term:
			ended = true
		default:
		}
		if *rate > 0 {
			if err := flush(); err != nil {
				return err
			}
			time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(*rate))))
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if err := record(int64(n), int64(n)); err != nil {
		return err
	}
	if *exit < 0 && !ended {
		<-term
	}
	os.Exit(max(*exit, 0))
	return nil
}
