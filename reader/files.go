package reader

// files keeps the inputs open that were used last.
type files struct {
	last []openFile // most recent first
}

type openFile struct {
	source int
	f      File
}

// maxOpen bounds them. Chain order goes through one file after the other, and
// back and forth between few where copies overlap.
const maxOpen = 8

func (fs *files) open(source int, open func() (File, error)) (File, error) {
	for i, o := range fs.last {
		if o.source == source {
			copy(fs.last[1:], fs.last[:i])
			fs.last[0] = o
			return o.f, nil
		}
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	if n := len(fs.last); n == maxOpen {
		fs.last[n-1].f.Close() // it was only read
		fs.last = fs.last[:n-1]
	}
	fs.last = append([]openFile{{source, f}}, fs.last...)
	return f, nil
}

func (fs *files) close() {
	for _, o := range fs.last {
		o.f.Close()
	}
	fs.last = nil
}
