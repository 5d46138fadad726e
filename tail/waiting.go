package tail

import "sealtail/record"

// What is open at the end of a file, a record that the next line may belong to
// or a line that is not finished, ends by time: it is sealed whole, or as a
// piece. How long it was waited for is not kept over a restart.

// overdue marks what was waited for long enough, and reports whether there is
// any.
func (t *Tailer) overdue(f *file) (any bool) {
	for i := range f.opens {
		o := &f.opens[i]
		wait := t.o.FlushAfter
		if !o.mid {
			wait = t.join.multi.MaxAge
		}
		o.due = t.now >= o.since+wait && !t.o.Once
		any = any || o.due
	}
	return any
}

// stillOpen returns now, each since when it is in old. A record that got another
// line is waited for anew, as is what could not be ended.
func (t *Tailer) stillOpen(old, now []opening) []opening {
	for i := range now {
		n := &now[i]
		n.since = t.now
		for _, o := range old {
			if o.begin == n.begin && o.name == n.name && o.mid == n.mid && !o.due && (n.mid || o.end == n.end) {
				n.since = o.since
			}
		}
	}
	return append(old[:0], now...)
}

// unfinished reports whether anything of the file is open, or could not be read
// yet.
func (f *file) unfinished() bool {
	for _, s := range f.pos.Sources {
		if s.PartID != 0 {
			return true
		}
	}
	return f.unread() > 0
}

// tags returns what the file's path tells of its container.
func (t *Tailer) tags(f *file) []record.Tag {
	if t.join == nil || t.join.unwrap == nil {
		return nil
	}
	if f.tagged != f.pos.Path {
		f.container, f.tagged = podTags(f.pos.Path), f.pos.Path
	}
	return f.container
}
