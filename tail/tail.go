// Package tail follows files and sends what is written to them as chunks of
// whole records, each with the position of its file once the chunk is taken.
//
//	globs ──▶ scan ──▶ files ──look──▶ queue ──read──▶ chunk ──▶ out
//	            ▲                 ▲
//	            └── fsnotify ─────┘   a hint that shortens the wait
//
// One goroutine scans, looks, reads and sends. A scan lists directories and
// opens what is new; a look asks a file for its size and times; a file with
// news is queued, and every file in the queue is read one chunk a turn. While
// the receiver does not take a chunk, scans and looks go on, so that a file
// that comes and goes meanwhile is held open. Polling is the truth: a scan and
// a look at every file at least each [Options.Poll], a file that was written
// to sooner again. Nothing depends on an event. A file that comes and goes
// between two scans, and whose event comes too late or not at all, is not seen,
// and nobody can know what it had: hints make the time between two scans about
// 10 ms, where the system has them (no network file systems).
//
// # Records
//
// A record is a line without its line feed; empty lines are records, and no
// byte is changed. A line that is not finished stays in its file for
// [Options.FlushAfter]; then what there is of it is sent as a piece, and the
// rest as others. So is a line longer than [Options.MaxRecord], and what a file
// ended with that was deleted and that nobody writes to any more.
//
// By option lines are converted to UTF-8, taken out of what a container runtime
// wraps them in, joined, and dropped. A record that several lines make up is
// sent when it is whole. Until then the position stays before it, and says of
// each source stream (stdout, stderr) how far it is taken beyond: so a restart
// neither loses nor repeats, and nothing is kept in memory. Where the record
// goes on in the file that took the path, both positions move in one chunk.
//
// # Identity
//
// A file is known again by its inode number and two fingerprints
// ([record.Print]): the head, its first 1024 bytes, and the marker, the last
// 1024 before the offset (of less, what there is). Path and device are hints,
// but for a file that was empty: there the name must be one that rotation gives.
// What is found under a name that the patterns do not match is read to its end.
// Each read begins at the marker and checks it: what differs was written anew
// and is read from 0. Content that was replaced or truncated gets a new
// position, and the old one is looked for in the directory (copytruncate,
// rotation while nobody looked) for a few seconds before what was unread of it
// counts as lost. A file that appears with the content of one followed is its
// copy, and is not read again if the followed one is truncated soon.
//
// Rotated files are looked for beside the one that took their path and where
// [Options.Rotated] say. A .gz file is what it holds: offsets, sizes and
// fingerprints are of the inflated bytes. It is read once it is whole; what it
// holds of a file that is gone goes on from that file's position. A hole that a
// truncated file begins with is skipped.
//
// While nobody takes chunks the receiver knows nothing of new files, so these
// are told to [Options.Found]. Their positions have the head of what they had.
//
// # Descriptors
//
// Each file is opened once to be identified. Beyond [Options.MaxOpen] files are
// closed when they are read to their end, and wait in line to be opened again;
// files with unread bytes are not closed, nor are deleted ones as long as others
// can be. While nobody takes chunks, files that wait may be deleted: what they
// had when they were looked at last is then lost, and told.
//
// # Loss
//
// Bytes that are known and can no longer be read are sent as an event:
//
//	loss {path, inode, from, to, reason}
//	reason: deleted unread | deleted waiting for a descriptor |
//	        truncated unread | rewritten unread | held-bytes limit | spool damaged
//
// # Errors
//
// [New] reports faults of its options. [Tailer.Run] returns nil: what goes
// wrong with files is waited for, logged once and counted.
//
// A crash leaves nothing: the package writes nothing. Where to go on is what
// the receiver kept of [record.Chunk.Moved] and of [Options.Found].
package tail

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/internal/loop"
	"sealtail/record"
)

// Options say what to follow and how. Include and Key must be set.
type Options struct {
	Include []string // globs of absolute paths, with ** and {a,b}
	Exclude []string // globs of whole paths, such as **/*.gz; DIR/** leaves DIR unread
	Rotated []string // globs of absolute paths where rotated files lie, also compressed ones

	Since     time.Time         // when Positions were still kept, or begun if there are none yet, if known: what was rotated since is read
	Positions []record.Position // where reading goes on, and holes; all other files begin at 0
	Key       []byte            // of the fingerprints

	// Found, if set, is told the positions of files that a restart could lose
	// without a trace: those that nothing was taken of, when they are
	// identified, and again when they were renamed or have grown; those without
	// a name, when they lose it or have grown; while nobody takes chunks all that
	// have grown, or while Waiting says so; and when Run ends, all with unread bytes. It is called by the goroutine of
	// Run, also while nobody takes chunks, and must not block; it may keep the slice. What is told is
	// to be committed at once. Offset is 0: of a file that more is
	// committed of, only path, device, inode, size, Deleted and Next are news.
	// Where it is not, what is before it was another file's and is on its way with
	// a chunk: such a one is not to be committed before that.
	Found func([]record.Position)

	// Waiting, if set, reports whether chunks that were taken wait in memory, for
	// a key or for room. It is asked each Poll.
	Waiting func() bool

	// Held are descriptors of deleted files that an earlier Tailer told to Hold;
	// they are this one's from now on. A file that no position fits begins at 0.
	Held []int
	// Hold, if set, is told of each deleted file that is held open, once, with
	// its descriptor, to be copied before Hold returns; and with -1 where a file
	// is given up before its position is closed. When Run ends, it is told of all
	// others that are open, too: they may be deleted before the next Tailer begins. It is called by the goroutine of
	// New or Run.
	Hold func(dev, inode uint64, fd int)

	Format     string    // "lines" (also ""), "cri" or "docker": how records are written
	Encoding   string    // "utf-8" (also "", bytes as they are), "gb18030", "gbk", "utf-16le", "utf-16be" or "utf-16", by its mark
	TrimCR     bool      // a CR before the LF is part of the line end
	Multiline  Multiline // zero: a line is a record
	Keep, Drop []string  // RE2: records that match none of Keep, if there are any, or one of Drop, are dropped
	RateLimit  int64     // bytes of files per second; 0 = no limit

	FlushAfter   time.Duration // after which a line that is not finished is sent in parts; default 5 s
	MaxRecord    int           // content bytes of a record before it is cut; default and most 512 KiB
	HoldMaxBytes int64         // disk space of deleted files held open; default 8 GiB, < 0 = no limit
	HoldMinFree  float64       // share of a disk that held files leave free; default 0.05, < 0 = no floor
	RotateWait   time.Duration // quiet time after which a file that lost its path is done; default 30 s
	Poll         time.Duration // between scans and between looks at a quiet file; default and most 1 s
	MaxOpen      int           // descriptors of files held open, and few more for a moment; default half of RLIMIT_NOFILE
	IgnoreOlder  time.Duration // a file that was not written to for so long when it is found begins at its end; 0 = none does
	Once         bool          // send the whole lines there are, then return
	Log          *zap.Logger   // default: none
}

const (
	minLook    = 25 * time.Millisecond // between looks at a busy file
	foundEach  = 10 * time.Millisecond // between tellings of how files grow while nobody takes chunks, for each file told …
	foundWait  = 5 * time.Second       // … and at most
	copyWait   = 5 * time.Second       // how long the content of a replaced file is looked for
	forgetWait = 24 * time.Hour        // from the closing of a file that is gone to the end of its position
	verifyEach = 10                    // scans: every so many ask for each inode instead of believing the directory
	scanShare  = 50                    // a scan takes at most this part of the time
)

// A Tailer follows the files of one stream. Its methods, other than
// [Tailer.Stats], are for one goroutine.
type Tailer struct {
	o    Options
	log  *zap.Logger
	mac  hash.Hash
	cut  cutter
	pool *pool

	join   *joiner // nil: what is written is lines of bytes
	filter *filter // nil: all records are kept
	convs  map[uint8]*converter
	byMark bool  // a file's first bytes choose among convs
	most   int64 // bytes that are always enough to go on
	last   pass  // over what was read
	rate   rate

	vacant  map[string][]*file // that left a path, by it
	awaited map[uint64]*file   // by Position.Next
	linked  []*file            // with a prev

	born time.Time     // what now counts from, on the monotonic clock
	now  time.Duration // as of this turn
	wall time.Time     // as of this turn

	roots   []*dir
	dirs    map[string]*dir  // by path, for hints
	closed  map[string]error // by path: what the patterns take and cannot be opened
	late    []*dir           // to be listed again soon
	unseen  []*file          // found in this scan, and nothing read of them: may go on in one another
	touched []*file          // whose names changed in this scan
	renamed []*file          // that have another path since
	scratch []byte
	dirents []byte
	free    func(fd int) (share float64, ok bool) // of the disk below an open file
	remote  func(fd int) bool                     // whether an open file may lie elsewhere
	pread   func(fd int, b []byte, off int64) (int, error)
	watcher func() (*fsnotify.Watcher, error)
	remotes map[uint64]bool // by device
	scans   int
	looks   int64 // told; see stamp
	blocked bool  // a chunk is not taken
	waits   bool  // Options.Waiting said so
	started bool  // the first round's scan is over
	failed  bool  // the last scan could not see everything

	files      []*file            // that have a name or a descriptor
	bound      map[inode]*file    // the same
	unbound    map[uint64][]*file // positions without a file, by inode number
	heads      map[uint64]*file   // both kinds, by the beginning of a full head; chained
	wanted     []*file            // of unbound: being looked for
	wantedAt   map[string][]*file // the same, by path
	queue      fifo               // files with unread bytes
	waiting    fifo               // files with news that there is no descriptor for
	hot        []*file            // looked at more often than each Poll
	fresh      []*file            // to be told to Options.Found
	freshWait  time.Duration      // between tellings of how a file grows
	dirty      []*file            // with something to tell beside their bytes
	telling    bool               // it is time to tell it
	losing     bool               // a loss is to be told
	zips       []*file            // .gz of which it is not known what they are
	inflaters  int                // open
	inflated   int                // bytes, in the turn of …
	inflatedAt time.Duration
	chains     map[string]int64 // paths of rotated files, and when those were written to last: see after
	again      []*rereading
	againAt    time.Duration // not before
	turned     bool          // the files were asked last

	nextRound time.Duration
	nextScan  time.Duration
	nextHot   time.Duration
	nextLong  time.Duration
	watch     *watch        // nil = polling only
	watchAt   time.Duration // when watching is tried again, if it is nil
	slow      bool          // the last scan took longer than Options.Poll
	noisy     []*dir        // not watched for a while

	n        Stats // the loop's own
	mu       sync.Mutex
	stats    Stats        // guarded by mu: n as of the last turn
	mostOpen atomic.Int64 // Options.MaxOpen to be
	lively   loop.Turn
}

// New checks o and returns a Tailer. It opens nothing. Where it fails,
// Options.Held are still the caller's.
func New(o Options) (*Tailer, error) {
	var errs []error
	o.MaxRecord = or(o.MaxRecord, record.MaxChunkBytes)
	o.HoldMaxBytes = or(o.HoldMaxBytes, 8<<30)
	o.HoldMinFree = or(o.HoldMinFree, 0.05)
	o.RotateWait = or(o.RotateWait, 30*time.Second)
	o.Poll = or(o.Poll, time.Second)
	o.FlushAfter = or(o.FlushAfter, 5*time.Second)
	if o.MaxOpen == 0 {
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return nil, fmt.Errorf("get RLIMIT_NOFILE: %w", err)
		}
		o.MaxOpen = int(min(lim.Cur/2, 1<<30))
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	for _, bad := range []struct {
		is  bool
		why string
	}{
		{len(o.Include) == 0, "no include pattern"},
		{len(o.Key) == 0, "no key"},
		{o.MaxRecord < 4 || o.MaxRecord > record.MaxChunkBytes, "max record: not within 4 and 524288 bytes"},
		{o.Poll < 0 || o.Poll > time.Second, "poll: not within 0 and 1 s"},
		{o.FlushAfter < 0, "flush after: negative"},
		{o.RateLimit < 0, "rate limit: negative"},
		{o.RotateWait < 0, "rotate wait: negative"},
		{o.IgnoreOlder < 0, "ignore older: negative"},
		{o.MaxOpen < 1, "max open: less than 1"},
		{o.HoldMinFree >= 1, "hold min free: not less than 1"},
	} {
		if bad.is {
			errs = append(errs, errors.New(bad.why))
		}
	}
	t := &Tailer{
		o: o, log: o.Log, born: time.Now(),
		mac:  hmac.New(sha256.New, o.Key),
		cut:  cutter{max: o.MaxRecord, id: newID, trimCR: o.TrimCR},
		rate: rate{limit: o.RateLimit},
		pool: newPool(o.MaxRecord),
		dirs: map[string]*dir{}, closed: map[string]error{}, scratch: make([]byte, 64<<10), dirents: make([]byte, 32<<10), free: statfsFree, remote: statfsRemote, pread: pread, watcher: fsnotify.NewWatcher, remotes: map[uint64]bool{},
		bound: map[inode]*file{}, unbound: map[uint64][]*file{}, heads: map[uint64]*file{}, wantedAt: map[string][]*file{}, chains: map[string]int64{},
		vacant: map[string][]*file{}, awaited: map[uint64]*file{},
	}
	t.SetMaxOpen(o.MaxOpen)
	errs = append(errs, t.shape())
	for _, g := range o.Include {
		ps, err := compile(g)
		errs = append(errs, err)
		for _, p := range ps {
			t.root(p)
		}
	}
	for _, g := range o.Rotated {
		errs = append(errs, checkRotated(g))
	}
	for _, g := range o.Exclude {
		errs = append(errs, checkExclude(g))
	}
	for _, p := range o.Positions {
		if p.Until != 0 {
			t.again = append(t.again, &rereading{pos: p, fd: -1})
			continue
		}
		t.load(p)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	t.adoptAll(o.Held)
	return t, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// newID returns a random number that is not zero.
func newID() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if id := binary.BigEndian.Uint64(b[:]); id != 0 {
			return id
		}
	}
}
