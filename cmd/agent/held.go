package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
	"sealtail/status"
)

// heldFiles keeps a copy of the descriptor of each deleted file until all that
// was taken of it is committed: for the stream's next tailer after a reload,
// and in systemd's store for the next process.
type heldFiles struct {
	systemd *status.Systemd
	log     *zap.Logger
	most    int

	mu   sync.Mutex // guards what follows
	fds  map[heldFile]int
	full bool // told that there are more, since one was let go
}

type heldFile struct {
	stream   string
	dev, ino uint64
}

// maxHeld is FileDescriptorStoreMax of the unit.
const maxHeld = 1024

// String is the file's name in systemd's store.
func (f heldFile) String() string { return fmt.Sprintf("%x-%x-%s", f.dev, f.ino, f.stream) }

func parseHeld(name string) (f heldFile, ok bool) {
	parts := strings.SplitN(name, "-", 3)
	if len(parts) != 3 {
		return f, false
	}
	var err, err2 error
	f.dev, err = strconv.ParseUint(parts[0], 16, 64)
	f.ino, err2 = strconv.ParseUint(parts[1], 16, 64)
	f.stream = parts[2]
	return f, err == nil && err2 == nil && f.String() == name
}

// newHeldFiles takes over what systemd handed to this process.
func newHeldFiles(systemd *status.Systemd, came []status.Descriptor, log *zap.Logger) *heldFiles {
	h := &heldFiles{systemd: systemd, log: log, most: maxHeld, fds: make(map[heldFile]int)}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		h.most = int(min(maxHeld, limit.Cur/8))
	}
	for _, d := range came {
		var st unix.Stat_t
		f, ok := parseHeld(d.Name)
		if _, twice := h.fds[f]; !ok || twice || unix.Fstat(d.FD, &st) != nil || st.Dev != f.dev || st.Ino != f.ino {
			unix.Close(d.FD)
			h.told(h.systemd.Unstore(d.Name))
			continue
		}
		h.fds[f] = d.FD
	}
	if len(h.fds) > 0 {
		log.Info("deleted files came back through systemd", zap.Int("files", len(h.fds)))
	}
	return h
}

// hold is for tail.Options.Hold of a stream.
func (h *heldFiles) hold(stream string) func(dev, ino uint64, fd int) {
	return func(dev, ino uint64, fd int) {
		f := heldFile{stream, dev, ino}
		if fd < 0 {
			h.done(f)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.fds[f]; ok {
			return
		}
		own, err := -1, error(unix.EMFILE)
		if len(h.fds) < h.most {
			own, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		}
		if err != nil {
			if !h.full {
				h.full = true
				h.log.Warn("more deleted files are open than are kept over a restart or a reload: it would lose what is unread of the rest",
					zap.Int("kept", len(h.fds)), zap.Int("most", h.most), zap.Error(err),
					zap.String("hint", "do not restart before they are read; an eighth of LimitNOFILE is kept, 1024 at most"))
			}
			return
		}
		h.fds[f] = own
		h.told(h.systemd.Store(f.String(), own))
	}
}

// committed lets go of the files whose positions are done with. One that is
// forgotten says nothing of the file: its inode may be another's now.
func (h *heldFiles) committed(stream string, moved []record.Position) {
	for _, p := range moved {
		if p.Closed != 0 && !p.Forget {
			h.done(heldFile{stream, p.Dev, p.Ino})
		}
	}
}

func (h *heldFiles) done(f heldFile) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fd, ok := h.fds[f]; ok {
		unix.Close(fd)
		delete(h.fds, f)
		h.full = false
		h.told(h.systemd.Unstore(f.String()))
	}
}

// of returns copies of a stream's descriptors, for tail.Options.Held.
func (h *heldFiles) of(stream string) (fds []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f, fd := range h.fds {
		if f.stream != stream {
			continue
		}
		if own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			fds = append(fds, own)
		}
	}
	return fds
}

// keep lets go of the files of streams that are not there.
func (h *heldFiles) keep(there func(stream string) bool) {
	h.mu.Lock()
	var gone []heldFile
	for f := range h.fds {
		if !there(f.stream) {
			gone = append(gone, f)
		}
	}
	h.mu.Unlock()
	for _, f := range gone {
		h.done(f)
	}
}

func (h *heldFiles) told(err error) {
	if err != nil {
		h.log.Warn("systemd cannot be told of a deleted file: a restart would lose what is unread of it", zap.Error(err))
	}
}
