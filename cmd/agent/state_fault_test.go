package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/internal/command"
)

// What ends a start on the state directory names the file, and what mends it.
func TestStateFault(t *testing.T) {
	cfg := &conf.Config{Agent: conf.Agent{StateDir: "/var/lib/sealtail"}}
	file := "/var/lib/sealtail/identity.key.tmp"
	for _, tt := range []struct {
		err  error
		code int
		fix  string
	}{
		{unix.ENOSPC, 1, "free room on the disk of /var/lib/sealtail (df -h, df -i); systemd"},
		{unix.EDQUOT, 1, "raise the quota"},
		{unix.EROFS, 1, "ReadWritePaths="},
		{unix.EACCES, 1, "chown -R"},
		{unix.ENOTDIR, 1, "no directory is in the way"},
		{unix.EIO, 1, "dmesg -T"},
		{unix.ESTALE, 1, "network or FUSE file system"},
		{unix.EMFILE, 1, "raise LimitNOFILE"},
		{command.Fail(command.ExitConfig, unix.ENOSPC, "its own"), 78, "hint: its own"},
		{unix.EXDEV, 1, ""},
	} {
		var out bytes.Buffer
		code := report(&out, stateFault(cfg, fmt.Errorf("stream a: %w", &fs.PathError{Op: "write", Path: file, Err: tt.err})))
		if code != tt.code || !strings.Contains(out.String(), "error: stream a: write "+file) || !strings.Contains(out.String(), tt.fix) ||
			strings.Contains(out.String(), "hint:") != (tt.fix != "") {
			t.Errorf("%v: exit %d, %s", tt.err, code, out.String())
		}
	}
	if err := stateFault(cfg, nil); err != nil {
		t.Errorf("got %v of nothing", err)
	}
}

// A first start on a full disk ends with 1, and one error.
func TestFirstStartOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skip("nothing can be mounted: ", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	fill, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 512))
	}
	fill.Close()
	state := filepath.Join(disk, "state")
	for range 2 {
		err = runAgent(t.Context(), &conf.Config{Agent: conf.Agent{StateDir: state}}, nil, nil)
		var out bytes.Buffer
		if code := report(&out, err); code != 1 || strings.Count(out.String(), "\n") != 2 ||
			!strings.Contains(out.String(), "error: write "+state+"/identity.key.tmp: no space left on device\n") || !strings.Contains(out.String(), "hint: free room on the disk of "+state) {
			t.Errorf("exit %d, %s", code, out.String())
		}
	}
}
