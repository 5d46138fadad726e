package sls

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// errGroup reports bytes that are no LogGroupList.
var errGroup = errors.New("malformed LogGroupList")

// A group is one LogGroup. Its slices alias what was decoded.
type group struct {
	topic, source []byte
	logs          [][]byte
}

// eachGroup calls f for each LogGroup of a LogGroupList.
func eachGroup(b []byte, f func(group) error) error {
	return eachField(b, func(tag uint64, v []byte, _ uint64) error {
		if tag != 1<<3|2 {
			return nil
		}
		var g group
		err := eachField(v, func(tag uint64, v []byte, _ uint64) error {
			switch tag {
			case tagLogs:
				g.logs = append(g.logs, v)
			case tagTopic:
				g.topic = v
			case tagSource:
				g.source = v
			}
			return nil
		})
		if err != nil {
			return err
		}
		return f(g)
	})
}

// Contents of a Log, as bits.
const (
	hasVersion uint16 = 1
	hasStream  uint16 = 2
	hasEpoch   uint16 = 4
	hasSeq     uint16 = 8
	hasDEK     uint16 = 16
	hasFirst   uint16 = 32
	hasLast    uint16 = 64
	hasSealed  uint16 = 128
	hasWhy     uint16 = 256
	hasAll            = hasVersion | hasStream | hasEpoch | hasSeq | hasDEK | hasFirst | hasLast | hasSealed
)

// decodeLog reads a Log into it; the sealed bytes are appended to buf[:0]. An
// error that is no errGroup is about the contents, and what could be read of
// them is there.
func decodeLog(b, buf []byte, it *Item) error {
	var has uint16
	var faults []error
	fault := func(key, what string) { faults = append(faults, fmt.Errorf("%s %s", key, what)) }
	err := eachField(b, func(tag uint64, v []byte, n uint64) error {
		if tag == tagTime {
			it.Time = int64(n)
		}
		if tag != tagContent {
			return nil
		}
		var key, value []byte
		err := eachField(v, func(tag uint64, v []byte, _ uint64) error {
			switch tag {
			case tagKey:
				key = v
			case tagValue:
				value = v
			}
			return nil
		})
		if err != nil {
			return err
		}
		bit, ok := it.content(string(key), value, buf)
		if has&bit != 0 {
			fault(string(key), "is there twice")
		}
		if !ok {
			fault(string(key), "is malformed")
		}
		has |= bit
		return nil
	})
	if err != nil {
		return err
	}
	if has&hasVersion == 0 {
		return errors.New("no log of sealtail: _v is not there")
	}
	if has&hasAll != hasAll {
		faults = append(faults, errors.New("a field is missing"))
	}
	if it.Stub != (has&hasWhy != 0) {
		faults = append(faults, errors.New("_why is of stubs"))
	}
	return errors.Join(faults...)
}

// content reads one content of a Log; bit is 0 for those of others.
func (it *Item) content(key string, value, buf []byte) (bit uint16, ok bool) {
	switch key {
	case "_v":
		it.Stub = string(value) == versionStub
		return hasVersion, it.Stub || string(value) == versionEnvelope
	case "_sid":
		return hasStream, unhex(it.Fields.StreamID[:], value)
	case "_ep":
		return hasEpoch, number(&it.Fields.Epoch, value)
	case "_seq":
		return hasSeq, number(&it.Fields.Seq, value)
	case "_dek":
		return hasDEK, unhex(it.Fields.DEKID[:], value)
	case "_t0":
		return hasFirst, signed(&it.Fields.First, value)
	case "_t1":
		return hasLast, signed(&it.Fields.Last, value)
	case "_why":
		it.Why = clean(string(value), maxWhy)
		return hasWhy, true
	case keyEnvelope:
		var err error
		it.Sealed, err = base64.StdEncoding.Strict().AppendDecode(buf[:0], value)
		return hasSealed, err == nil && len(it.Sealed) > 0
	}
	return 0, true
}

func unhex(dst, src []byte) bool {
	if len(src) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

func number(dst *uint64, src []byte) bool {
	n, err := strconv.ParseUint(string(src), 10, 64)
	*dst = n
	return err == nil
}

func signed(dst *int64, src []byte) bool {
	n, err := strconv.ParseInt(string(src), 10, 64)
	*dst = n
	return err == nil
}

// eachField calls f with the tag (field number and wire type) and the value of
// each protobuf field: bytes of a length-delimited one, else a number.
func eachField(b []byte, f func(tag uint64, v []byte, n uint64) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 {
			return errGroup
		}
		b = b[n:]
		var v []byte
		var num uint64
		switch tag & 7 {
		case 0:
			num, n = binary.Uvarint(b)
		case 1:
			n = 8
		case 2:
			var size uint64
			size, n = binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errGroup
			}
			v = b[n : n+int(size)]
			n += int(size)
		case 5:
			n = 4
		default:
			return errGroup
		}
		if n <= 0 || n > len(b) {
			return errGroup
		}
		b = b[n:]
		if err := f(tag, v, num); err != nil {
			return err
		}
	}
	return nil
}
