package main

import (
	"strconv"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// priorities begins each entry with its level as the journal knows it, <4> for
// a warning: sd-daemon(3). The journal takes that off.
type priorities struct{ zapcore.Encoder }

var _ zapcore.Encoder = priorities{}

func (p priorities) Clone() zapcore.Encoder { return priorities{p.Encoder.Clone()} }

func (p priorities) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	text, err := p.Encoder.EncodeEntry(e, fields)
	if err != nil {
		return nil, err
	}
	defer text.Free()
	priority := 6
	switch {
	case e.Level >= zapcore.ErrorLevel:
		priority = 3
	case e.Level == zapcore.WarnLevel:
		priority = 4
	}
	b := prefixed.Get()
	b.AppendString("<" + strconv.Itoa(priority) + ">")
	b.Write(text.Bytes())
	return b, nil
}

var prefixed = buffer.NewPool()
