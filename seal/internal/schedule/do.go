package schedule

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Do calls f and waits for it, and leaves nothing in memory of what f had on
// the stack and in registers. What f allocates f has to wipe.
//
// Of a running goroutine Go leaves copies behind, at any moment: a signal, by
// which it preempts goroutines as well, saves all registers on the thread's
// signal stack, and preemption saves them once more; a stack that grows or
// shrinks is copied, and the old one given away as it is. So f runs on a new
// goroutine whose stack is of full size from the start and too deep to shrink,
// and on a thread that holds signals back until the registers are cleared and
// the stack is.
//
// f does not wait, and does not panic: nobody recovers from that. What it leaves
// more than 12 KiB below, and what lay on the stack before it grew beyond, is not
// reached: our ciphers and hashes take 3 KiB, crypto/hpke takes more.
func Do(f func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var was unix.Sigset_t
		_ = unix.PthreadSigmask(unix.SIG_BLOCK, &held, &was) // cannot fail
		deep(f)
		wash()
		_ = unix.PthreadSigmask(unix.SIG_SETMASK, &was, nil)
	})
	wg.Wait()
}

const (
	// above is the stack in use while f runs. The whole is 32 KiB with scrubbed,
	// and Go halves only stacks of which less than a quarter is in use, so it
	// could be twice that: goroutines start with what they use on average.
	above    = 16 << 10
	scrubbed = 12 << 10
)

//go:noinline
func deep(f func()) {
	var pad [above]byte
	clearPad(&pad)
	scrub()
	f()
	scrub()
}

//go:noinline
func clearPad(b *[above]byte) { clear(b[:]) }

// scrub zeroes the stack below its caller, and makes it that large.
//
//go:noinline
func scrub() {
	var below [scrubbed]byte
	clearBelow(&below)
}

//go:noinline
func clearBelow(b *[scrubbed]byte) { clear(b[:]) }

// held are all signals but those that what a thread does raises: these cannot
// wait.
var held = func() (set unix.Sigset_t) {
	for i := range set.Val {
		set.Val[i] = ^set.Val[i]
	}
	for _, s := range []unix.Signal{unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGSYS, unix.SIGTRAP} {
		set.Val[0] &^= 1 << (s - 1)
	}
	return set
}()
